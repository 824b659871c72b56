"""The server of `tests/service`."""

from tests.service.conftest import key_file, start

__all__ = ["key_file", "start"]
