"""How colours look to readers without full colour vision, and how far apart they are: for the tests of the palette."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Machado, Oliveira & Fernandes 2009, "A Physiologically-based Model for Simulation of Color Vision Deficiency",
# IEEE TVCG 15(6), severity 1.0; of linear RGB.
VISIONS: dict[str, Array] = {
    "full": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


def lab(colours: list[str], vision: str = "full") -> Array:
    """CIE Lab (D65) of colours as they are seen, (n, 3)."""
    from matplotlib.colors import to_rgb

    encoded = np.array([to_rgb(colour) for colour in colours])
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    seen = (linear @ VISIONS[vision].T).clip(0.0, 1.0)
    relative = seen @ _TO_XYZ.T / (np.ones(3) @ _TO_XYZ.T)
    f = np.where(relative > (6 / 29) ** 3, np.cbrt(relative), relative / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=-1)


def noticeable(points: float, share: float = 0.5, distance: float = 500.0) -> Array:
    """Differences in L, a, b that this share of readers notices in a mark of so many points at so many mm.

    Stone, Szafir & Setlur 2014, "An Engineering Model for Color Difference as a Function of Size", Color and Imaging
    Conference 22: share · (A + B / size), the size as a visual angle in degrees (fitted to a third of one and more).
    """
    angle = np.degrees(2 * np.arctan(points * 25.4 / 72 / 2 / distance))
    return share * (np.array([10.16, 10.68, 10.70]) + np.array([1.50, 3.08, 5.74]) / angle)


def closest(colours: list[str], vision: str, points: float) -> tuple[float, str]:
    """The smallest distance of two colours in noticeable differences, and which two these are."""
    seen = lab(colours, vision) / noticeable(points)
    apart = np.linalg.norm(seen[:, None] - seen[None], axis=-1) + np.where(np.eye(len(colours)), np.inf, 0.0)
    one, other = np.unravel_index(int(np.argmin(apart)), apart.shape)
    return float(apart[one, other]), f"{colours[one]} and {colours[other]}"
