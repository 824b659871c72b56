"""The server of `tests/service`."""

from tests.service.conftest import start

__all__ = ["start"]
