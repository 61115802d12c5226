"""Types of command-line arguments, for argparse: a value, or one line that says what was expected and what came."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_config(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """`--config FILE`, and `--set KEY=VALUE` any number of times: `config` and `overrides`."""
    parser.add_argument("--config", type=Path, required=required, metavar="FILE", help="the configuration, YAML")
    text = "one key of it, such as triton.url=127.0.0.1:8001; goes before what the file says"
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help=text)


def seconds(text: str) -> float:
    """A positive, finite number of seconds."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a positive number of seconds, got {text!r}")
    return value
