"""What a training is asked for. Free of torch, so that the command line can show it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from demo.pictures import CUT_PX

_STRIDE_PX = 32


@dataclass(frozen=True, slots=True)
class Plan:
    """`epochs` over `pictures` square cuts, then `polish_epochs` over a third as many whole canvases.

    Weights to go on from may leave the first out.
    """

    epochs: int = 8
    polish_epochs: int = 3
    pictures: int = 2000
    held_out: int = 160
    seed: int = 0
    imgsz: int = CUT_PX
    device: str = "auto"
    resume: bool = False
    start: Path | None = None  # weights to go on from, instead of from nothing
    freeze: int = 0  # first layers that stay as they are: edges and textures; a third of a step's cost

    def __post_init__(self) -> None:
        for name, value, least in (
            ("epochs", self.epochs, 0 if self.start else 1),
            ("polish epochs", self.polish_epochs, 0),
            ("pictures", self.pictures, 3),
            ("seed", self.seed, 0),
            ("freeze", self.freeze, 0),
        ):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        if self.start is not None and not self.start.is_file():
            raise ValueError(f"{self.start}: no such file; expected weights to start from")
        if self.imgsz < _STRIDE_PX or self.imgsz % _STRIDE_PX:
            raise ValueError(f"imgsz must be a positive multiple of {_STRIDE_PX} px, got {self.imgsz}")

        if self.device not in ("auto", "cpu") and not self.device.isdecimal():
            raise ValueError(f"device must be auto, cpu or a GPU's number, got {self.device!r}")

    @property
    def name(self) -> str:
        """What may be resumed together."""
        return f"{self.pictures}-{self.imgsz}-{self.epochs}-{self.polish_epochs}-{self.seed}"

    @property
    def command(self) -> str:
        """The command line that carries it out."""
        start = f" --start {self.start}" if self.start else ""
        frozen = f" --freeze {self.freeze}" if self.freeze else ""
        return (
            f"python -m demo train --epochs {self.epochs} --polish-epochs {self.polish_epochs} "
            f"--pictures {self.pictures} --imgsz {self.imgsz} --seed {self.seed}{start}{frozen}"
        )

    @property
    def polish_pictures(self) -> int:
        """Whole canvases for round two."""
        return self.pictures // 3
