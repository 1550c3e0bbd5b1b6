"""Ports that stay free. A port that was taken and closed again is soon somebody else's: another
test's server gets it from the system. These are outside the range that the system gives out."""

from __future__ import annotations

import secrets
import socket

LOWEST, HIGHEST = 20_000, 32_000


def unused() -> int:
    """A port of 127.0.0.1 on which nobody listens."""
    while True:
        # Not `random`: its seed is the same in all processes of a run.
        port = LOWEST + secrets.randbelow(HIGHEST - LOWEST)
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
