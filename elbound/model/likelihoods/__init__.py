"""p(x|z): what the decoder's numbers mean. `ModelSpec.likelihood` names one of a registry."""

from elbound.model.likelihoods.base import Likelihood
from elbound.model.likelihoods.gaussian import PixelGaussian, PredictedGaussian, SharedGaussian
from elbound.model.likelihoods.laplace import PredictedLaplace, SharedLaplace
from elbound.model.likelihoods.pixels import DiscretisedLogistic, PixelBernoulli
from elbound.model.likelihoods.scale import ImageLikelihood, PredictedScale
from elbound.model.likelihoods.student_t import PredictedStudentT, SharedStudentT

NUMERIC_LIKELIHOODS: dict[str, type[PredictedScale]] = {
    "gaussian": PredictedGaussian,
    "laplace": PredictedLaplace,
    "student_t": PredictedStudentT,
}
"""Of the numbers of a table; booleans and categories have one law each."""

IMAGE_LIKELIHOODS: dict[str, type[ImageLikelihood]] = {
    "gaussian": SharedGaussian,
    "pixel_gaussian": PixelGaussian,
    "laplace": SharedLaplace,
    "student_t": SharedStudentT,
    "bernoulli": PixelBernoulli,
    "logistic": DiscretisedLogistic,
}

__all__ = ["IMAGE_LIKELIHOODS", "NUMERIC_LIKELIHOODS", "Likelihood"]
