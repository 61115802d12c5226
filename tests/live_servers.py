"""Cameras to connect to, good and bad, on the loopback: RTSP by GStreamer, MJPEG, HLS, MPEG-TS over UDP, bare TCP.

They fake at the wire: what connects to them is the product's own source. A pause in a server paces what it sends;
no test waits for one.
"""

from __future__ import annotations

import itertools
import random
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import cv2
import trustme
from conftest import ROOT, moving_square, write_clip

SYSTEM_PYTHON = "/usr/bin/python3"
FRAME_S = 0.04
Behaviour = Callable[[socket.socket, threading.Event], None]


@contextmanager
def rtsp_server(*mounts: str, port: int = 0, login: str | None = None) -> Iterator[int]:
    """GStreamer's RTSP server, NAME=FILE[,FILE] each; yields its port. A clear failure where it is not installed."""
    command = [SYSTEM_PYTHON, str(ROOT / "demo" / "rtsp_server.py"), "--port", str(port), *mounts]
    if login is not None:
        command += ["--login", login]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:  # type: ignore[call-overload]
        try:
            line = process.stdout.readline()
            if not line.startswith("ready "):
                raise AssertionError(f"the RTSP server that the tests need did not start: {process.stderr.read()}")
            yield int(line.split()[1])
        finally:
            process.kill()


@contextmanager
def tcp_server(behave: Behaviour) -> Iterator[int]:
    """A server that does `behave(connection, stop)` with everyone who connects, in a thread each; yields its port."""
    stop, threads = threading.Event(), []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            behave(connection, stop)

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threads.append(threading.Thread(target=serve, args=(connection,)))
                threads[-1].start()

    threads.append(threading.Thread(target=accept))
    threads[0].start()
    try:
        yield listener.getsockname()[1]
    finally:
        stop.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for thread in threads:
            thread.join()


@contextmanager
def tls_server(certificate: trustme.LeafCert, port: int) -> Iterator[int]:
    """TLS in front of a plain server on the loopback, any protocol; yields its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)

    def behave(connection: socket.socket, stop: threading.Event) -> None:
        with (
            suppress(ssl.SSLError),
            context.wrap_socket(connection, server_side=True) as outside,
            socket.create_connection(("127.0.0.1", port)) as inside,
        ):
            ways = [threading.Thread(target=pump, args=way) for way in ((outside, inside), (inside, outside))]
            for way in ways:
                way.start()
            stop.wait()
            for one in (outside, inside):
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
            for way in ways:
                way.join()

    def pump(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    with tcp_server(behave) as own_port:
        yield own_port


def hangs(connection: socket.socket, stop: threading.Event) -> None:
    """Completes the handshake, reads nothing and says nothing."""
    stop.wait()


def drips(connection: socket.socket, stop: threading.Event) -> None:
    """An answer at one byte a second, for ever."""
    connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: video/mp2t\r\nX-Long: ")
    while not stop.wait(1):
        connection.sendall(b"a")


def drips_on(connection: socket.socket, stop: threading.Event) -> None:
    """In the middle of a stream: a picture at one byte a second."""
    connection.sendall(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: 100000\r\n\r\n")
    while not stop.wait(1):
        connection.sendall(b"a")


def garbage(connection: socket.socket, stop: threading.Event) -> None:
    """Bytes that are no protocol and no video."""
    while not stop.wait(0.01):
        connection.sendall(bytes(range(256)) * 16)


def closes(connection: socket.socket, stop: threading.Event) -> None:
    """Hangs up at once."""


def jpegs(count: int = 25) -> list[bytes]:
    """Pictures of the moving square."""
    return [cv2.imencode(".jpg", picture)[1].tobytes() for picture in moving_square(count)]


def mjpeg(parts: Sequence[bytes], *, then: Behaviour | None = None) -> Behaviour:
    """A camera that sends `parts` as multipart JPEG again and again, or once, and `then` does something else."""

    def behave(connection: socket.socket, stop: threading.Event) -> None:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n")
        send_jpegs(connection, stop, parts)
        if then is not None:
            then(connection, stop)
            return
        while not stop.is_set():
            send_jpegs(connection, stop, parts)

    return behave


def floods(parts: Sequence[bytes]) -> Behaviour:
    """A camera that sends `parts` as multipart JPEG as fast as they are taken."""
    part_of = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b\r\n"
    round_of_them = b"".join(part_of % (len(part), part) for part in parts)

    def behave(connection: socket.socket, stop: threading.Event) -> None:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n")
        connection.settimeout(0.1)
        while not stop.is_set():
            send_some(connection, stop, round_of_them)

    return behave


def send_some(connection: socket.socket, stop: threading.Event, data: bytes) -> None:
    """All of it, however slowly it is taken; to be stopped meanwhile."""
    left = memoryview(data)
    while left and not stop.is_set():
        with suppress(TimeoutError):
            left = left[connection.send(left) :]


def send_jpegs(connection: socket.socket, stop: threading.Event, parts: Sequence[bytes]) -> None:
    """Each picture once, 25 a second, after the head of the answer."""
    for part in parts:
        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(part)}\r\n\r\n"
        connection.sendall(head.encode() + part + b"\r\n")
        if stop.wait(FRAME_S):
            return


@contextmanager
def hls_server(folder: Path, seconds: int = 60) -> Iterator[int]:
    """A live playlist of segments of one second, three at a time, at http://127.0.0.1:PORT/live.m3u8."""
    clip = folder / "long.mp4"
    write_clip(clip, moving_square(25 * seconds), options={"preset": "ultrafast", "g": "25"})
    with (
        av.open(str(clip)) as source,
        av.open(
            str(folder / "all.m3u8"),
            "w",
            format="hls",
            options={"hls_time": "1", "hls_list_size": "0", "hls_segment_filename": str(folder / "%d.ts")},
        ) as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    started_s = time.monotonic()

    def playlist() -> bytes:
        first = min(int(time.monotonic() - started_s), seconds - 3)
        lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:1", f"#EXT-X-MEDIA-SEQUENCE:{first}"]
        for number in range(first, first + 3):
            lines += ["#EXTINF:1.0,", f"{number}.ts"]
        return ("\n".join(lines) + "\n").encode()

    with http_server(lambda path: playlist() if path == "/live.m3u8" else (folder / path[1:]).read_bytes()) as port:
        yield port


@contextmanager
def http_server(answer: Callable[[str], bytes]) -> Iterator[int]:
    """A server that answers a path with bytes, or with 404 where `answer` raises OSError; yields its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                body = answer(self.path)
            except OSError:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with suppress(OSError):
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class UdpWire:
    """What a muxer writes to: whole TS packets, seven a datagram; every so many are spoilt by `spoil`."""

    def __init__(self, port: int, damage_every: int, spoil: Callable[[bytes], bytes]) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._port, self._every, self._spoil = port, damage_every, spoil
        self._left, self._sent = b"", 0

    def write(self, data: bytes) -> int:
        self._left += bytes(data)
        while len(self._left) >= 1316:
            datagram, self._left = self._left[:1316], self._left[1316:]
            self._sent += 1
            if self._every and self._sent % self._every == 0:
                datagram = self._spoil(datagram)
            with suppress(OSError):
                self.socket.sendto(datagram, ("127.0.0.1", self._port))
        return len(data)


def blanked(datagram: bytes) -> bytes:
    """Most of it is zeros."""
    return datagram[:300] + bytes(900) + datagram[1200:]


def flipped(datagram: bytes) -> bytes:
    """Eight bits of it are others; which, follows from its contents."""
    chance, data = random.Random(datagram), bytearray(datagram)
    for _ in range(8):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(data)


@contextmanager
def udp_camera(
    *,
    damage_every: int = 0,
    spoil: Callable[[bytes], bytes] = blanked,
    phases: Sequence[tuple[str, float]] = (("libx264", 0.0),),
    changes: Sequence[threading.Event] = (),
) -> Iterator[int]:
    """MPEG-TS over UDP at 25 fps to the port that it yields; every so many datagrams one is spoilt.

    Of `phases`, codec and time on the camera's clock in seconds, the first is sent until the first of `changes` is set,
    and so on; the last is sent until the end.
    """
    stop = threading.Event()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def send() -> None:
        wire = UdpWire(port, damage_every, spoil)
        with wire.socket:
            for (codec, clock_s), change in zip(phases, [*changes, stop], strict=True):
                send_phase(wire, codec, clock_s, lambda change=change: change.is_set() or stop.wait(FRAME_S))

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield port
    finally:
        stop.set()
        thread.join()


def send_phase(wire: UdpWire, codec: str, clock_s: float, is_over: Callable[[], bool]) -> None:
    """Pictures of the moving square from `clock_s` on, until it is over; asking takes a picture's time."""
    pictures = moving_square(100)
    with av.open(wire, "w", format="mpegts", options={"flush_packets": "1"}) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 192, "yuv420p"
        options = {"preset": "ultrafast", "tune": "zerolatency", "crf": "10"} if codec == "libx264" else {}
        stream.codec_context.options = options | {"g": "12"}
        for index in itertools.count():
            if is_over():
                return
            frame = av.VideoFrame.from_ndarray(pictures[index % 100], format="rgb24")
            frame.pts, frame.time_base = index + round(25 * clock_s), Fraction(1, 25)
            container.mux(stream.encode(frame))
