"""Serves video files as RTSP cameras, each one looped, at its own pace: GStreamer's server under the system's Python.

    /usr/bin/python3 demo/rtsp_server.py --port 8554 gate=demo/clips/cam01.mp4 yard=demo/clips/cam02.mp4
    → rtsp://127.0.0.1:8554/gate and /yard

`--folder demo/clips --cameras 50` serves cam01 to cam50 from the clips of a folder, in turns. H.264 is passed through,
never encoded again. Several files joined by commas are played one after another as one stream, whatever their sizes.
The one line on stdout, `ready PORT`, says that clients may come. It ends on SIGTERM, SIGINT, or when its standard input
is closed. It imports nothing of this project and runs outside its environments; on Debian it needs
gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-plugins-base -good -bad -ugly.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import Any, NamedTuple

try:
    import gi

    gi.require_version("Gst", "1.0")
    gi.require_version("GstRtsp", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import GLib, Gst, GstRtsp, GstRtspServer
except (ImportError, ValueError) as error:
    sys.exit(
        f"GStreamer's RTSP server cannot be loaded ({error}); on Debian: apt-get install gir1.2-gst-rtsp-server-1.0 "
        "python3-gi gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad "
        "gstreamer1.0-plugins-ugly"
    )

_LAUNCH = "( appsrc name=source format=time caps=video/x-h264,stream-format=byte-stream,alignment=au \
! h264parse ! rtph264pay name=pay0 pt=96 config-interval=-1 )"
_READ = 'filesrc location="{path}" ! parsebin ! h264parse config-interval=-1 \
! video/x-h264,stream-format=byte-stream,alignment=au ! appsink name=sink sync=false'
_ROLE = "viewer"


class Unit(NamedTuple):
    """One access unit: encoded bytes, presentation and decoding time from the clip's start, and length, in ns."""

    data: bytes
    pts_ns: int
    dts_ns: int
    duration_ns: int


class Clip:
    """The access units of one or more files, one after another, ready to be sent again and again."""

    def __init__(self, paths: list[str]) -> None:
        self.units: list[Unit] = []
        self.length_ns = 0
        for path in paths:
            self._append(path)

    def _append(self, path: str) -> None:
        """Read a whole file. Exits with one clear line when it has no H.264."""
        pipeline = Gst.parse_launch(_READ.format(path=path.replace('"', '\\"')))
        sink, before = pipeline.get_by_name("sink"), len(self.units)
        pipeline.set_state(Gst.State.PLAYING)
        start_ns, end_ns = self.length_ns, self.length_ns
        zero_ns = None
        while True:
            sample = sink.emit("try-pull-sample", 10 * Gst.SECOND)
            if sample is None:
                break
            buffer = sample.get_buffer()
            duration_ns = buffer.duration if buffer.duration != Gst.CLOCK_TIME_NONE else Gst.SECOND // 25
            dts_ns = buffer.dts if buffer.dts != Gst.CLOCK_TIME_NONE else buffer.pts
            zero_ns = dts_ns if zero_ns is None else zero_ns
            unit = Unit(
                bytes(buffer.extract_dup(0, buffer.get_size())),
                start_ns + buffer.pts - zero_ns,
                start_ns + dts_ns - zero_ns,
                duration_ns,
            )
            self.units.append(unit)
            end_ns = max(end_ns, unit.dts_ns + duration_ns)
        pipeline.set_state(Gst.State.NULL)
        if len(self.units) == before:
            sys.exit(f"{path}: no H.264 in it that GStreamer can read")
        self.length_ns = end_ns


class Player:
    """Feeds one client's (or all clients', for a shared mount) stream from a clip, for ever."""

    def __init__(self, clip: Clip) -> None:
        self._clip = clip
        self._next = 0

    def configure(self, _factory: Any, media: Any) -> None:
        """A media is made: its source asks this player for data, from the first unit on."""
        player = Player(self._clip)
        source = media.get_element().get_by_name_recurse_up("source")
        source.connect("need-data", player.feed)

    def feed(self, source: Any, _length: int) -> None:
        """Push the next access unit; the server's sink keeps the pace."""
        loops, index = divmod(self._next, len(self._clip.units))
        unit, offset_ns = self._clip.units[index], loops * self._clip.length_ns
        buffer = Gst.Buffer.new_wrapped(unit.data)
        buffer.pts, buffer.dts = unit.pts_ns + offset_ns, unit.dts_ns + offset_ns
        buffer.duration = unit.duration_ns
        self._next += 1
        source.emit("push-buffer", buffer)


def make_server(mounts: dict[str, Clip], where: tuple[str, int], login: str | None, *, udp_only: bool) -> Any:
    """A server with one shared mount per clip; `login` USER:PASSWORD makes all of them ask for it."""
    address, port = where
    server = GstRtspServer.RTSPServer(address=address, service=str(port))
    for name, clip in mounts.items():
        factory = GstRtspServer.RTSPMediaFactory(launch=_LAUNCH, shared=True)
        factory.connect("media-configure", Player(clip).configure)
        if udp_only:
            factory.set_protocols(GstRtsp.RTSPLowerTrans.UDP)
        if login is not None:
            permissions = GstRtspServer.RTSPPermissions()
            for right in ("media.factory.access", "media.factory.construct"):
                permissions.add_permission_for_role(_ROLE, right, True)
            factory.set_permissions(permissions)
        server.get_mount_points().add_factory(f"/{name}", factory)
    if login is not None:
        user, _, password = login.partition(":")
        auth = GstRtspServer.RTSPAuth()
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        token = GstRtspServer.RTSPToken()
        token.set_string("media.factory.role", _ROLE)
        auth.add_digest(user, password, token)
        server.set_auth(auth)
    return server


def _folder(folder: str, cameras: int) -> dict[str, Clip]:
    """`cameras` names, the clips of the folder dealt out to them; each clip is read once."""
    clips = [Clip([str(path)]) for path in sorted(Path(folder).glob("*.mp4"))]
    if not clips:
        sys.exit(f"{folder}: no clips (*.mp4) in it")
    return {f"cam{number + 1:02}": clips[number % len(clips)] for number in range(cameras)}


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8554, help="0 takes a free one")
    parser.add_argument("--login", metavar="USER:PASSWORD", help="ask every client for it (digest)")
    parser.add_argument("--udp-only", action="store_true", help="refuse pictures over TCP")
    parser.add_argument("--address", default="127.0.0.1", help="to listen on; 0.0.0.0 is all (default %(default)s)")
    parser.add_argument("--folder", metavar="DIR", help="serve the clips of this folder as cam01, cam02 ...")
    parser.add_argument("--cameras", type=int, default=50, metavar="N", help="of --folder (default %(default)s)")
    parser.add_argument("mounts", nargs="*", metavar="NAME=FILE[,FILE…]")
    options = parser.parse_args()
    Gst.init(None)
    mounts = {} if options.folder is None else _folder(options.folder, options.cameras)
    for mount in options.mounts:
        name, equals, files = mount.partition("=")
        if not (name and equals and files):
            parser.error(f"expected NAME=FILE, got {mount!r}")
        mounts[name] = Clip(files.split(","))
    if not mounts:
        parser.error("nothing to serve: expected NAME=FILE or --folder DIR")
    server = make_server(mounts, (options.address, options.port), options.login, udp_only=options.udp_only)
    if not server.attach(None):
        sys.exit(f"port {options.port} cannot be listened on")
    loop = GLib.MainLoop()
    for number in (signal.SIGTERM, signal.SIGINT):
        GLib.unix_signal_add(GLib.PRIORITY_HIGH, number, loop.quit)
    GLib.io_add_watch(sys.stdin.fileno(), GLib.IOCondition.HUP, lambda *_: loop.quit())
    print(f"ready {server.get_bound_port()}", flush=True)
    loop.run()
    os._exit(0)  # no media is worth waiting for


if __name__ == "__main__":
    main()
