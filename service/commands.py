"""`elbound serve`. Everything heavy is imported inside it."""

import inspect
from dataclasses import fields
from typing import Annotated, Any

import typer

from service.settings import PREFIX, Settings

Bundles = Annotated[
    list[str], typer.Argument(help="Folders that `elbound train` wrote, or https://HOST/FILE.zip@sha256:HEX; several.")
]


def register(app: typer.Typer) -> None:
    """Add `serve`, with one flag for every setting that is no secret."""

    def serve(bundles: list[str], **flags: Any) -> None:
        """Load bundles and score uploads over HTTP."""
        import os

        from service.server import run_server

        run_server(Settings.load(os.environ, flags), bundles)

    bundle = inspect.Parameter("bundles", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Bundles)
    serve.__signature__ = inspect.Signature([bundle, *_flags()])  # type: ignore[attr-defined]
    serve.__annotations__ = {"bundles": Bundles, **{flag.name: flag.annotation for flag in _flags()}}
    app.command()(serve)


def _flags() -> list[inspect.Parameter]:
    flags = []
    for one in fields(Settings):
        if one.metadata["secret"]:
            continue
        text = f"{one.metadata['help']} [{PREFIX}{one.name.upper()}, {one.default}]"
        option = typer.Option(*filter(None, [one.metadata["flag"]]), help=text)
        annotation: Any = Annotated[str | None, option]
        if isinstance(one.default, int):
            annotation = Annotated[bool | None if isinstance(one.default, bool) else int | None, option]
        flags.append(inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation))
    return flags
