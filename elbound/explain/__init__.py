"""Why an item is odd: shares that add up to a score, what was expected instead, and pictures of where."""

from elbound.explain.documents import fired_documents, image_documents, row_documents
from elbound.explain.fired import FiredReasons, explain_fired
from elbound.explain.images import ImageShares, explain_images
from elbound.explain.rows import RowShares, explain_rows

__all__ = [
    "FiredReasons",
    "ImageShares",
    "RowShares",
    "explain_fired",
    "explain_images",
    "explain_rows",
    "fired_documents",
    "image_documents",
    "row_documents",
]
