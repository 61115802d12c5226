"""The one error of this folder."""

from __future__ import annotations

from clients.errors import FleetError


class ExportError(FleetError):
    """Weights cannot be turned into a model: the text names the file, what was expected and what came."""
