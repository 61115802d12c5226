"""Load a Triton as cameras would: `locust -f loadtest/locustfile.py`, in the browser or with `--headless`.

One user is one camera. Without `--host` a real Triton with an emulated card is started here, and stopped again.
The last line of stdout is the verdict as JSON; the exit code is 0 only when the objective held. See docs/loadtest.md.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any, ClassVar

_HERE = Path(__file__).resolve().parent
# Locust puts this folder first, where our profile.py hides Python's; the repository's root is what we import from
sys.path[0] = str(_HERE.parent)

import gevent  # noqa: E402
import grpc.experimental.gevent as grpc_gevent  # noqa: E402

grpc_gevent.init_gevent()  # before the first channel, or no answer ever arrives

from locust import User, events  # noqa: E402
from locust.exception import StopUser  # noqa: E402

from clients.errors import FleetError  # noqa: E402
from loadtest.load.camera import Camera  # noqa: E402
from loadtest.load.options import add_options  # noqa: E402
from loadtest.load.session import Session  # noqa: E402
from loadtest.load.shapes import FleetShape  # noqa: E402
from loadtest.load.stages import length_s  # noqa: E402

sys.path.insert(0, str(_HERE))  # Locust takes it away again


class CameraUser(User):  # type: ignore[misc] # Locust is not typed for mypy here
    """One camera; its channel is closed when it stops, or Locust would never end."""

    def on_start(self) -> None:
        """Join the test that runs."""
        session: Session = self.environment.fleet
        self.camera = Camera(session, session.join()) if session.running else None

    def film(self) -> None:
        """Send frames until the user is stopped. Without a test, which could not begin, there is nothing to do."""
        if self.camera is None:
            raise StopUser
        self.camera.run()

    tasks: ClassVar = [film]

    def on_stop(self) -> None:
        """Close the channel."""
        if self.camera is not None:
            self.camera.close()


def _options(parser: Any, **_: Any) -> None:
    add_options(parser)


def _init(environment: Any, web_ui: Any, **_: Any) -> None:
    session = environment.fleet = Session(environment)
    shape = environment.fleet_shape = FleetShape(session.options, session.broken)
    shape.runner = environment.runner
    environment.events.quit.add_listener(lambda **_: session.close())
    session.connect()
    try:
        session.prepare()
    except (FleetError, KeyboardInterrupt) as error:
        sys.stderr.write(f"locust: {str(error) or 'interrupted'}\n")
        session.close()
        sys.exit(1)
    if web_ui is not None:
        _serve(web_ui, environment)
    elif session.options.shape != "constant" and not session.is_worker:
        environment.shape_class = shape
        gevent.signal_handler(signal.SIGTERM, _interrupt, environment)  # Locust's own comes after the shape only


def _serve(web_ui: Any, environment: Any) -> None:
    """The shape is chosen in the form; the report so far is at /fleet."""
    from flask import jsonify, request

    session = environment.fleet

    def choose() -> None:
        if request.method == "POST" and request.path.endswith("/swarm"):
            chosen = request.form.get("shape", session.options.shape)
            environment.shape_class = None if chosen == "constant" else environment.fleet_shape

    web_ui.app.before_request(choose)
    web_ui.app.add_url_rule(f"{session.options.web_base_path or ''}/fleet", "fleet", lambda: jsonify(session.so_far()))


def _test_start(environment: Any, **_: Any) -> None:
    environment.fleet.begin()


def _test_stop(environment: Any, **_: Any) -> None:
    session = environment.fleet
    session.stopped()
    if not (session.is_worker or session.options.headless):
        gevent.spawn(session.end)


def _interrupt(environment: Any) -> None:
    """Stop before the time: what has been seen is not what was asked for."""
    session, shape = environment.fleet, environment.fleet_shape
    options = session.options
    if options.shape == "constant":
        session.interrupted(options.run_time or 0.0)
    elif not shape.finished:
        session.interrupted(length_s(options.shape, options.run_time))
    environment.runner.quit()


def _quitting(environment: Any, **_: Any) -> None:
    session = environment.fleet
    if not session.is_worker and session.running and not session.has_stopped:
        _interrupt(environment)
    session.end()
    environment.process_exit_code = session.exit_code


events.init_command_line_parser.add_listener(_options)
events.init.add_listener(_init)
events.test_start.add_listener(_test_start)
events.test_stop.add_listener(_test_stop)
events.quitting.add_listener(_quitting)
