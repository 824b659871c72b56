"""The prior, the likelihood and the categorical latent that a fit may be asked for in the place of the defaults."""

from collections.abc import Iterable

from elbound.errors import ConfigError
from elbound.model.likelihoods import IMAGE_LIKELIHOODS, NUMERIC_LIKELIHOODS
from elbound.model.models import ModelSpec
from elbound.model.priors import PRIORS
from elbound.schema import ImageSchema, TableSchema

LEARNED_COMPONENTS = 32
"""Of a mixture or a VampPrior: each is learned, and few rows feed many components badly."""
MAX_CATEGORIES = 64


def with_choices(
    models: Iterable[ModelSpec],
    schema: TableSchema | ImageSchema,
    *,
    prior: str | None,
    likelihood: str | None,
    categories: int | None,
) -> tuple[ModelSpec, ...]:
    """The `models` of a detector with what was asked for; None keeps a default.

    `prior` is one of `PRIORS`; `likelihood` is one of `NUMERIC_LIKELIHOODS` for the numbers of a table, or of
    `IMAGE_LIKELIHOODS` for pixels; `categories` is the size of a categorical latent beside the Gaussian one, 0 to
    `MAX_CATEGORIES`. Raises ConfigError that names the choice and what it does not go with.
    """
    if prior is None and likelihood is None and categories is None:
        return tuple(models)
    _check(schema, prior=prior, likelihood=likelihood, categories=categories)
    return tuple(_changed(model, prior=prior, likelihood=likelihood, categories=categories) for model in models)


def _check(
    schema: TableSchema | ImageSchema, *, prior: str | None, likelihood: str | None, categories: int | None
) -> None:
    kind, known = ("rows", NUMERIC_LIKELIHOODS) if isinstance(schema, TableSchema) else ("images", IMAGE_LIKELIHOODS)
    if prior is not None and prior not in PRIORS:
        raise ConfigError(f"prior must be one of {', '.join(PRIORS)}. Got {prior!r} instead", where="prior")
    if likelihood is not None and likelihood not in known:
        raise ConfigError(
            f"likelihood of {kind} must be one of {', '.join(known)}. Got {likelihood!r} instead", where="likelihood"
        )
    if categories is not None and not 0 <= categories <= MAX_CATEGORIES:
        raise ConfigError(f"categories must be 0 to {MAX_CATEGORIES}. Got {categories} instead", where="categories")


def _changed(model: ModelSpec, *, prior: str | None, likelihood: str | None, categories: int | None) -> ModelSpec:
    given = {"prior": prior, "likelihood": likelihood, "categories": categories}
    if model.name != "vae":
        name = next(name for name, value in given.items() if value is not None)
        raise ConfigError(
            f"{name} is for rows and for images in the mode `pixels`; the detector of pretrained features has its own",
            where=name,
        )
    update: dict[str, object] = {name: value for name, value in given.items() if value is not None}
    if prior in ("mixture", "vampprior"):
        update["components"] = LEARNED_COMPONENTS
    elif prior == "aggregate":
        update["components"] = max(model.bank, model.components)
    if model.view == "pixels" and likelihood is not None and IMAGE_LIKELIHOODS[likelihood].view is not None:
        update["view"] = IMAGE_LIKELIHOODS[likelihood].view
    return model.model_copy(update=update)
