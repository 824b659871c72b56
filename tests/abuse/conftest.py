"""A server to be abused, and the table of what it took."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.abuse import watch
from tests.abuse.vitals import HEADING, Row
from tests.abuse.watch import Watch
from tests.service.conftest import Server, numeric_bundle, start

__all__ = ["numeric_bundle", "start"]
ROWS = pytest.StashKey[list[Row]]()
WATCHES = pytest.StashKey[list[Watch]]()
SHORT = {
    "idle_timeout_s": 3, "header_timeout_s": 3, "body_idle_timeout_s": 3, "answer_idle_timeout_s": 3,
    "drain_timeout_s": 3,
}  # fmt: skip
"""Deadlines that a test can wait for; every other limit is the default."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--run-abuse", action="store_true", help="abuse a server and measure what it does to it")


def pytest_runtest_setup(item: pytest.Item) -> None:
    # The option is unknown where this file was not there when the command line was read: plain `pytest`.
    if not item.config.getoption("--run-abuse", default=False):
        pytest.skip("these abuse a server for minutes: `make test-abuse`")


@pytest.fixture(scope="session")
def abused(
    start: Callable[..., Server], table_bundle: Path, image_bundle: Path, numeric_bundle: Path, tmp_path_factory
) -> Server:  # type: ignore[no-untyped-def]
    return start(table_bundle, image_bundle, numeric_bundle, spool_dir=tmp_path_factory.mktemp("spool"), **SHORT)


@pytest.fixture(scope="session")
def rows(request: pytest.FixtureRequest) -> list[Row]:
    """One row of the table for each abuse."""
    return request.config.stash.setdefault(ROWS, [])


@pytest.fixture(scope="session")
def watches(request: pytest.FixtureRequest) -> list[Watch]:
    """One row of the other table for each attack."""
    return request.config.stash.setdefault(WATCHES, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    found = config.stash.get(ROWS, [])
    for line in (HEADING, *map(str, found)) if found else ():
        terminalreporter.write_line(line)
    watched = config.stash.get(WATCHES, [])
    for line in (watch.HEADING, *map(str, watched)) if watched else ():
        terminalreporter.write_line(line)
