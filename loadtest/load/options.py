"""Our options of Locust: on the command line, in its configuration file and in the form of its web interface."""

from __future__ import annotations

from typing import Any

from loadtest.load.wanted import PATHS, SHAPES

_EMBEDDED = " (of the emulated card that is started without --host)"


def add_options(parser: Any) -> None:
    """Add them. Times are the card's: on a card that is slowed down X times, a second of it takes X."""
    _load(parser.add_argument)
    _objective(parser.add_argument)
    _card(parser.add_argument)


def _load(add: Any) -> None:
    add("--path", choices=PATHS, default="ensemble", help="NV12 canvases, or JPEG that the server decodes")
    add("--tier-mix", default="n:1", metavar="T:S,..", help="shares of the cameras, such as n:0.8,m:0.15,x:0.05")
    add(
        "--load",
        type=float,
        default=0.6,
        metavar="X",
        help="share of the card's planned capacity that all -u cameras ask",
    )
    add("--fps", type=float, default=0.0, metavar="F", help="frames a second of a camera instead; 0: by --load")
    add("--deadline-ms", type=float, default=200.0, metavar="MS", help="an answer later than this is no good")
    add(
        "--burst-s",
        type=float,
        default=0.0,
        metavar="S",
        help="all cameras' key frames come together so often; 0: never",
    )
    add("--stale", type=float, default=0.0, metavar="X", help="share of frames that arrive too old to be sent")
    add("--shape", choices=SHAPES, default="constant", help="how many cameras there are when; ramp: until it breaks")
    add("--step-s", type=float, default=10.0, metavar="S", help="seconds between two steps of --shape ramp")


def _objective(add: Any) -> None:
    add("--slo-age-p95-ms", type=float, default=150.0, metavar="MS", help="p95 of the answers' age that must hold")
    add("--slo-goodput", type=float, default=0.95, metavar="X", help="share of frames answered in time that must hold")
    add("--metrics-url", default="", metavar="URL,..", help="Triton's metrics, and the card's; port 8002 of --host")
    add("--report", default="out/loadtest/report.html", metavar="FILE", help="HTML with plots; empty: none")


def _card(add: Any) -> None:
    add("--gpu", default="", metavar="NAME", help="data sheet to plan with; without --host the card, t4")
    add("--variant", default="central", metavar="V", help="of the data sheet")
    add("--time-scale", type=float, default=10.0, metavar="X", help="so many times slower, and it says so" + _EMBEDDED)
    add("--slower", type=float, default=1.0, metavar="X", help="so many times slower, and it says nothing" + _EMBEDDED)
    add("--sag", choices=("none", "thermal"), default="none", help="whether the clock falls" + _EMBEDDED)
