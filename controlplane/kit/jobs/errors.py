"""What a handler raises, and what a caller did wrong."""

from __future__ import annotations


class GiveUp(Exception):
    """Raised by a handler: trying again is pointless. The message is stored: no secrets."""


class UnknownKind(LookupError):
    """No handler is registered for this kind of job."""
