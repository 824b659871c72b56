"""Why an item is odd: shares that add up to a score, what was expected instead, and pictures of where."""

from elbound.explanation.documents import fired_documents, image_documents, row_documents
from elbound.explanation.fired import FiredReasons, explain_fired
from elbound.explanation.images import ImageShares, explain_images
from elbound.explanation.rows import RowShares, explain_rows

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
