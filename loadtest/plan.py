"""`python -m loadtest plan`: do these cameras fit on this card, what breaks first, and what would fit."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from clients.capacity.cost import HOURS_A_MONTH
from clients.capacity.demand import Cameras, Demand, Host, Source, parse_amount, parse_source, parse_tiers
from clients.capacity.of_settings import demand_of
from clients.capacity.plan import Plan, plan
from clients.check import look_at
from clients.config import Settings, load_settings
from clients.data_sheet import CENTRAL, known_sheets, sheet
from clients.errors import ConfigError, FleetError
from clients.sources.address import address_of
from clients.sources.placement import cpu_only
from clients.sources.stream import StreamFacts

_USUAL_SOURCE = "1920x1080@25/h264"
_MBIT = 1e6


def add_plan(commands: Any) -> None:
    """The command and its options."""
    text = "whether cameras fit on a card: decoders, memory, bus, kernels, processor, network; what would fit instead"
    parser = commands.add_parser("plan", help=text, description=text)
    known = ", ".join(known_sheets())
    parser.add_argument("--gpu", default="t4", metavar="NAME", help=f"{known}, or a data sheet's file (default t4)")
    text = "of the sheet: pessimistic, central or optimistic (default %(default)s)"
    parser.add_argument("--variant", default=CENTRAL, metavar="NAME", help=text)
    parser.add_argument("--cameras", type=int, default=50, metavar="N", help="default %(default)s")
    text = "WIDTHxHEIGHT@FPS/CODEC, what a camera sends (default %(default)s)"
    parser.add_argument("--source", default=_USUAL_SOURCE, metavar="WHAT", help=text)
    text = "of one camera in bit/s, such as 4M; without it a usual one for its pixels"
    parser.add_argument("--bitrate", metavar="RATE", help=text)
    text = "inferences per second of a camera (default %(default)s)"
    parser.add_argument("--rate", type=float, default=5.0, metavar="FPS", help=text)
    text = "shares of the inferences, such as n:0.8,m:0.15,x:0.05 (default %(default)s)"
    parser.add_argument("--tiers", default="n", metavar="SHARES", help=text)
    text = "where the cameras are decoded (default %(default)s: all on the card)"
    parser.add_argument("--decode", choices=("cuda", "auto", "cpu"), default="cuda", help=text)
    text = "plan a configuration's own cameras; files are looked at, others send what --source says"
    parser.add_argument("--from-config", type=Path, metavar="FILE", help=text)
    parser.add_argument("--ask", action="store_true", help="ask the live cameras of the configuration what they send")
    parser.add_argument("--cards", type=int, default=1, metavar="N", help="in one machine (default %(default)s)")
    parser.add_argument("--cores", type=float, default=4.0, metavar="N", help="of the machine (default %(default)s)")
    parser.add_argument("--network", default="1G", metavar="RATE", help="of the machine, bit/s (default %(default)s)")
    text = "of one card with its part of the machine, in any currency"
    parser.add_argument("--price-per-hour", type=float, metavar="PRICE", help=text)
    parser.add_argument("--plot", type=Path, metavar="FILE", help="the limits as a picture, PNG or SVG")
    parser.set_defaults(command=planned, failure=2)


def planned(options: argparse.Namespace) -> dict[str, Any]:
    """Run it; the table goes to stderr. Raises FleetError and ValueError, one line each."""
    bitrate = None if options.bitrate is None else parse_amount(options.bitrate)
    usual = parse_source(options.source, bitrate)
    card = sheet(options.gpu, options.variant)
    demand, assumed = _demand(options, usual)
    host = Host(options.cores, parse_amount(options.network) / _MBIT)
    found = plan(demand, card, host, cards=options.cards, price_per_hour=options.price_per_hour)
    show(found, demand)
    if options.plot is not None:
        draw(found, options.plot)
    return {**found.as_json(), "variant": options.variant, "assumed": assumed}


def _demand(options: argparse.Namespace, usual: Source) -> tuple[Demand, list[str]]:
    """What is asked for, and what of it is assumed."""
    if options.from_config is None:
        one = Cameras(options.cameras, usual, options.rate, parse_tiers(options.tiers), options.decode)
        return Demand((one,)), [] if options.bitrate else [f"a camera sends {usual}"]
    settings = load_settings(options.from_config)
    facts = seen(settings, ask=options.ask)
    unseen = [spec.stream_id for spec in settings.streams() if spec.stream_id not in facts]
    assumed = [f"{', '.join(unseen)}: each sends {usual}"] if unseen else []
    return demand_of(settings, usual, facts), assumed


def seen(settings: Settings, *, ask: bool) -> dict[str, StreamFacts]:
    """What the files of a configuration hold, and with `ask` what its live cameras send, by camera."""
    streams = [spec for spec in settings.streams() if ask or not address_of(spec).is_live]
    looked = look_at(streams, cpu_only(), settings.canvas)
    for spec in streams:
        if (one := looked[spec.stream_id]).facts is None:
            raise ConfigError(f"camera {spec.stream_id}: {one.problem}")
    return {name: one.facts for name, one in looked.items() if one.facts is not None}


def show(found: Plan, demand: Demand) -> None:
    """The tables, on stderr: stdout is for JSON."""
    console = Console(stderr=True, width=None if sys.stderr.isatty() else int(os.environ.get("COLUMNS", "160")))
    verdict = "fits" if found.fits else f"does not fit: {found.breaks_first} breaks first"
    cards = f"{found.cards} x {found.gpu}" if found.cards > 1 else found.gpu
    table = Table(title=f"{found.cameras} cameras on {cards}: {verdict} (projected; the sheet is {found.kind})")
    for name in ("limit", "share", "may be planned", "what takes it", "figures from", "headroom"):
        table.add_column(name, justify="right" if name in ("share", "may be planned") else "left", overflow="fold")
    for limit in found.limits:
        style = "red" if limit.load > 1 else None
        shares = (f"{limit.share:.0%}", f"{limit.allowed:.0%}")
        table.add_row(limit.name, *shares, limit.use, limit.source, limit.rule, style=style)
    console.print(table)
    for group in demand.groups:
        tiers = ", ".join(f"{tier.name.lower()} {share:.0%}" for tier, share in group.tiers.items())
        console.print(f"{group.count} x {group.source}, {group.rate_fps:g} inferences/s of {tiers}")
    if found.cost is not None:
        month = f"{found.cost.per_month:.4g} a month of {HOURS_A_MONTH} hours"
        console.print(f"a camera costs {found.cost.per_hour:.4g} an hour, {month}")
    if found.alternatives:
        console.print(_alternatives(found))
    elif not found.fits:
        console.print("nothing was found that fits by changing two things")


def _alternatives(found: Plan) -> Table:
    table = Table(title="what would fit")
    for name in ("change", *(limit.name for limit in found.limits), "per camera and hour", "and month"):
        table.add_column(name, justify="left" if name == "change" else "right", overflow="fold")
    for one in found.alternatives:
        costs = ("", "") if one.cost is None else (f"{one.cost.per_hour:.4g}", f"{one.cost.per_month:.4g}")
        table.add_row(one.change, *(f"{limit.share:.0%}" for limit in one.limits), *costs)
    return table


def draw(found: Plan, path: Path) -> None:
    """Each limit's share as a bar, what may be planned as a mark. Raises FleetError: no matplotlib, not writable."""
    if path.suffix.lower() not in (".png", ".svg"):
        raise ConfigError(f"--plot must end in .png or .svg, got {str(path)!r}")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise FleetError("the plot needs matplotlib: `make test` installs it") from error
    figure = Figure(figsize=(7.2, 3.2), dpi=120)
    axes = figure.add_subplot()
    names: Sequence[str] = [limit.name for limit in found.limits][::-1]
    shares = [100 * limit.share for limit in found.limits][::-1]
    colours = ["tab:red" if limit.load > 1 else "tab:blue" for limit in found.limits][::-1]
    bars = axes.barh(names, shares, color=colours)
    axes.bar_label(bars, labels=[f"{share:.0f} %" for share in shares], padding=3)
    for row, limit in enumerate(found.limits[::-1]):
        axes.plot([100 * limit.allowed] * 2, [row - 0.4, row + 0.4], color="black")
    axes.set_xlim(0, max(105, 1.15 * max(shares)))
    axes.set_xlabel("% of what there is; black: what may be planned")
    axes.set_title(f"{found.cameras} cameras, {found.cards} x {found.gpu} (projected)")
    figure.tight_layout()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
    except OSError as error:
        raise FleetError(f"{path}: cannot be written: {error.strerror or error}") from error
