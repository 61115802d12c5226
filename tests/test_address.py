"""Where a camera is: every kind of source is known by its text, and no secret of it is ever shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.config import parse_settings
from clients.errors import ConfigError
from clients.sources.address import Address, Kind
from clients.types import StreamSpec

PASSWORD = "p@ss/w:rd?#1"
ENVIRONMENT = {"CAM_USER": "viewer", "CAM_PASSWORD": PASSWORD, "CAM_URL": "rtsp://u:hunter22@cam/x", "FOLDER": "videos"}

KINDS = {
    "videos/gate.mp4": Kind.FILE,
    "recordings/*.mp4": Kind.FILE,
    "${FOLDER}/gate.mp4": Kind.FILE,
    "/dev/video0": Kind.USB,
    "/dev/video0.mp4": Kind.FILE,
    "rtsp://cam/1": Kind.RTSP,
    "RTSPS://cam/1": Kind.RTSP,
    "http://cam/video.mjpg": Kind.HTTP,
    "https://cam/index.m3u8": Kind.HTTP,
    "udp://@239.0.0.1:1234": Kind.UDP,
    "${CAM_URL}": Kind.RTSP,
}


@pytest.mark.parametrize("text", KINDS)
def test_a_text_names_its_kind(text: str) -> None:
    """Files are played once and fail at once; every other kind is live."""
    address = Address.parse(text, ENVIRONMENT)
    assert address.kind is KINDS[text]
    assert address.is_live is (KINDS[text] is not Kind.FILE)


SHOWN = {
    "rtsp://viewer:hunter22@cam:554/stream1": "rtsp://***@cam:554/stream1",
    "rtsp://${CAM_USER}:${CAM_PASSWORD}@cam/1": "rtsp://***@cam/1",
    "rtsp://a@b:hunter22@cam/1": "rtsp://***@cam/1",
    "http://cam/v.mjpg?user=viewer&password=hunter22": "http://cam/v.mjpg?***",
    "http://cam/${CAM_PASSWORD}/v.mjpg": "http://cam/${CAM_PASSWORD}/v.mjpg",
    "${CAM_URL}": "${CAM_URL}",
    "rtsp://cam/1": "rtsp://cam/1",
    "udp://@239.0.0.1:1234": "udp://@239.0.0.1:1234",
}


@pytest.mark.parametrize("text", SHOWN)
def test_what_is_shown_holds_no_secret(text: str) -> None:
    """Login and query are hidden, references stay references; neither repr nor str says more."""
    address = Address.parse(text, ENVIRONMENT)
    assert str(address) == address.shown == SHOWN[text]
    for said in (str(address), repr(address), address.masked(f"Connection refused: '{address.target}'")):
        assert "hunter22" not in said
        assert PASSWORD not in said
        assert "p%40ss" not in said


def test_a_reference_in_the_login_is_encoded() -> None:
    """A password of whatever signs stays a password, and the host stays the host."""
    address = Address.parse("rtsp://${CAM_USER}:${CAM_PASSWORD}@cam:554/1", ENVIRONMENT)
    assert address.target == "rtsp://viewer:p%40ss%2Fw%3Ard%3F%231@cam:554/1"
    assert Address.parse("udp://@239.0.0.1:1234", {}).target == "udp://@239.0.0.1:1234"


@given(st.text(st.characters(codec="ascii", categories=("L", "N", "P", "S")), min_size=8, max_size=20))
def test_no_message_holds_a_password(password: str) -> None:
    """However a library quotes the URL or a part of it, the masked message is free of the password."""
    address = Address.parse("rtsp://viewer:${P}@cam/1", {"P": password})
    message = f"[Errno 5] I/O error: '{address.target}' (login viewer:{password})"
    assert password not in address.masked(message)


WRONG = {
    "ftp://cam/x": r"one of rtsp, rtsps, http, https, udp://, got ftp://",
    "rtsp://": r"needs a host after rtsp://",
    "rtsp://u:${NOT_SET_HERE}@cam": r"the environment variable NOT_SET_HERE is not set",
    " ": r"got nothing",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_cannot_be_a_source_is_one_line(text: str) -> None:
    """The configuration is refused with the camera's name and the reason, without the text itself."""
    settings = parse_settings({"cameras": [{"id": "gate-3", "source": text}]}, origin="test")
    with pytest.raises(ConfigError, match=WRONG[text]) as caught:
        settings.streams()
    assert str(caught.value).startswith("camera gate-3: source: ")
    assert "\n" not in str(caught.value)


def test_the_configuration_never_prints_a_source() -> None:
    """Neither the settings nor a stream nor a complaint about a source of the wrong type repeats it."""
    settings = parse_settings({"cameras": [{"id": "a", "source": "rtsp://u:hunter22@cam/1"}]}, origin="test")
    (stream,) = settings.streams()
    assert isinstance(stream, StreamSpec)
    assert "hunter22" not in repr(settings) + repr(stream)
    with pytest.raises(ConfigError, match=r"cameras\[0\]\.source") as caught:
        parse_settings({"cameras": [{"id": "a", "source": ["rtsp://u:hunter22@cam/1"]}]}, origin="test")
    assert "hunter22" not in f"{caught.value} {caught.value.__cause__}"


def test_a_pattern_names_files_in_order(tmp_path: Path) -> None:
    """By name; a folder is no file, and a file whose name looks like a pattern is a file."""
    for name in ("b.mp4", "a.mp4", "c.mkv", "d[1].mp4"):
        (tmp_path / name).touch()
    (tmp_path / "folder.mp4").mkdir()

    def names(text: str) -> list[str]:
        return [path.name for path in Address.parse(f"{tmp_path}/{text}", {}).files()]

    assert names("[ab].mp4") == ["a.mp4", "b.mp4"]
    assert names("*.mp4") == ["a.mp4", "b.mp4", "d[1].mp4"]
    assert names("d[1].mp4") == ["d[1].mp4"]
    assert names("none.mp4") == ["none.mp4"]
    assert names("none*.mp4") == []
