"""The server of `tests/service`, and stores in buckets behind the protocols of those who sell them."""

from tests.service.conftest import key_file, start

__all__ = ["key_file", "start"]
