"""Cameras that do what cameras should not, on the loopback: what connects to them is the product's own source."""

from __future__ import annotations

import functools
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import cv2
import numpy as np

Behaviour = Callable[[socket.socket, threading.Event], None]
MJPEG_HEAD = b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n"


def hangs(_connection: socket.socket, stop: threading.Event) -> None:
    """Completes the handshake and says nothing."""
    stop.wait()


def drips(connection: socket.socket, stop: threading.Event) -> None:
    """An answer at one byte a second."""
    connection.sendall(MJPEG_HEAD[:30])
    while not stop.wait(1):
        connection.sendall(b"a")


def sends_rubbish(connection: socket.socket, stop: threading.Event) -> None:
    """Bytes that are no protocol, as fast as they are taken."""
    _pour(connection, stop, bytes(range(256)) * 256)


def flaps(connection: socket.socket, _stop: threading.Event) -> None:
    """Five pictures, and it hangs up."""
    connection.sendall(MJPEG_HEAD + b"".join(picture_parts()[:5]))


def floods(connection: socket.socket, stop: threading.Event) -> None:
    """Pictures as fast as they are taken."""
    connection.recv(4096)
    connection.sendall(MJPEG_HEAD)
    _pour(connection, stop, b"".join(picture_parts()))


BEHAVIOURS: dict[str, Behaviour] = {
    "hangs": hangs,
    "drips": drips,
    "rubbish": sends_rubbish,
    "flaps": flaps,
    "floods": floods,
}


@contextmanager
def bad_camera(behave: Behaviour) -> Iterator[str]:
    """Its URL while it is there; everyone who connects is served by a thread of its own."""
    stop, listener = threading.Event(), socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.settimeout(1)
            behave(connection, stop)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/video"
    finally:
        stop.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def _pour(connection: socket.socket, stop: threading.Event, data: bytes) -> None:
    left = memoryview(data)
    while not stop.is_set():
        with suppress(TimeoutError):
            left = left[connection.send(left) :]
        left = left or memoryview(data)


@functools.cache
def picture_parts() -> tuple[bytes, ...]:
    """Twenty-five pictures of 640x360, each as one part of multipart JPEG."""
    chance = np.random.default_rng(1)
    coarse = chance.integers(0, 255, (25, 18, 32, 3), dtype=np.uint8)
    pictures = [cv2.imencode(".jpg", cv2.resize(one, (640, 360)))[1].tobytes() for one in coarse]
    part = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b\r\n"
    return tuple(part % (len(one), one) for one in pictures)
