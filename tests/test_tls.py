"""Cameras behind TLS: who is vouched for is seen, everybody else is refused with the reason, inside playlists too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme
from conftest import moving_square, write_clip
from live_fleet import running, two_clips
from live_servers import hls_server, http_server, jpegs, mjpeg, rtsp_server, tcp_server, tls_server

from clients.config import parse_settings
from clients.errors import ConfigError, SourceError
from clients.sources.address import Address
from clients.sources.file import live_timing
from clients.sources.live import LiveSource
from clients.types import LiveOptions, TlsOptions

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Who vouches, through one more in between."""
    return trustme.CA()


@pytest.fixture
def good(authority: trustme.CA) -> trustme.LeafCert:
    """The cameras' certificate, with its chain."""
    return authority.create_child_ca().issue_cert("127.0.0.1")


@pytest.fixture
def trusting(authority: trustme.CA, tmp_path: Path) -> LiveOptions:
    """Options that trust the authority alone."""
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    return LiveOptions(open_timeout_s=5, read_timeout_s=5, tls=TlsOptions(ca=path))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds of H.264."""
    return two_clips(tmp_path_factory.mktemp("clips"))[0]


@pytest.fixture
def cameras(clip: Path, tmp_path: Path) -> Iterator[Callable[[trustme.LeafCert], dict[str, str]]]:
    """RTSP, MJPEG and HLS behind TLS with the certificate that is asked for, by their names."""
    with ExitStack() as servers:
        plain = {
            "rtsps": servers.enter_context(rtsp_server(f"a={clip}")),
            "mjpeg": servers.enter_context(tcp_server(mjpeg(jpegs()))),
            "hls": servers.enter_context(hls_server(tmp_path)),
        }

        def behind(certificate: trustme.LeafCert) -> dict[str, str]:
            ports = {name: servers.enter_context(tls_server(certificate, port)) for name, port in plain.items()}
            return {
                "rtsps": f"rtsps://viewer:hunter22@127.0.0.1:{ports['rtsps']}/a",
                "mjpeg": f"https://viewer:hunter22@127.0.0.1:{ports['mjpeg']}/video.mjpg",
                "hls": f"https://viewer:hunter22@127.0.0.1:{ports['hls']}/live.m3u8",
            }

        yield behind


async def test_cameras_that_are_vouched_for_are_seen(
    cameras: Callable[..., dict[str, str]], good: trustme.LeafCert, trusting: LiveOptions, clip: Path
) -> None:
    """RTSP, MJPEG and HLS over TLS side by side with a file, through a chain of certificates: none is lost."""
    sources = cameras(good) | {"file": str(clip)}
    async with running(sources, trusting) as fleet:
        await fleet.until(lambda: all(len(results) >= 30 for results in fleet.results.values()))
        fleet.assert_undisturbed(*sources)


NOBODY, ELSEWHERE = "nobody that is known", "another host's"


@pytest.mark.parametrize("whose", [NOBODY, ELSEWHERE])
async def test_a_wrong_certificate_is_refused_and_disturbs_nobody(
    cameras: Callable[..., dict[str, str]], authority: trustme.CA, trusting: LiveOptions, clip: Path, whose: str
) -> None:
    """Not vouched for, or another host's: no picture, the reason is said without the login, it is tried for ever."""
    wrong = trustme.CA().issue_cert("127.0.0.1") if whose == NOBODY else authority.issue_cert("other.example")
    refused = cameras(wrong)
    async with running(refused | {"file": str(clip)}, trusting) as fleet:
        await fleet.until(lambda: all(fleet.entered(name, "backing_off") >= 2 for name in refused))
        await fleet.until_others_go_on("file")
        fleet.assert_undisturbed("file")
        for name in refused:
            assert fleet.results[name] == []
            assert ": its certificate is not trusted: " in fleet.problem(name)
            assert "hunter22" not in fleet.problem(name)
            assert ("127.0.0.1" in fleet.problem(name).partition("trusted")[2]) is (whose == ELSEWHERE)


async def test_who_asks_nobody_sees_any_camera(cameras: Callable[..., dict[str, str]], clip: Path) -> None:
    """`tls_verify: false`: certificates of nobody known are good enough."""
    sources = cameras(trustme.CA().issue_cert("127.0.0.1"))
    async with running(sources, LiveOptions(tls=TlsOptions(verify=False))) as fleet:
        await fleet.until(lambda: all(len(results) >= 10 for results in fleet.results.values()))


def first_picture(url: str, options: LiveOptions) -> tuple[int, int]:
    """The size of a camera's first picture."""
    source = LiveSource("cam", Address.parse(url, {}), options)
    frames = source.frames(live_timing(lambda _seconds: False))
    try:
        return next(frames).picture.size_px
    finally:
        frames.close()


@pytest.mark.parametrize("is_good", [True, False])
def test_what_a_playlist_names_is_verified_too(
    tmp_path: Path, good: trustme.LeafCert, trusting: LiveOptions, is_good: bool
) -> None:
    """A playlist from a trusted host with its segments on another host: that one must be trusted as well."""
    segment = write_clip(tmp_path / "0.ts", moving_square(50), options={"preset": "ultrafast", "g": "25"}).read_bytes()
    other = good if is_good else trustme.CA().issue_cert("127.0.0.1")
    with http_server(lambda _: segment) as plain, tls_server(other, plain) as port:
        lines = [
            "#EXTM3U",
            "#EXT-X-TARGETDURATION:2",
            "#EXTINF:2.0,",
            f"https://127.0.0.1:{port}/0.ts",
            "#EXT-X-ENDLIST",
        ]
        playlist = ("\n".join(lines) + "\n").encode()
        with http_server(lambda _: playlist) as first, tls_server(good, first) as first_port:
            url = f"https://127.0.0.1:{first_port}/live.m3u8"
            if is_good:
                assert first_picture(url, trusting) == (320, 192)
            else:
                with pytest.raises(SourceError, match="its certificate is not trusted"):
                    first_picture(url, trusting)


def test_authorities_that_cannot_be_read_are_a_clear_error(tmp_path: Path) -> None:
    """A file that is not there, and one without a certificate: the camera, the key, the file."""
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing")
    for path, reason in ((tmp_path / "nowhere.pem", "cannot be read: No such file"), (empty, "holds no certificate")):
        for where in ({"sources": {"tls_ca": str(path)}}, {}):
            camera = {"id": "gate", "source": "rtsps://cam/1"} | ({} if where else {"tls_ca": str(path)})
            settings = parse_settings(where | {"cameras": [camera]}, origin="test")
            with pytest.raises(ConfigError, match=f"^camera gate: tls_ca: {path}: {reason}"):
                settings.streams()


def test_each_camera_may_trust_others(tmp_path: Path, authority: trustme.CA) -> None:
    """`sources` holds for all; what a camera says counts."""
    own, common = tmp_path / "own.pem", tmp_path / "common.pem"
    for path in (own, common):
        authority.cert_pem.write_to_path(str(path))
    cameras = [{"id": "a", "source": "rtsps://cam/1"}, {"id": "b", "source": "rtsps://cam/1", "tls_ca": str(own)}]
    cameras.append({"id": "c", "source": "rtsps://cam/1", "tls_verify": False})
    a, b, c = parse_settings({"sources": {"tls_ca": str(common)}, "cameras": cameras}, origin="test").streams()
    assert (a.live.tls, b.live.tls) == (TlsOptions(ca=common), TlsOptions(ca=own))
    assert c.live.tls.verify is False
