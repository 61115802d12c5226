"""JSON as Markdown tables. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def at(told: Any, place: str) -> Any:
    """`age_ms.p95` of a JSON value; None where there is no such place."""
    for key in place.split("."):
        if not isinstance(told, Mapping) or key not in told:
            return None
        told = told[key]
    return told


def compared(told: Mapping[str, Any], places: Sequence[str]) -> str:
    """Commands are columns, places are rows; a place that holds an object is a row for each of its values."""
    wanted = [place for one in places for place in _leaves(told, one)]
    lines = ["| | " + " | ".join(label or "value" for label in told) + " |", "|---|" + "---|" * len(told)]
    lines += [
        "| " + " | ".join((_words(place), *(_cell(at(one, place)) for one in told.values()))) + " |" for place in wanted
    ]
    return "\n".join(lines)


def listed(rows: Any) -> str:
    """A list of objects, or an object of objects by name: a row for each. Raises TypeError for anything else."""
    if isinstance(rows, Mapping):
        rows = [{"": name} | _flat(one) for name, one in rows.items()]
    elif isinstance(rows, Sequence) and not isinstance(rows, str):
        rows = [_flat(one) for one in rows]
    else:
        raise TypeError(f"expected rows, got {type(rows).__name__}")
    columns = list(dict.fromkeys(key for one in rows for key in one))
    lines = ["| " + " | ".join(_words(one) for one in columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(_cell(one.get(column)) for column in columns) + " |" for one in rows]
    return "\n".join(lines)


def _leaves(told: Mapping[str, Any], place: str) -> list[str]:
    found: dict[str, None] = {}
    for one in told.values():
        value = at(one, place)
        found |= (
            dict.fromkeys(f"{place}.{key}" for key in _flat(value)) if isinstance(value, Mapping) else {place: None}
        )
    inner = [key for key in found if key != place]
    return inner or [place]


def _flat(value: Any, where: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {where: value}
    found: dict[str, Any] = {}
    for key, one in value.items():
        found |= _flat(one, f"{where}.{key}" if where else str(key))
    return found


def _words(place: str) -> str:
    return place.replace("_", " ").replace(".", ", ")


def _cell(value: Any) -> str:
    """A number is shown as it was printed; of several the least and the most; an object is one without values."""
    if value is None:
        return ""
    if isinstance(value, Mapping):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Sequence) and not isinstance(value, str):
        numbers = [one for one in value if isinstance(one, int | float)]
        return f"{min(numbers):g} to {max(numbers):g}" if numbers and len(numbers) == len(value) else _joined(value)
    return f"{value:g}" if isinstance(value, float) else str(value).replace("|", "/")


def _joined(values: Sequence[Any]) -> str:
    return ", ".join(str(one) for one in values) or "none"
