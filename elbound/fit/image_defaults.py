"""Defaults for images by rule from size and colour; never from labels."""

from typing import NamedTuple

from elbound.detector import DetectorSpec
from elbound.errors import MissingExtra
from elbound.files.images import MAX_SIDE
from elbound.model.models import ModelSpec
from elbound.model.networks.features import map_channels, map_shape, pretrained_weights
from elbound.schema import ImageSchema, TableSchema

IMAGE_MODES = ("pixels", "features")
FEATURE_SIDE, FEATURE_INPUT_SIDE = 64, 160
PIXEL_BANK, FEATURE_BANK = 4_000, 1_000
PIXEL_SAMPLES = 4
PATCH_LATENT, MAX_LATENT = 16, 4096
PIXEL_GROUPS = (
    ("error_top", "dissimilarity"),
    ("dissimilarity", "coarse_neighbours"),
    ("latent_neighbours", "latent_neighbours given code_length"),
    ("beyond_code", "|code_length|"),
)
FEATURE_GROUPS = (
    ("patch_residual", "patch_distance", "mean_distance"),
    ("deep_distance",),
    ("deep_neighbours",),
)


class ImagePlan(NamedTuple):
    """What is to be fitted, and how its scores make one verdict."""

    detector: DetectorSpec
    rule: str
    groups: tuple[tuple[str, ...], ...]


def image_mode(schema: ImageSchema) -> str:
    """`features` for photographs and textures: in colour, or from 64 pixels on the shorter side; else `pixels`.

    Pretrained features won on 9 of 10 sets of that kind and lost on small grey images, which look like nothing
    that they were trained on.
    """
    return "features" if schema.channels == 3 or min(schema.height, schema.width) >= FEATURE_SIDE else "pixels"


def largest_side(mode: str) -> int:
    """Pixels on the longer side that are worth keeping: 64 for a model of pixels, 160 for pretrained features."""
    if mode == "pixels":
        return MAX_SIDE
    try:
        pretrained_weights()
    except MissingExtra:
        return MAX_SIDE
    return FEATURE_INPUT_SIDE


def settle_mode(schema: TableSchema | ImageSchema, mode: str) -> tuple[str, str | None]:
    """The mode to fit, and advice where `auto` means features whose pretrained weights are not installed.

    Asked for by name, features without their weights raise MissingExtra when the fit begins.
    """
    if mode != "auto" or isinstance(schema, TableSchema):
        return mode, None
    if image_mode(schema) == "pixels":
        return "pixels", None
    try:
        pretrained_weights()
    except MissingExtra as error:
        return "pixels", f"{error.message}. Without them this detector looks at pixels, which see less in photographs"
    return "features", None


def image_defaults(schema: ImageSchema, n: int, mode: str) -> ImagePlan:
    """The detector for `n` training images of `schema` in one of `IMAGE_MODES`."""
    if mode == "features":
        return ImagePlan(DetectorSpec(models=(feature_model(schema, n),)), "joint", FEATURE_GROUPS)
    return ImagePlan(DetectorSpec(models=(pixel_model(schema, n),)), "joint", PIXEL_GROUPS)


def pixel_model(schema: ImageSchema, n: int) -> ModelSpec:
    """A convolutional VAE of the pixels and the scores that ask `PIXEL_GROUPS`."""
    return ModelSpec(
        view="pixels",
        latent=pixel_latent(schema),
        samples=PIXEL_SAMPLES,
        variance_floor=1e-4,
        bank=min(n, PIXEL_BANK),
        scores=(
            "negative_elbo", "reconstruction", "kl", "reconstruction_error", "negative_iwae",
            "error_top", "dissimilarity", "coarse_neighbours", "latent_neighbours", "latent_mahalanobis",
            "code_length", "beyond_code",
        ),
    )  # fmt: skip


def pixel_latent(schema: ImageSchema) -> int:
    """clip(pixels / 16, 8, 64): small images need few, larger ones gain nothing beyond 64."""
    return min(max(schema.height * schema.width // 16, 8), 64)


def feature_model(schema: ImageSchema, n: int) -> ModelSpec:
    """A VAE of the patches of pretrained feature maps and the scores that ask `FEATURE_GROUPS`."""
    height, width = map_shape(schema)
    places = height * width
    return ModelSpec(
        name="patch_vae",
        view="features",
        latent=min(PATCH_LATENT, MAX_LATENT // places) * places,
        width=map_channels(),
        samples=1,
        variance_floor=1e-3,
        bank=min(n, FEATURE_BANK),
        scores=(
            "negative_elbo", "reconstruction", "kl",
            "patch_error", "patch_residual", "patch_distance", "mean_distance", "deep_distance", "deep_neighbours",
        ),
    )  # fmt: skip
