"""OpenAI Responses: the protocol of OpenAI's newer models, and of Codex and its like."""

from __future__ import annotations

from typing import Final

from providers.protocols.openai_responses.codec import ResponsesCodec

CODEC: Final = ResponsesCodec()
