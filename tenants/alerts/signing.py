"""Pure: how a webhook proves that it is ours, and how its receiver checks that.

The scheme of standardwebhooks.com, for which there are libraries: HMAC-SHA256 over the delivery's
id, the time and the body, joined by dots. While a secret is replaced, both sign.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Final

from controlplane.kit.secret import Secret

PREFIX: Final = "whsec_"
SECRET_BYTES: Final = 32
# A receiver refuses what is older: it may have been recorded and sent again.
TOLERANCE_SECONDS: Final = 300


def secret_of(random: bytes) -> Secret:
    return Secret(PREFIX + base64.b64encode(random).decode())


def headers(
    secrets: Sequence[Secret], *, delivery_id: str, at_seconds: int, body: bytes
) -> dict[str, str]:
    return {
        "webhook-id": delivery_id,
        "webhook-timestamp": str(at_seconds),
        "webhook-signature": " ".join(
            signature(secret, delivery_id=delivery_id, at_seconds=at_seconds, body=body)
            for secret in secrets
        ),
    }


def signature(secret: Secret, *, delivery_id: str, at_seconds: int, body: bytes) -> str:
    key = base64.b64decode(secret.reveal().removeprefix(PREFIX))
    signed = f"{delivery_id}.{at_seconds}.".encode() + body
    digest = hmac.new(key, signed, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


def is_genuine(secret: Secret, sent: Mapping[str, str], body: bytes, *, now_seconds: int) -> bool:
    """What a receiver does. `sent`: its request's headers, with names in lower case."""
    try:
        at_seconds = int(sent["webhook-timestamp"])
        wanted = signature(secret, delivery_id=sent["webhook-id"], at_seconds=at_seconds, body=body)
        is_recent = abs(now_seconds - at_seconds) <= TOLERANCE_SECONDS
        given = sent["webhook-signature"].split(" ")
    except (KeyError, ValueError, binascii.Error):
        return False
    return is_recent and any(hmac.compare_digest(wanted.encode(), one.encode()) for one in given)
