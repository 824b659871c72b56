"""elbound: train a VAE on what is normal, score everything else against calibrated thresholds.

>>> from elbound import VAEDetector, Scorer
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from elbound.bundle import load_bundle, save_bundle
    from elbound.errors import ElboundError
    from elbound.estimator import VAEDetector
    from elbound.scorer import Scorer

__version__ = "0.1.0"
__all__ = ["ElboundError", "Scorer", "VAEDetector", "__version__", "load_bundle", "save_bundle"]

_HOMES = {
    "ElboundError": "elbound.errors",
    "Scorer": "elbound.scorer",
    "VAEDetector": "elbound.estimator",
    "load_bundle": "elbound.bundle",
    "save_bundle": "elbound.bundle",
}


def __getattr__(name: str) -> object:
    """Public names are loaded when they are first used, so that `elbound --help` never imports torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'elbound' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
