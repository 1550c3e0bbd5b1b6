"""Google Generative AI: generateContent, streamGenerateContent, countTokens."""

from __future__ import annotations

from typing import Final

from providers.protocols.google_generative_ai.codec import GoogleArray, GoogleGenerativeAI

CODEC: Final = GoogleGenerativeAI()
# For clients that call streamGenerateContent without `alt=sse`.
ARRAY_CODEC: Final = GoogleArray()
