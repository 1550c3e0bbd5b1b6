"""Proofs of other vendors inside `encrypted_content`, the one opaque field that clients of
Responses send back.

The proof of a thinking block rides on its own reasoning item. A tool call or a text has no
such field: a reasoning item without words, next to it, carries the proof and says whose it is.
"""

from __future__ import annotations

from typing import Final

import msgspec

from providers.protocols import signatures
from providers.protocols.canonical import Signature

SLUG: Final = "openai-responses"
_CALL: Final = "call:"
_TEXT: Final = "text:"


class Proof(msgspec.Struct, frozen=True):
    """`of` is thinking, text, empty_text, or call (then `call_id` says which)."""

    of: str
    signature: Signature
    call_id: str = ""


def for_thinking(signature: Signature) -> str:
    return signatures.wrap(signature, native=SLUG)


def for_call(signature: Signature, call_id: str) -> str:
    return _marked(signature, _CALL, call_id)


def for_text(signature: Signature, *, is_empty: bool) -> str:
    return _marked(signature, _TEXT, "empty" if is_empty else "")


def _marked(signature: Signature, mark: str, about: str) -> str:
    carrier = Signature(
        value=f"{about}\n{signature.value}",
        protocol=f"{mark}{signature.protocol}",
        model=signature.model,
    )
    return signatures.wrap(carrier, native="")


def read(encrypted: str) -> Proof:
    """What a client sent back in `encrypted_content`."""
    found = signatures.unwrap(encrypted, native=SLUG)
    for mark in (_CALL, _TEXT):
        if found.protocol.startswith(mark):
            about, _, value = found.value.partition("\n")
            signature = Signature(
                value=value, protocol=found.protocol.removeprefix(mark), model=found.model
            )
            if mark == _CALL:
                return Proof("call", signature, about)
            return Proof("empty_text" if about else "text", signature)
    return Proof("thinking", found)
