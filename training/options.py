"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Bundle = Annotated[Path, typer.Argument(help="A bundle that `elbound train` wrote.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Alpha = Annotated[float | None, typer.Option(help="False-alarm rate; the bundle's own by default.")]
TrustedKeysFile = Annotated[
    Path | None,
    typer.Option("--trusted-keys", help="Public keys in PEM: the bundle must be signed by one of them."),
]
Guarantee = Annotated[
    float | None, typer.Option(help="Confidence that the rate stays below alpha, as 0.9; the bundle's own by default.")
]
