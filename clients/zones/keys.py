"""How zones and lines are written: in the configuration file, in the options of a camera, in a request."""

from __future__ import annotations

from pydantic import Field, model_validator

from clients.section import Section
from clients.zones.layout import Layout, Line, Zone

Corners = tuple[tuple[float, float], ...]


class ZoneKeys(Section):
    """A polygon in which objects are counted."""

    name: str = Field(description="Unique among the camera's zones and lines.")
    points: Corners = Field(description="Corners [x, y], 0..1 of the picture's width and height; 3 to 64.")
    classes: tuple[str, ...] = Field((), description="Class names that count; empty is all.")
    dwell_s: float | None = Field(None, description="An object inside for so long is told of once more.")
    debounce_s: float = Field(0.5, description="Inside or outside for so long before it has entered or left.")

    @model_validator(mode="after")
    def _usable(self) -> ZoneKeys:
        self.zone()
        return self

    def zone(self) -> Zone:
        """As a value."""
        return Zone(self.name, self.points, self.classes, self.dwell_s, self.debounce_s)


class LineKeys(Section):
    """A tripwire."""

    name: str = Field(description="Unique among the camera's zones and lines.")
    points: Corners = Field(description="Both ends [x, y], 0..1; standing at the first, from left to right is in.")
    classes: tuple[str, ...] = Field((), description="Class names that count; empty is all.")
    debounce_s: float = Field(0.0, description="Beyond the line for so long before it has crossed.")
    margin: float = Field(0.01, description="Half the line's breadth, in heights of the picture.")

    @model_validator(mode="after")
    def _usable(self) -> LineKeys:
        self.line()
        return self

    def line(self) -> Line:
        """As a value."""
        return Line(self.name, self.points, self.classes, self.debounce_s, self.margin)


class LayoutKeys(Section):
    """The zones and lines of one camera."""

    zones: tuple[ZoneKeys, ...] = Field((), description="Polygons in which objects are counted.")
    lines: tuple[LineKeys, ...] = Field((), description="Tripwires that objects cross.")

    @model_validator(mode="after")
    def _own_names(self) -> LayoutKeys:
        self.layout()
        return self

    def layout(self) -> Layout:
        """As a value."""
        return Layout(tuple(zone.zone() for zone in self.zones), tuple(line.line() for line in self.lines))
