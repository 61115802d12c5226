"""Where many boxes are and how fast they move: a Kalman filter for all of them at once, on elapsed seconds. Pure.

Constant velocity, disturbed by white acceleration; centre and size are filtered apart, and x shares its variance with
y. Errors are shares of the box's own size, sqrt(width * height), so a near car and a far one obey the same numbers. A
gap of any length is one step, and the longer it was the more the next detection counts. It knows no ids and no classes.
Source: Bar-Shalom, Li, Kirubarajan, Estimation with Applications to Tracking and Navigation, 2001, 6.2.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_LEAST_SIDE_PX = 1.0

Floats = NDArray[np.float64]
Index = NDArray[np.intp] | NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class MotionRules:
    """Standard deviations for (centre, size), in box sizes: of a detection, of a first velocity (per second), and the
    intensity of the acceleration (per second^1.5)."""

    detected: tuple[float, float] = (0.06, 0.08)
    first_speed: tuple[float, float] = (2.0, 0.2)
    acceleration: tuple[float, float] = (0.5, 0.15)

    def __post_init__(self) -> None:
        for name in ("detected", "first_speed", "acceleration"):
            if not min(getattr(self, name)) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """`xywh` FP64 (n, 4): centre and size in px; `velocity` FP64 (n, 4) in px/s; `variance` FP64 (3, n, 2): of the
    position, of position with velocity, of the velocity; each for centre and size."""

    xywh: Floats
    velocity: Floats
    variance: Floats

    def __len__(self) -> int:
        return len(self.xywh)

    @property
    def xyxy(self) -> NDArray[np.float32]:
        """FP32 (n, 4): corners in px."""
        half = self.xywh[:, 2:] / 2
        return np.concatenate((self.xywh[:, :2] - half, self.xywh[:, :2] + half), axis=1, dtype=np.float32)

    def only(self, chosen: Index) -> Motion:
        """Some of the boxes."""
        return Motion(self.xywh[chosen], self.velocity[chosen], self.variance[:, chosen])

    def joined(self, other: Motion) -> Motion:
        """These boxes, then the others."""
        return Motion(
            np.concatenate((self.xywh, other.xywh)),
            np.concatenate((self.velocity, other.velocity)),
            np.concatenate((self.variance, other.variance), axis=1),
        )


def born(xyxy: NDArray[np.float32], rules: MotionRules) -> Motion:
    """Boxes seen for the first time: FP32 (n, 4) corners; whether they move is anybody's guess."""
    xywh = _xywh(xyxy)
    area = (xywh[:, 2] * xywh[:, 3])[:, np.newaxis]
    position, speed = area * np.square(rules.detected), area * np.square(rules.first_speed)
    return Motion(xywh, np.zeros_like(xywh), np.stack((position, np.zeros_like(position), speed)))


def moved(motion: Motion, elapsed_s: float, rules: MotionRules) -> Motion:
    """The same boxes `elapsed_s` later, 0 or more; a box never gets thinner than a pixel."""
    xywh = motion.xywh + motion.velocity * elapsed_s
    np.maximum(xywh[:, 2:], _LEAST_SIDE_PX, out=xywh[:, 2:])
    position, shared, speed = motion.variance
    area = (motion.xywh[:, 2] * motion.xywh[:, 3])[:, np.newaxis]
    noise = area * (np.square(rules.acceleration) * elapsed_s)
    variance = np.empty_like(motion.variance)
    variance[0] = position + elapsed_s * (2 * shared + elapsed_s * (speed + noise / 3))
    variance[1] = shared + elapsed_s * (speed + noise / 2)
    variance[2] = speed + noise
    return Motion(xywh, motion.velocity, variance)


def corrected(motion: Motion, xyxy: NDArray[np.float32], rules: MotionRules) -> Motion:
    """The boxes after each was detected at FP32 (n, 4) corners."""
    position, shared, speed = motion.variance
    area = (motion.xywh[:, 2] * motion.xywh[:, 3])[:, np.newaxis]
    total = position + area * np.square(rules.detected)
    gain, speed_gain = position / total, shared / total
    error = _xywh(xyxy) - motion.xywh
    xywh = motion.xywh + gain.repeat(2, axis=1) * error
    np.maximum(xywh[:, 2:], _LEAST_SIDE_PX, out=xywh[:, 2:])
    variance = np.stack((position * (1 - gain), shared * (1 - gain), speed - speed_gain * shared))
    return Motion(xywh, motion.velocity + speed_gain.repeat(2, axis=1) * error, variance)


def _xywh(xyxy: NDArray[np.float32]) -> Floats:
    low, high = xyxy[:, :2].astype(np.float64), xyxy[:, 2:].astype(np.float64)
    return np.concatenate(((low + high) / 2, np.maximum(high - low, _LEAST_SIDE_PX)), axis=1)
