"""Views of an item: from the event tensor, in the units of the data, to what a model sees.

A view learns its scales from the train part alone and keeps them as buffers, so that they travel with the
weights.
"""

from collections.abc import Callable, Mapping

from elbound.schema import ColumnKind, ImageSchema, TableSchema
from elbound.views.base import View
from elbound.views.image import FeatureView, PixelView, UnitView
from elbound.views.table import NormalView, StandardView

__all__ = ["IMAGE_VIEWS", "TABLE_VIEWS", "PixelView", "UnitView", "View", "build_view", "modelled_schema"]

TABLE_VIEWS: dict[str, type[StandardView]] = {"standard": StandardView, "normal": NormalView}
IMAGE_VIEWS: dict[str, Callable[[ImageSchema], View]] = {
    "pixels": PixelView,
    "unit": UnitView,
    "features": FeatureView,
}


def build_view(name: str, schema: TableSchema | ImageSchema, typed: Mapping[int, tuple[float, ...]]) -> View:
    """The view called `name` for items of `schema`, its scales not yet learned."""
    if isinstance(schema, TableSchema):
        return TABLE_VIEWS[name](schema, typed)
    return IMAGE_VIEWS[name](schema)


def modelled_schema(
    schema: TableSchema | ImageSchema, typed: Mapping[int, tuple[float, ...]]
) -> TableSchema | ImageSchema:
    """The schema that the model sees: typed columns of two values are booleans, of more categories, of one numbers."""
    if isinstance(schema, ImageSchema) or not typed:
        return schema
    columns = list(schema.columns)
    several = {i: values for i, values in typed.items() if len(values) > 1}
    for i, values in several.items():
        kind: ColumnKind = "boolean" if len(values) == 2 else "categorical"
        levels = () if kind == "boolean" else tuple(f"{value:g}" for value in values)
        columns[i] = columns[i].model_copy(update={"kind": kind, "levels": levels})
    return schema.model_copy(update={"columns": tuple(columns)})
