"""A cheap, conservative guess at the size of a prompt, where no vendor counts it for us. Pure."""

from __future__ import annotations

from typing import Final

from controlplane.kit import json
from providers.protocols.canonical import (
    Audio,
    Base64,
    Document,
    Image,
    Part,
    Refusal,
    Request,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Video,
)

# English runs at about 4 bytes a token, code and other scripts at 3 and less: the guess errs
# on the large side, because it decides what still fits.
BYTES_PER_TOKEN: Final = 3.3
TOKENS_PER_MESSAGE: Final = 4
# The largest figure vendors publish for one image at full detail.
TOKENS_PER_IMAGE: Final = 1600
# PDF pages cost text and an image each; a page is some 50 kB of PDF.
BYTES_PER_PAGE: Final = 50_000
TOKENS_PER_PAGE: Final = 3000
# Vendors count 25 to 32 tokens a second; compressed speech is some 4 kB a second.
AUDIO_BYTES_PER_TOKEN: Final = 128


def prompt_tokens(request: Request) -> int:
    """Tokens of the whole prompt: system, messages and tool declarations."""
    text_bytes = sum(len(block.text.encode()) for block in request.system)
    tokens = TOKENS_PER_MESSAGE * (len(request.system) + len(request.messages))
    for message in request.messages:
        for part in message.parts:
            more_bytes, more_tokens = _part(part)
            text_bytes += more_bytes
            tokens += more_tokens
    for tool in request.tools:
        text_bytes += len(tool.name) + len((tool.description or "").encode())
        text_bytes += len(json.dumps(tool.schema or tool.builtin or {}))
    if request.response_format is not None and request.response_format.schema is not None:
        text_bytes += len(json.dumps(request.response_format.schema))
    return tokens + int(text_bytes / BYTES_PER_TOKEN) + 1


def _part(part: Part) -> tuple[int, int]:
    """(bytes of text, tokens of anything else)."""
    match part:
        case Text() | Refusal() | Thinking():
            return len(part.text.encode()), 0
        case ToolCall():
            return len(part.name) + len(part.arguments.encode()), TOKENS_PER_MESSAGE
        case ToolResult():
            pairs = [_part(inner) for inner in part.content]
            return sum(size for size, _ in pairs), sum(tokens for _, tokens in pairs)
        case Image():
            return 0, TOKENS_PER_IMAGE
        case Document():
            if not isinstance(part.source, Base64):
                return 0, TOKENS_PER_PAGE
            size = len(part.source.data) * 3 // 4
            if part.source.media_type.startswith("text/"):
                return size, 0
            return 0, TOKENS_PER_PAGE * (1 + size // BYTES_PER_PAGE)
        case Audio() | Video():
            if not isinstance(part.source, Base64):
                return 0, TOKENS_PER_PAGE
            return 0, len(part.source.data) * 3 // 4 // AUDIO_BYTES_PER_TOKEN
        case _:
            return len(json.dumps(part.value)), 0
