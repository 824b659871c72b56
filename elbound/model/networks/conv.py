"""Convolution stacks for images of any size: stride-2 convolutions down, transposed ones up."""

import itertools
import math

from torch import Tensor, nn
from torch.nn import functional

WIDTHS: dict[int, tuple[int, ...]] = {0: (64,), 1: (64,), 2: (32, 64), 3: (32, 64, 128)}
"""Channels after each halving, by the number of halvings: few pixels need not be narrow."""


def depth(height: int, width: int) -> int:
    """How often the sides are halved: down to about 4 pixels, at most three times."""
    return max(0, min(max(WIDTHS), int(math.log2(max(1.0, min(height, width) / 4)))))


class Residual(nn.Module):
    """x + conv(silu(norm(x))) at one size."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        changed: Tensor = self.conv(functional.silu(self.norm(x)))
        return x + changed


class ConvEncoder(nn.Module):
    """`(n, channels, height, width)` to `(n, outputs)`; the first convolution already halves the sides."""

    def __init__(self, channels: int, height: int, width: int, outputs: int) -> None:
        super().__init__()
        sizes = _sizes(height, width)
        widths = WIDTHS[len(sizes) - 1]
        stride = 1 if len(sizes) == 1 else 2
        self.first = nn.Conv2d(channels, widths[0], 3, stride=stride, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.GroupNorm(8, narrow), nn.SiLU(), nn.Conv2d(narrow, wide, 3, stride=2, padding=1))
            for narrow, wide in itertools.pairwise(widths)
        )
        self.residual = Residual(widths[-1])
        self.norm = nn.GroupNorm(8, widths[-1])
        self.head = nn.Linear(widths[-1] * math.prod(sizes[-1]), outputs)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        for block in self.blocks:
            hidden = block(hidden)
        head: Tensor = self.head(functional.silu(self.norm(self.residual(hidden))).flatten(1))
        return head


class ConvDecoder(nn.Module):
    """`(n, latent)` to `(n, channels, height, width)`; odd sides are cropped on the way up."""

    def __init__(self, latent: int, channels: int, height: int, width: int) -> None:
        super().__init__()
        self.sizes = _sizes(height, width)
        widths = (*WIDTHS[len(self.sizes) - 1][::-1], channels)
        self.first = nn.Linear(latent, widths[0] * math.prod(self.sizes[-1]))
        self.residual = Residual(widths[0])
        if len(self.sizes) == 1:
            layers: list[nn.Module] = [nn.Conv2d(widths[0], channels, 3, padding=1)]
        else:
            layers = [
                nn.ConvTranspose2d(wide, narrow, 4, stride=2, padding=1) for wide, narrow in itertools.pairwise(widths)
            ]
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.GroupNorm(8, wide), nn.SiLU(), layer) for wide, layer in zip(widths, layers, strict=False)
        )

    def forward(self, z: Tensor) -> Tensor:
        hidden = self.residual(self.first(z).unflatten(1, (-1, *self.sizes[-1])))
        for block, (height, width) in zip(self.blocks, self.sizes[-2::-1] or self.sizes, strict=True):
            hidden = block(hidden)[..., :height, :width]
        image: Tensor = hidden
        return image


def _sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Height and width before the first and after each halving."""
    sizes = [(height, width)]
    for _ in range(depth(height, width)):
        sizes.append((math.ceil(sizes[-1][0] / 2), math.ceil(sizes[-1][1] / 2)))
    return sizes
