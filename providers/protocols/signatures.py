"""Opaque reasoning proofs on their way through clients of another dialect.

A signature must return to the vendor that made it and to nobody else. When it leaves in its
own dialect it leaves as it is. When a client of another dialect carries it, we wrap it so
that it remembers its origin; unwrapping needs no server-side state.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

from providers.protocols.canonical import ModelSpec, Signature

_MAGIC: Final = b"pcp1\x00"
# Base64 of _MAGIC always starts so: a cheap test before decoding anything.
_PREFIX: Final = "cGNwMQ"


def wrap(signature: Signature, *, native: str) -> str:
    """The text to hand to a client of dialect `native`. Valid base64 whenever wrapped."""
    if signature.protocol == native and signature.model is None:
        return signature.value
    payload = b"\x00".join(
        (signature.protocol.encode(), (signature.model or "").encode(), signature.value.encode())
    )
    return base64.b64encode(_MAGIC + payload).decode()


def unwrap(value: str, *, native: str) -> Signature:
    """What a client sent back: ours if it bears our mark, else the dialect's own vendor's."""
    if value.startswith(_PREFIX):
        try:
            raw = base64.b64decode(value, validate=True)
            if not raw.startswith(_MAGIC):
                return Signature(value=value, protocol=native)
            protocol, model, inner = raw.removeprefix(_MAGIC).split(b"\x00", 2)
            return Signature(
                value=inner.decode(), protocol=protocol.decode(), model=model.decode() or None
            )
        except (binascii.Error, ValueError):
            return Signature(value=value, protocol=native)
    return Signature(value=value, protocol=native)


def belongs_to(signature: Signature | None, model: ModelSpec) -> bool:
    """Whether this proof may travel to this target (traps 82-94)."""
    return (
        signature is not None
        and bool(signature.value)
        and signature.protocol == model.protocol
        and signature.model in (None, model.id)
    )
