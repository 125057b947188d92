"""What holds for all tests: they give the same result each time, and they do not reach into the network."""

import socket
from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("same-examples-each-time", derandomize=True, deadline=None)
settings.load_profile("same-examples-each-time")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only this machine's own servers can be reached, so that a test which needs more fails everywhere."""
    connect = socket.socket.connect

    def local_only(self: socket.socket, address: Any) -> None:
        if isinstance(address, tuple) and address[0] not in ("localhost", "127.0.0.1", "::1"):
            raise OSError(f"A test wants to connect to {address[0]!r}; tests do without the network.")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_only)
