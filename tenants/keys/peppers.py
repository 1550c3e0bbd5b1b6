"""The ring of peppers: the first signs new keys, all of them verify.

To rotate: put a new pepper in front and restart. A digest cannot be made anew without the
token, which nobody has, so the old pepper stays in the ring until every key it signed has been
rotated, revoked or has expired; `manage.py keys peppers` counts them. Taking a pepper out
ends the keys it signed: that is the way to end all of them at once after a leak.
"""

from __future__ import annotations

import hashlib
from typing import Final

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

_SHORTEST: Final = 32


def ring() -> tuple[bytes, ...]:
    """The peppers, newest first. Raises ImproperlyConfigured when there is none to sign with."""
    texts = [text.strip() for text in settings.KEY_PEPPERS]
    if not any(texts) or any(len(text) < _SHORTEST for text in texts):
        raise ImproperlyConfigured(
            f"Set KEY_PEPPERS to one or more comma-separated random texts of at least "
            f"{_SHORTEST} characters each."
        )
    if len(set(texts)) != len(texts):
        raise ImproperlyConfigured("KEY_PEPPERS names one pepper twice: remove the repetition.")
    return tuple(text.encode() for text in texts)


def name(pepper: bytes) -> str:
    """Safe to show and store: tells peppers apart, gives none away."""
    return hashlib.sha256(b"pepper name\0" + pepper).hexdigest()[:12]
