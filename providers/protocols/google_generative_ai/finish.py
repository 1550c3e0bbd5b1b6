"""Why an answer ended, in Google's words and in ours (wire-protocols 7.3, 14.10)."""

from __future__ import annotations

from typing import Final

from providers.protocols.canonical import Finish, StopReason

_FILTERED: Final = (
    "SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "LANGUAGE", "IMAGE_SAFETY",
    "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "MODEL_ARMOR", "ESCALATION",
)  # fmt: skip
_BROKEN: Final = (
    "MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS",
    "MISSING_THOUGHT_SIGNATURE", "MALFORMED_RESPONSE", "IMAGE_OTHER", "NO_IMAGE", "OTHER",
    "CONTINUATION", "PUP_LIMITED_DISABLED", "FINISH_REASON_UNSPECIFIED",
)  # fmt: skip

_FROM_GOOGLE: Final[dict[str, StopReason]] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    **dict.fromkeys(_FILTERED, "content_filter"),
    **dict.fromkeys(_BROKEN, "error"),
}  # fmt: skip

_TO_GOOGLE: Final[dict[StopReason, str]] = {
    "stop": "STOP",
    "stop_sequence": "STOP",
    "tool_use": "STOP",
    "length": "MAX_TOKENS",
    "context_overflow": "MAX_TOKENS",
    "content_filter": "SAFETY",
    "refusal": "SAFETY",
    "pause": "OTHER",
    "error": "OTHER",
    "aborted": "OTHER",
}


def reason_of(raw: str, *, has_call: bool) -> StopReason:
    """Only a natural end with a call is tool use: cut off or broken stays so (traps 38, 39).
    An unknown word is an error (trap 137)."""
    reason = _FROM_GOOGLE.get(raw, "error")
    return "tool_use" if reason == "stop" and has_call else reason


def word_for(finish: Finish) -> str:
    """Google's word for a client; its own finer word where Google gave the answer."""
    known = _FROM_GOOGLE.get(finish.raw)
    if known is not None and known == ("stop" if finish.reason == "tool_use" else finish.reason):
        return finish.raw
    return _TO_GOOGLE[finish.reason]
