"""A response format where the wire cannot hold one: said to the model in words."""

from __future__ import annotations

from controlplane.kit.json import dumps_str
from providers.protocols.canonical import ResponseFormat


def format_instruction(wanted: ResponseFormat) -> str:
    """Empty for plain text."""
    if wanted.kind == "text":
        return ""
    if wanted.kind == "json_object" or wanted.schema is None:
        return "Answer with one valid JSON object and nothing else: no prose, no code fence."
    about = f" It is {wanted.description}" if wanted.description else ""
    return (
        "Answer with one valid JSON value and nothing else: no prose, no code fence."
        f"{about} It must conform to this JSON schema: {dumps_str(wanted.schema)}"
    )
