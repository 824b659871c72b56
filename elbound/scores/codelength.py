"""How many bits a lossless code of an image takes: a plain measure of its complexity."""

import math
from functools import lru_cache

import torch
from torch import Tensor

PRIOR_COUNT = 0.5
"""Of each symbol before anything is seen: Krichevsky and Trofimov, The Performance of Universal Encoding, 1981."""


def code_length(x: Tensor) -> Tensor:
    """Bits of an ideal adaptive lossless code of whole-number images `(n, channels, height, width)`, float64 `(n,)`.

    Each pixel is predicted from its left, upper and upper left neighbour by the median edge detector of JPEG-LS
    (Weinberger, Seroussi and Sapiro, 2000); of the error, sign and binary exponent are coded by an adaptive
    arithmetic code within the context of how rough the neighbourhood is, the other binary digits as they are.
    The ideal length needs only the counts n_s of the symbols s of a context, S kinds in all:
    log2 [Gamma(sum n_s + S/2) / Gamma(S/2)] - sum_s log2 [Gamma(n_s + 1/2) / Gamma(1/2)]. Colours are coded as
    green and the differences from it. A function of the pixels alone: unlike the size of a PNG file it does not
    change with the version of a compressor, and it is computed where the image lies.
    """
    bits = 8 if x.dtype == torch.uint8 else 16
    errors, roughness = _prediction_errors(_decorrelated(x.to(torch.int32)))
    classes = bits + 4  # exponents of numbers below 2^(bits + 3), and zero
    exponent = torch.frexp(errors.abs().float())[1]
    symbol = exponent + classes * (errors < 0)
    context = torch.frexp(roughness.float())[1].clamp(max=classes - 1)
    n, channels, height, width = x.shape
    place = torch.arange(n * channels, device=x.device).view(n, channels, 1, 1)
    cell = ((place * classes + context) * 2 * classes + symbol).flatten()
    counts = torch.bincount(cell, minlength=n * channels * classes * 2 * classes)
    counts = counts.view(n, channels * classes, 2 * classes)
    one, of_all = _log_gammas(height * width, 2 * classes)
    nats = of_all.to(x.device)[counts.sum(2)].sum(1) - one.to(x.device)[counts].sum((1, 2))
    digits = (exponent - 1).clamp(min=0).sum((1, 2, 3))
    return nats / math.log(2) + digits


def _decorrelated(x: Tensor) -> Tensor:
    """Red minus green, green, blue minus green; grey as it is."""
    if x.shape[1] != 3:
        return x
    red, green, blue = x.unbind(1)
    return torch.stack([red - green, green, blue - green], 1)


def _prediction_errors(x: Tensor) -> tuple[Tensor, Tensor]:
    """What the median edge detector misses, and |left - corner| + |upper - corner|; both like `x`.

    Outside the image lies 0, and left of a row's first pixel the pixel above it.
    """
    padded = torch.nn.functional.pad(x, (1, 0, 1, 0))
    padded[:, :, 1:, 0] = padded[:, :, :-1, 1]
    left, upper, corner = padded[:, :, 1:, :-1], padded[:, :, :-1, 1:], padded[:, :, :-1, :-1]
    low, high = torch.minimum(left, upper), torch.maximum(left, upper)
    guess = torch.where(corner >= high, low, torch.where(corner <= low, high, left + upper - corner))
    return x - guess, (left - corner).abs() + (upper - corner).abs()


@lru_cache(maxsize=8)
def _log_gammas(pixels: int, symbols: int) -> tuple[Tensor, Tensor]:
    """log Gamma(k + a) - log Gamma(a) for k = 0..pixels, with a of one symbol and of all of them."""
    k = torch.arange(pixels + 1, dtype=torch.float64)
    one, of_all = PRIOR_COUNT, PRIOR_COUNT * symbols
    return torch.lgamma(k + one) - math.lgamma(one), torch.lgamma(k + of_all) - math.lgamma(of_all)
