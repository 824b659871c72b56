"""The page in a browser: files that anybody may load. All that it shows comes by the other routes."""

import hashlib
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import PurePath

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

from service.answers.schemas import ErrorAnswer

MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".woff2": "font/woff2",
}
"""By suffix: what the system knows of types differs from one to the next. No other file is served."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "frame-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

router = APIRouter()


class PageFile:
    """A file as it is answered; its tag is the hash of its bytes."""

    def __init__(self, name: str, content: bytes) -> None:
        self.content = content
        self.tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        self.headers = {
            "content-type": MEDIA_TYPES[PurePath(name).suffix],
            "content-security-policy": POLICY,
            "referrer-policy": "no-referrer",
            "cache-control": "no-cache",
            "etag": self.tag,
        }

    def answer(self, request: Request) -> Response:
        """The file, or 304 where the browser has these bytes (RFC 9110, 13.1.2)."""
        known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
        if self.tag in known or "*" in known:
            return Response(status_code=304, headers=self.headers)
        return Response(self.content, headers=self.headers)


def _read(folder: Traversable) -> Iterator[tuple[str, PageFile]]:
    for file in folder.iterdir():
        if PurePath(file.name).suffix in MEDIA_TYPES:
            yield file.name, PageFile(file.name, file.read_bytes())


FILES = dict(_read(files("service") / "page" / "static"))
"""Read once: a request names one of these or nothing, whatever stands in its path."""
INDEX = FILES["index.html"]


@router.head("/", include_in_schema=False)
@router.get("/", response_class=Response, summary="The page", responses={200: {"content": {"text/html": {}}}})
async def page(request: Request) -> Response:
    """What a browser shows: scoring, models and what happens now."""
    return INDEX.answer(request)


@router.head("/static/{file}", include_in_schema=False)
@router.get(
    "/static/{file}",
    response_class=Response,
    summary="A file of the page",
    responses={
        200: {"content": {media_type.partition(";")[0]: {} for media_type in MEDIA_TYPES.values()}},
        404: {"model": ErrorAnswer},
    },
)
async def static_file(request: Request, file: str) -> Response:
    """Styles, modules and pictures."""
    if file not in FILES:
        raise HTTPException(404, f"the page has no file {file[:100]!r}")
    return FILES[file].answer(request)
