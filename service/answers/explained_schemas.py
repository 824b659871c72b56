"""Why an item is odd, and what would be normal instead, as it is answered; for the OpenAPI document."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Cell = float | bool | str | None
Base64 = Annotated[str, Field(json_schema_extra={"contentEncoding": "base64"})]


class Answer(BaseModel):
    """No field that is not told of here."""

    model_config = ConfigDict(extra="forbid")


class FeatureShare(Answer):
    """A column's `share` of the score, what was `seen`, and of numbers the central 95 % of what was `expected`.

    `probability` is that of the value seen, for categories and booleans.
    """

    name: str
    share: float
    seen: Cell
    expected: Cell
    interval: tuple[Cell, Cell] | None
    probability: float | None


class RowExplanation(Answer):
    """Shares in nats, by falling share; with `rest`, those of the other columns, and `latent` they are the score."""

    score: Literal["negative_elbo"]
    features: list[FeatureShare]
    rest: float
    latent: float


class Region(Answer):
    """`box` is left, top, width and height in pixels of the model's size."""

    box: tuple[int, int, int, int]
    share: float


class ImageExplanation(Answer):
    """Shares in nats: those of the `regions`, `rest` and `latent` are the score.

    Pictures are PNG of the model's size: the `image` as it sees it, a `heatmap` to lay over it, and its
    `reconstruction`, null where it sees pretrained features. `shares` is the array of all pixels with `heatmap=npy`.
    """

    score: Literal["negative_elbo"]
    width: int
    height: int
    regions: list[Region]
    rest: float
    latent: float
    image: Base64
    heatmap: Base64
    reconstruction: Base64 | None
    shares: Base64 | None = None


class NormalRange(Answer):
    """The 5 %, 50 % and 95 % quantile of the calibration items' scores."""

    low: float
    median: float
    high: float


class ScoreShare(Answer):
    name: str
    share: float
    seen: Cell


class NearestItem(Answer):
    """A training item, `row` or `image`, at a `distance` in the unit of the score's own space."""

    distance: float
    row: dict[str, Cell] | None = None
    image: Base64 | None = None


class FiredExplanation(Answer):
    """What the `score` that decided tells, where that is another one than those of the first view.

    Each part is there where the score has it: shares that are its sum, a map, the nearest training items.
    """

    score: str
    normal: NormalRange
    features: list[ScoreShare] | None = None
    rest: float | None = None
    latent: float | None = None
    heatmap: Base64 | None = None
    nearest: list[NearestItem] | None = None


class CellChange(Answer):
    name: str
    seen: Cell
    nearest: Cell


class Counterfactual(Answer):
    """The nearest item that the model finds normal or, where none was `found`, the least odd one; its own verdict.

    Of a row the `changes`, of an image the part of its pixels that differs.
    """

    found: bool
    p_value: float
    conditional_p_value: float | None = None
    score: float
    steps: int
    changes: list[CellChange] | None = None
    changed_share: float | None = None
    image: Base64 | None = None


class Searches(Answer):
    """Of how many anomalies the nearest normal was looked for, and how many were left out for the limit."""

    searched: int
    left_out: int
    max_counterfactual_items: int
