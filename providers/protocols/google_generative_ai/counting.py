"""countTokens, both ways."""

from __future__ import annotations

from typing import Any

import msgspec

from controlplane.kit.json import JSONDict
from providers.protocols.errors import RemoteProtocolError
from providers.protocols.numbers import count


class _Counted(msgspec.Struct, rename="camel"):
    # An empty prompt has no tokens, and Google leaves zeros out.
    total_tokens: Any = 0


def encode_count(tokens: int, cached: int = 0) -> JSONDict:
    """The answer for a Gemini client."""
    out: JSONDict = {
        "totalTokens": tokens,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": tokens}],
    }
    if cached:
        out["cachedContentTokenCount"] = cached
    return out


def decode_count_answer(body: bytes) -> int:
    """An upstream's count. Raises RemoteProtocolError when there is none."""
    try:
        return count(msgspec.json.decode(body, type=_Counted).total_tokens)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteProtocolError(f"The upstream sent an unreadable count: {error}.") from None
