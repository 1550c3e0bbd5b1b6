"""Keyed digests of idempotency keys and requests: neither is stored."""

from __future__ import annotations

import hashlib
import hmac

from django.conf import settings


def keyed(purpose: str, *parts: bytes) -> bytes:
    """Keyed, so that who reads the table cannot test guesses at what was sent."""
    key = hashlib.sha256(f"tenants.idempotency.{purpose}:{settings.SECRET_KEY}".encode()).digest()
    mac = hmac.new(key, digestmod="sha256")
    for part in parts:
        mac.update(len(part).to_bytes(8, "big"))
        mac.update(part)
    return mac.digest()
