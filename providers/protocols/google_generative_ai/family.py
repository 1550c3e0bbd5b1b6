"""What the three Google wires share: names, limits and the form of opaque proofs."""

from __future__ import annotations

import re
from typing import Final

SLUG: Final = "google-generative-ai"
# Opaque parts and vendor fields of one may travel to the others: the body is the same.
FAMILY: Final = frozenset({SLUG, "google-vertex", "google-gemini-cli"})

FUNCTION_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]*\Z")
MAX_FUNCTION_NAME: Final = 64
MAX_CALL_ID: Final = 64

# Google's own way to say "this call was made by another model, do not check it".
SENTINEL: Final = "skip_thought_signature_validator"

_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]+={0,2}\Z")
_URL_SAFE: Final = str.maketrans("-_", "+/")

# Fields of a part that hold Google's own things; they return to Google as they came.
OPAQUE_FIELDS: Final = ("executableCode", "codeExecutionResult", "toolCall", "toolResponse")


def is_base64(value: str) -> bool:
    """Whether Google would accept the text as bytes (trap 84)."""
    return _BASE64.match(value) is not None


def standard_base64(value: str) -> str:
    """Google's Python client sends bytes in the URL-safe alphabet, everyone else wants the
    standard one with padding."""
    if "-" in value or "_" in value:
        value = value.translate(_URL_SAFE)
    return value + "=" * (-len(value) % 4) if len(value) % 4 else value
