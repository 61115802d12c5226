"""Every error this package raises on purpose; foreign ones are translated once, at the seam.

FleetError
├── ConfigError             the configuration cannot be used; says which key, what was expected, what came
├── StreamError             a camera cannot be added to a running fleet, or is not in it
│   ├── StreamExists        its id is in use
│   ├── TooManyStreams      there are system.max_streams already
│   ├── NoRoom              the GPU has no time left for it (system.admission)
│   └── UnknownStream       there is none of this id
├── NotSaved                a change of the cameras is in effect, but a restart will not know of it
├── FleetStopped            the fleet runs no more, or not yet
├── NodeLost                the fleet on a node of a cluster is gone
│   └── NodeSilent          or it does not answer
├── SourceError             a camera cannot be opened, read or decoded
│   └── SourceUnusable      and trying again cannot help
├── InferenceError          one request failed; the run goes on
│   ├── ServerUnavailable   nobody answers at the server's address
│   │   └── NoSharedMemory  there is no room for the frames in /dev/shm
│   ├── RequestTimeout      no answer within the request's time; its slot stays quarantined
│   ├── RequestRejected     the server's queue policy refused the request
│   ├── AccessRefused       the server asks for a key that was not given, or is another one
│   └── ModelError          the server answered with an error, or with something that is not the contract
└── SinkError               a result cannot be written
"""


class FleetError(Exception):
    """Base of all errors of this project that a user can act on; its text is one line."""


class ConfigError(FleetError):
    """The configuration cannot be used."""


class StreamError(FleetError):
    """A camera cannot be added to a running fleet, or is not in it."""


class StreamExists(StreamError):
    """A camera of this id is in the fleet."""


class TooManyStreams(StreamError):
    """The fleet has `system.max_streams` cameras."""


class NoRoom(StreamError):
    """The GPU has no time left for one more camera."""


class UnknownStream(StreamError):
    """No camera of this id is in the fleet."""


class NotSaved(FleetError):
    """A change of the cameras is in effect, but could not be written to the state file."""


class FleetStopped(FleetError):
    """The fleet does not run any more, or not yet."""


class NodeLost(FleetError):
    """The fleet on a node of a cluster is gone."""


class NodeSilent(NodeLost):
    """The fleet on a node of a cluster does not answer."""


class SourceError(FleetError):
    """A camera cannot be opened, read or decoded."""


class SourceUnusable(SourceError):
    """A camera can never be read, however often it is tried."""


class InferenceError(FleetError):
    """One inference request failed."""


class ServerUnavailable(InferenceError):
    """Nobody answers at the server's address."""


class NoSharedMemory(ServerUnavailable):
    """There is no room in /dev/shm for the frames that travel by it."""


class RequestTimeout(InferenceError):
    """No answer came within the request's time."""


class RequestRejected(InferenceError):
    """The server's queue policy refused the request."""


class AccessRefused(InferenceError):
    """The server restricts what was asked to those who have its key."""


class ModelError(InferenceError):
    """The server answered with an error, or with something that breaks the contract."""


class SinkError(FleetError):
    """A result cannot be written."""
