"""The contract of a view."""

from abc import abstractmethod

from torch import Tensor, nn


class View(nn.Module):
    """Maps events `(n, *event)` to float32 of the same shape; NaN stays where a cell is missing.

    `costly` says that a look is to be kept rather than repeated during the fit.
    """

    costly = False

    @abstractmethod
    def fit(self, x: Tensor) -> "View":
        """Learn scales from the train part, `(n, *event)`."""

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor: ...

    def inverse(self, seen: Tensor) -> Tensor | None:  # noqa: ARG002 - the contract
        """From what a model sees to units of the data, both `(n, *event)`; None where there is no way back."""
        return None

    def coordinates(self, x: Tensor) -> Tensor:
        """Where items lie for a search of neighbours, float32 `(n, coordinates)` without gaps."""
        seen: Tensor = self(x)
        return seen.flatten(1)

    def by_feature(self, values: Tensor) -> Tensor | None:  # noqa: ARG002 - the contract
        """Sums over the coordinates of each feature, `(n, coordinates)` to `(n, d)`; None where features have none."""
        return None

    def at_coordinates(self, points: Tensor) -> Tensor | None:  # noqa: ARG002 - the contract
        """The events that lie at `points` `(n, coordinates)`, in units of the data; None where there is no way back."""
        return None
