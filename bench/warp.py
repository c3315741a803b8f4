"""Augmentation of small images: shifts, rotations, scales, shears and elastic deformation (Simard, Steinkraus, Platt
2003), from a pool of sampling grids that is made once, since making them costs more than using them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

POOL = 8192


class Warp:
    """Random deformations of images of one size.

    size: their height and width. strength: 1 moves a digit's strokes as far as handwriting does.
    """

    def __init__(self, size: int, generator: torch.Generator, strength: float = 1.0) -> None:
        self.generator = generator
        self.grids = _grids(POOL, size, generator, strength)

    def __call__(self, images: Tensor) -> Tensor:
        """Images [n, channels, size, size], each by a deformation of its own; the border's pixels come in."""
        which = torch.randint(len(self.grids), (len(images),), generator=self.generator)
        return F.grid_sample(images, self.grids[which], mode="bilinear", padding_mode="border", align_corners=False)


def _grids(n: int, size: int, generator: torch.Generator, strength: float) -> Tensor:
    def uniform(*shape: int) -> Tensor:
        return (2 * torch.rand(*shape, generator=generator) - 1) * strength

    angle, shear, scale, shift = 0.22 * uniform(n), 0.2 * uniform(n), 1 + 0.15 * uniform(n, 2), uniform(n, 2) / 7
    cos, sin = angle.cos(), angle.sin()
    first = torch.stack([cos * scale[:, 0], (shear - sin) * scale[:, 0], shift[:, 0]], 1)
    second = torch.stack([sin * scale[:, 1], cos * scale[:, 1], shift[:, 1]], 1)
    affine = F.affine_grid(torch.stack([first, second], 1), [n, 1, size, size], align_corners=False)
    coarse = 0.045 * strength * torch.randn(n, 2, 5, 5, generator=generator)
    elastic = F.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=True)
    return affine + elastic.permute(0, 2, 3, 1)
