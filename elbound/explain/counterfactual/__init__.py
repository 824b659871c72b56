"""The nearest normal: what would have to change for the model to find an anomalous item normal."""

from elbound.explain.counterfactual.result import Counterfactual
from elbound.explain.counterfactual.search import MAX_STEPS, NearestNormal, check_counterfactual, has_counterfactuals

__all__ = ["MAX_STEPS", "Counterfactual", "NearestNormal", "check_counterfactual", "has_counterfactuals"]
