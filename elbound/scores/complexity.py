"""Scores that know how complex an image is: a likelihood alone prefers what is simple."""

import math
from typing import ClassVar

from torch import Tensor

from elbound.model.bounds import iwae
from elbound.model.models.base import Model
from elbound.scores.base import Observed, Score


class CodeLength(Score):
    """Bits of a lossless code of the pixels, see `code_length`.

    As a score it finds images that are too complex; the verdict of images asks in both directions, and what
    other scores mean for an image of this complexity.
    """

    name: ClassVar[str] = "code_length"
    unit: ClassVar[str] = "bits"

    def forward(self, model: Model, observed: Observed) -> Tensor:  # noqa: ARG002 - the contract
        return observed.code_length


class BeyondCode(Score):
    """-IWAE_K - code_length ln 2, in nats: how much worse the model does than a code that knows no images.

    Larger is more anomalous, one-sided. The log ratio of a universal code to the model: a simple image has a
    high likelihood under any model, and here no advantage. Serrà et al., Input Complexity and
    Out-of-distribution Detection with Likelihood-based Generative Models, 2020.
    """

    name: ClassVar[str] = "beyond_code"
    unit: ClassVar[str] = "nats"

    def forward(self, model: Model, observed: Observed) -> Tensor:  # noqa: ARG002 - the contract
        return -iwae(observed.terms).mean(0) - observed.code_length * math.log(2)
