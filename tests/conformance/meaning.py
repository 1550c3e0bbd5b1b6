"""What must be the same when a dialect says a scenario: all of it, but for the words below."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from providers.protocols.canonical import (
    Document,
    Image,
    Part,
    Reasoning,
    Request,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Url,
)
from tests.conformance.written import anthropic

# Names of a schema and its strictness: these dialects have no field for them.
_UNNAMED_FORMATS = {
    "anthropic-messages": {"name": None},
    "google-generative-ai": {"name": None, "strict": None},
}


def plain(request: Request, dialect: str) -> Request:
    """The request without what dialects spell differently and encoders do not depend on:
    the name of a result's tool (its call says it), ids and parts of a summary, the media type of
    a link, the kind of a result (its call says it), empty texts, a budget of 0 beside `off`."""
    kinds = {
        part.id: part.kind
        for message in request.messages
        for part in message.parts
        if isinstance(part, ToolCall)
    }
    messages = tuple(
        replace(message, parts=tuple(_part(part, kinds) for part in message.parts if _says(part)))
        for message in request.messages
        if message.role != "assistant" or any(_says(part) for part in message.parts)
    )
    changes: dict[str, Any] = {"messages": messages, "dialect": dialect, "include_usage": True}
    if request.reasoning is not None and request.reasoning.level == "off":
        changes["reasoning"] = Reasoning(level="off")
    if request.response_format is not None:
        unnamed: dict[str, Any] = _UNNAMED_FORMATS.get(dialect, {})
        changes["response_format"] = replace(request.response_format, **unnamed)
    if dialect == anthropic.SLUG and request.sampling.max_output_tokens is None:
        changes["sampling"] = replace(request.sampling, max_output_tokens=anthropic.LIMIT)
    # Google's own clients write every field in either case.
    changes["extra"] = {name.replace("_", "").lower(): v for name, v in request.extra.items()}
    return replace(request, **changes)


def _says(part: Part) -> bool:
    return not (isinstance(part, Text) and not part.text and part.signature is None)


def _part(part: Part, kinds: dict[str, Any]) -> Part:
    match part:
        case ToolResult():
            content: Any = tuple(_part(inner, kinds) for inner in part.content)
            kind = kinds.get(part.call_id, "function")
            return replace(part, name=None, content=content, kind=kind)
        case Thinking():
            return replace(part, summary=(), item_id=None)
        case Image(source=Url() as link) | Document(source=Url() as link):
            return replace(part, source=replace(link, media_type=None))
        case _:
            return part
