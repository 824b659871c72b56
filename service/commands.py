"""`elbound serve` and `elbound keys`. Everything heavy is imported inside them."""

import inspect
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from service.settings import PREFIX, Settings

Bundles = Annotated[
    list[str] | None,
    typer.Argument(
        help="Folders that `elbound train` wrote, or https://HOST/FILE.zip@sha256:HEX; several, or none with --models."
    ),
]


def register(app: typer.Typer) -> None:
    """Add `serve`, with one flag for every setting, and `keys`."""

    def serve(bundles: list[str] | None, **flags: Any) -> None:
        """Load bundles and score uploads over HTTP."""
        import os

        from service.server import run_server

        run_server(Settings.load(os.environ, flags), bundles or [])

    bundle = inspect.Parameter("bundles", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=Bundles)
    serve.__signature__ = inspect.Signature([bundle, *_flags()])  # type: ignore[attr-defined]
    serve.__annotations__ = {"bundles": Bundles, **{flag.name: flag.annotation for flag in _flags()}}
    app.command()(serve)
    keys = typer.Typer(help="Keys of those who may call the service.", no_args_is_help=True)
    keys.callback()(lambda: None)  # or its one command would be the group itself
    keys.command()(new)
    app.add_typer(keys, name="keys")


def new(
    name: Annotated[str, typer.Option(help="Whose key it is; logs and errors name it.")],
    scope: Annotated[list[str], typer.Option(help="score, read or admin; may be given several times.")],
    file: Annotated[Path, typer.Option(envvar=PREFIX + "API_KEYS_FILE", help="File of digests, made if need be.")],
    rows_per_s: Annotated[float | None, typer.Option(help="Quota; without it there is none.")] = None,
    burst_rows: Annotated[float | None, typer.Option(help="Most rows at once after a pause; one second's.")] = None,
) -> None:
    """Make a key, print it once, and append its digest to the key file."""
    from service.access.issue import issue_key

    key = issue_key(file, name=name, scopes=scope, rows_per_s=rows_per_s, burst_rows=burst_rows)
    typer.echo(f"{file} has the digest of {name}'s key; the key itself is shown this once:", err=True)
    typer.echo(key)


def _flags() -> list[inspect.Parameter]:
    flags = []
    for one in fields(Settings):
        text = f"{one.metadata['help']} [{PREFIX}{one.name.upper()}, {one.default}]"
        switch = f"--{one.name.replace('_', '-')}" if isinstance(one.default, bool) else ""  # and no --no-...
        option = typer.Option(*filter(None, [one.metadata["flag"] or switch]), help=text)
        kind = type(one.default)
        annotation = Annotated[kind | None, option]  # type: ignore[valid-type]
        flags.append(inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation))
    return flags
