"""Dataclasses of arrays whose last axis is the objects of a camera: choosing, joining. Pure."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Table = TypeVar("Table", bound=DataclassInstance)

Rows = NDArray[np.intp]
Flags = NDArray[np.bool_]


def columns(table: Table, chosen: Rows | Flags) -> Table:
    """Some of the objects, in this order."""
    return replace(table, **{field.name: getattr(table, field.name)[..., chosen] for field in fields(table)})


def joined(first: Table, second: Table) -> Table:
    """The objects of both."""
    both = {f.name: np.concatenate((getattr(first, f.name), getattr(second, f.name)), axis=-1) for f in fields(first)}
    return replace(first, **both)


def places(table: Table, blank: Table, chosen: Rows) -> Table:
    """Some of the first axis, in this order; where -1 is chosen it is that of `blank`, which has as many."""
    known = chosen >= 0
    for field in fields(table):
        getattr(blank, field.name)[known] = getattr(table, field.name)[chosen[known]]
    return blank
