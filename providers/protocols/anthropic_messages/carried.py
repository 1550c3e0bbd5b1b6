"""Vendor markers that ride on canonical values without changing what others see.

- `search_result` and other blocks that only Anthropic (and partly Bedrock) knows are carried by
  a Text that says the same in words; the block itself sits in `citations`. Whoever knows the
  block sends it, everybody else sends the text: no content is lost either way.
- A proof that belongs to a call or a text (Gemini's thoughtSignature) travels through an
  Anthropic client in a thinking block without text; its wrapped origin names its owner.
"""

from __future__ import annotations

from typing import Final

import msgspec

from controlplane.kit.json import JSONDict
from providers.protocols.canonical import CacheMark, Part, Signature, Text, Thinking, ToolCall
from providers.protocols.signatures import unwrap, wrap

SLUG: Final = "anthropic-messages"

_MARK: Final = "anthropic_block"
_CALL: Final = "call:"
_TEXT: Final = "text:"


def carry(block: JSONDict, text: str, cache: CacheMark | None) -> Text:
    return Text(text=text, cache=cache, citations=({"type": _MARK, "block": block},))


def carried_block(part: Text) -> JSONDict | None:
    """The block a Text stands for; None for ordinary text."""
    if part.citations and part.citations[0].get("type") == _MARK:
        block: JSONDict = part.citations[0]["block"]
        return block
    return None


def proof_of_call(call_id: str, signature: Signature) -> str:
    """The signature of the thinking block that carries a call's proof."""
    return wrap(
        Signature(
            value=f"{call_id}\n{signature.value}",
            protocol=_CALL + signature.protocol,
            model=signature.model,
        ),
        native=SLUG,
    )


def proof_of_text(signature: Signature) -> str:
    """The same for the text block directly before it."""
    return wrap(
        msgspec.structs.replace(signature, protocol=_TEXT + signature.protocol), native=SLUG
    )


def returned(parts: list[Part]) -> list[Part]:
    """An assistant turn from a client, with carried proofs back on their owners.

    A client that dropped the carriers, or the owners, simply has turns without proof.
    """
    if not any(
        isinstance(part, Thinking)
        and part.signature is not None
        and part.signature.protocol.startswith((_CALL, _TEXT))
        for part in parts
    ):
        return parts
    out: list[Part] = []
    calls: dict[str, Signature] = {}
    for part in parts:
        signature = part.signature if isinstance(part, Thinking) else None
        if signature is not None and signature.protocol.startswith(_CALL):
            call_id, _, value = signature.value.partition("\n")
            calls[call_id] = Signature(
                value=value, protocol=signature.protocol[len(_CALL) :], model=signature.model
            )
        elif signature is not None and signature.protocol.startswith(_TEXT):
            last = out[-1] if out else None
            if isinstance(last, Text):
                own = msgspec.structs.replace(signature, protocol=signature.protocol[len(_TEXT) :])
                out[-1] = msgspec.structs.replace(last, signature=own)
        else:
            out.append(part)
    return [
        msgspec.structs.replace(part, signature=calls[part.id])
        if isinstance(part, ToolCall) and part.id in calls
        else part
        for part in out
    ]


def signature_of(value: str) -> Signature:
    """What a client sent in `signature` or `data`: ours if wrapped, else Anthropic's own."""
    return unwrap(value, native=SLUG)
