"""The `elbound` command: gathers subcommands from the entry-point group `elbound.commands`.

Nothing heavy is imported here or by the commands' modules, so that `elbound --help` answers at once.
"""

import os
import signal
import sys
from importlib.metadata import entry_points

import typer

from elbound import __version__
from elbound.errors import ElboundError

COMMAND_GROUP = "elbound.commands"
EXIT_ERROR = 1
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


def build_app() -> typer.Typer:
    """The application with every registered subcommand."""
    app = typer.Typer(
        name="elbound",
        help="Train a VAE on what is normal; score everything else against calibrated thresholds.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
    )

    @app.callback(invoke_without_command=True)
    def elbound(version: bool = typer.Option(False, "--version", help="Print the version.")) -> None:
        if version:
            typer.echo(__version__)
            raise typer.Exit

    for entry in sorted(entry_points(group=COMMAND_GROUP), key=lambda entry: entry.name, reverse=True):
        entry.load()(app)
    return app


def main() -> None:
    """Run the command; an error of elbound's own is one line on stderr and exit status 1."""
    # Threads of one operation that spin while they wait for each other cost a factor of ten where another
    # process wants a core; must be said before torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # As a container's first process the default would be to ignore it; `serve` replaces this when it is up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_TERMINATED))
    try:
        build_app()()
    except ElboundError as error:
        typer.secho("error: ", fg="red", bold=True, nl=False, err=True)
        typer.echo(error.message, err=True)
        sys.exit(EXIT_INTERRUPTED if error.code == "interrupted" else EXIT_ERROR)
