"""Thinking signatures of simulated models: opaque to callers, and checked when they come back.

A proof holds its own checksum and its model's name, so nothing has to be remembered: it stays
valid over restarts, and any change to it, or another model, is seen.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Final

_MARK: Final = b"sim-signature:"


def make(model: str, text: str) -> str:
    """Standard base64. The same model and text always give the same proof."""
    body = _MARK + f"{model}:{text}".encode()
    return base64.b64encode(body + b":" + _digest(body)).decode()


def is_whole(value: str, model: str) -> bool:
    """Whether this is, unchanged, a proof that `model` made."""
    try:
        raw = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return False
    body, _, digest = raw.rpartition(b":")
    return body.startswith(_MARK + model.encode() + b":") and digest == _digest(body)


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest()[:16].encode()
