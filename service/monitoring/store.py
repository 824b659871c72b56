"""Series of a store: versions that came and were refused, and what a shadow would have decided."""

from prometheus_client import CollectorRegistry, Counter, Gauge

MODEL = ("model_name", "model_version")
SHADOW = (*MODEL, "shadow_version")


class StoreMetrics:
    """Registered with the other series of the server."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.swaps = Counter(
            "elbound_model_swaps",
            "Versions that replaced the one before (swapped) or could not be served (refused).",
            ("model_name", "result"),
            registry=registry,
        )
        self.refused = Gauge(
            "elbound_model_refused",
            "1 for each version of the store that was tried and refused.",
            (*MODEL, "reason"),
            registry=registry,
        )
        self.unreadable = Gauge(
            "elbound_store_unreadable", "1 while the store, or a model's folder in it, cannot be read.",
            registry=registry,
        )  # fmt: skip
        self.shadowed = Counter(
            "elbound_shadow_items",
            "Items by the live version's verdict and its shadow's, each at its own alpha.",
            (*SHADOW, "live", "shadow"),
            registry=registry,
        )
        self.skipped = Counter(
            "elbound_shadow_skipped_items",
            "Items that the shadow did not score: too many waited, or it failed.",
            (*SHADOW, "reason"),
            registry=registry,
        )

    def end_shadow(self, labels: tuple[str, str, str]) -> None:
        """End the series of a shadow."""
        for metric in (self.shadowed, self.skipped):
            metric.remove_by_labels(dict(zip(SHADOW, labels, strict=True)))
