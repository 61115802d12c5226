"""The zones and lines of one camera, as values. Points are (x, y), 0..1 of the picture's width and height."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from clients.zones.geometry import Point, crossing_of

MOST_POINTS = 64  # of a polygon
MOST_PLACES = 64  # zones and lines of one camera
_LONGEST_NAME = 64
_LONGEST_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Zone:
    """A polygon in which an object is when the middle of its box's lower edge is.

    `classes` are the names that count, none means all. An object has entered, or left, when it has been inside, or
    outside, for `debounce_s`; one that stays for `dwell_s` is told of once more. Raises ValueError.
    """

    name: str
    points: tuple[Point, ...]
    classes: tuple[str, ...] = ()
    dwell_s: float | None = None
    debounce_s: float = 0.5

    def __post_init__(self) -> None:
        _check_name("zone", self.name)
        what = f"zone {self.name!r}"
        if not 3 <= len(self.points) <= MOST_POINTS:
            raise ValueError(f"{what}: points must be 3 to {MOST_POINTS} corners, got {len(self.points)}")
        _check_points(what, self.points)
        _check_seconds(what, "debounce_s", self.debounce_s)
        if self.dwell_s is not None:
            _check_seconds(what, "dwell_s", self.dwell_s)
        crossing = crossing_of(self.points)
        if crossing is not None:
            one, other = crossing
            raise ValueError(f"{what}: points must not cross themselves, got edges {one} and {other} that meet")


@dataclass(frozen=True, slots=True)
class Line:
    """A tripwire from one point to another. Standing at the first and looking to the second, from left to right is in.

    An object has crossed when it went through the line and is more than `margin` (in heights of the picture) beyond
    it, for `debounce_s`; around the line's ends it does not cross. Raises ValueError.
    """

    name: str
    points: tuple[Point, ...]
    classes: tuple[str, ...] = ()
    debounce_s: float = 0.0
    margin: float = 0.01

    def __post_init__(self) -> None:
        _check_name("line", self.name)
        what = f"line {self.name!r}"
        if len(self.points) != 2:
            raise ValueError(f"{what}: points must be 2 ends, got {len(self.points)}")
        _check_points(what, self.points)
        _check_seconds(what, "debounce_s", self.debounce_s)
        if not 0 <= self.margin <= 0.5:
            raise ValueError(f"{what}: margin must lie in 0..0.5, got {self.margin}")


@dataclass(frozen=True, slots=True)
class Layout:
    """All zones and lines of a camera; a name is given once. Raises ValueError."""

    zones: tuple[Zone, ...] = ()
    lines: tuple[Line, ...] = ()

    def __post_init__(self) -> None:
        names = Counter(place.name for place in self.places)
        if names.total() > MOST_PLACES:
            raise ValueError(f"a camera has at most {MOST_PLACES} zones and lines, got {names.total()}")
        for name, times in names.items():
            if times > 1:
                raise ValueError(f"zones and lines need names of their own, got {name!r} {times} times")

    def __bool__(self) -> bool:
        return bool(self.zones or self.lines)

    @property
    def places(self) -> tuple[Zone | Line, ...]:
        """The zones, then the lines."""
        return *self.zones, *self.lines

    @property
    def classes(self) -> set[str]:
        """Every class that a zone or line names."""
        return {name for place in self.places for name in place.classes}

    def as_json(self) -> dict[str, Any]:
        """Plain values, as the configuration has them."""
        return {"zones": [asdict(zone) for zone in self.zones], "lines": [asdict(line) for line in self.lines]}


def _check_name(what: str, name: str) -> None:
    if not (0 < len(name) <= _LONGEST_NAME and name.isprintable() and name == name.strip()):
        raise ValueError(f"a {what}'s name is 1 to {_LONGEST_NAME} printable characters, got {name!r}")


def _check_points(what: str, points: Sequence[Point]) -> None:
    for x, y in points:
        if not (0 <= x <= 1 and 0 <= y <= 1):  # NaN too
            raise ValueError(f"{what}: points must lie in 0..1 of the picture, got ({x:g}, {y:g})")
    for index, point in enumerate(points):
        if point == points[index - 1]:
            raise ValueError(f"{what}: neighbouring points must differ, got ({point[0]:g}, {point[1]:g}) twice")


def _check_seconds(what: str, key: str, value: float) -> None:
    if not (math.isfinite(value) and 0 <= value <= _LONGEST_S):
        raise ValueError(f"{what}: {key} must lie in 0..{_LONGEST_S:g} seconds, got {value}")
