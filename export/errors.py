"""The errors of this folder."""

from __future__ import annotations

from clients.errors import FleetError


class ExportError(FleetError):
    """Weights cannot be turned into a model: the text names the file, what was expected and what came."""


class NoCard(ExportError):
    """This step needs an NVIDIA GPU and TensorRT, and one of them is not here; the command line ends with code 3."""
