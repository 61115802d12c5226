"""A camera's number in its pixels: sixteen squares in the picture's upper left corner that survive H.264.

Eight say the number, eight the opposite, so that a torn or foreign picture is not taken for one of ours. Runs in the
server's environment too: numpy only.
"""

from __future__ import annotations

import numpy as np

SQUARE_PX, BITS = 16, 8
MOST = 254  # 255 says: not readable
BRIGHT, DARK = 220, 30
_SURE = 40  # grey levels from the middle that a square's mean must have


def code_squares(number: int) -> np.ndarray:
    """UINT8 (16, 256), luma. Raises ValueError for a number out of 0..254."""
    if not 0 <= number <= MOST:
        raise ValueError(f"a camera's number must lie in 0..{MOST}, got {number}")
    bits = np.array([number >> bit & 1 for bit in range(BITS)], np.uint8)
    row = np.where(np.concatenate((bits, 1 - bits)), BRIGHT, DARK).astype(np.uint8)
    return row.repeat(SQUARE_PX)[None].repeat(SQUARE_PX, axis=0)


def read_code(canvas: np.ndarray, top_px: int = 12) -> int | None:
    """The number in an NV12 canvas on which a 640x360 picture begins at `top_px`, or None where there is none."""
    squares = canvas[top_px : top_px + SQUARE_PX, : 2 * BITS * SQUARE_PX]
    inner = squares.reshape(SQUARE_PX, 2 * BITS, SQUARE_PX)[4:-4, :, 4:-4]
    levels = inner.mean(axis=(0, 2)) - (BRIGHT + DARK) / 2
    bits = levels > 0
    if (np.abs(levels) < _SURE).any() or (bits[:BITS] == bits[BITS:]).any():
        return None
    return int(sum(1 << bit for bit in range(BITS) if bits[bit]))
