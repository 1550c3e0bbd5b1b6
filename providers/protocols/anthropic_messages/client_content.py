"""Messages and content blocks as our callers send them."""

from __future__ import annotations

import base64
from typing import Any, Final

from controlplane.kit.json import JSONDict, dumps_str
from providers.protocols.anthropic_messages import carried, fields
from providers.protocols.anthropic_messages.carried import SLUG
from providers.protocols.canonical import (
    Audio,
    Base64,
    CacheMark,
    Document,
    FileId,
    Image,
    Message,
    Opaque,
    Part,
    SystemText,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Url,
    Video,
)

MAX_MESSAGES: Final = 10_000

ATTRIBUTION_PREFIX: Final = "x-anthropic-billing-header"

_COMMON = frozenset({"type", "cache_control"})
_KNOWN: Final[dict[str, frozenset[str]]] = {
    "text": _COMMON | {"text", "citations"},
    "image": _COMMON | {"source"},
    "document": _COMMON | {"source", "title", "context", "citations"},
    "thinking": _COMMON | {"thinking", "signature"},
    "redacted_thinking": _COMMON | {"data"},
    "tool_use": _COMMON | {"id", "name", "input", "caller", "toolset_name"},
    "tool_result": _COMMON | {"tool_use_id", "content", "is_error", "toolset_name"},
}


class ContentReader:
    """Reads the blocks of one request and remembers what has no canonical place.

    `unread` lists fields that were set and mean nothing to us; `callers` holds the `caller` of
    tool calls that a server tool made: only Anthropic can use it.
    """

    def __init__(self) -> None:
        self.unread: list[str] = []
        self.callers: dict[str, JSONDict] = {}

    def messages(self, value: Any) -> tuple[Message, ...]:
        entries = fields.items(value, "messages")
        if len(entries) > MAX_MESSAGES:
            raise fields.wrong("messages", f"an array of at most {MAX_MESSAGES} messages")
        out: list[Message] = []
        for index, entry in enumerate(entries):
            self._message(entry, f"messages[{index}]", out)
        return tuple(out)

    def _message(self, entry: Any, path: str, out: list[Message]) -> None:
        message = fields.dictionary(entry, path)
        role = message.get("role")
        if len(message) > 2:
            self.unread.extend(f"{path}.{key}" for key in message if key not in ("role", "content"))
        content = message.get("content")
        path = f"{path}.content"
        if role == "assistant":
            out.append(Message(role="assistant", parts=self._assistant(content, path)))
        elif role == "user":
            self._user(content, path, out)
        elif role == "system":
            blocks = self.system(content, path)
            out.append(
                Message(
                    role="system",
                    parts=tuple(Text(text=block.text, cache=block.cache) for block in blocks),
                )
            )
        else:
            raise fields.wrong(f"{path.removesuffix('.content')}.role", "user, assistant or system")

    def system(self, value: Any, path: str) -> tuple[SystemText, ...]:
        if value is None:
            return ()
        if type(value) is str:
            return (SystemText(text=value),) if value else ()
        out: list[SystemText] = []
        for index, entry in enumerate(fields.items(value, path)):
            where = f"{path}[{index}]"
            block = fields.dictionary(entry, where)
            if block.get("type", "text") != "text":
                raise fields.wrong(f"{where}.type", "text")
            text = fields.string(block, "text", where)
            if text:
                out.append(SystemText(text=text, cache=cache_mark(block, where)))
        return tuple(out)

    def _user(self, content: Any, path: str, out: list[Message]) -> None:
        if type(content) is str:
            out.append(Message(role="user", parts=(Text(text=content),)))
            return
        results: list[Part] = []
        others: list[Part] = []
        for index, entry in enumerate(fields.items(content, path)):
            where = f"{path}[{index}]"
            block = fields.dictionary(entry, where)
            if block.get("type") == "tool_result":
                results.append(self._result(block, where))
            else:
                others.extend(self._shown(block, where, is_result=False))
        if results:
            out.append(Message(role="tool", parts=tuple(results)))
        if others or not results:
            out.append(Message(role="user", parts=tuple(others)))

    def _assistant(self, content: Any, path: str) -> tuple[Part, ...]:
        if type(content) is str:
            return (Text(text=content),)
        out: list[Part] = []
        for index, entry in enumerate(fields.items(content, path)):
            where = f"{path}[{index}]"
            block = fields.dictionary(entry, where)
            kind = fields.string(block, "type", where)
            if kind == "text":
                self._check_known(block, kind, where)
                citations = block.get("citations")
                out.append(
                    Text(
                        text=fields.string(block, "text", where),
                        cache=cache_mark(block, where),
                        citations=tuple(
                            fields.dictionary(citation, f"{where}.citations[{position}]")
                            for position, citation in enumerate(
                                fields.items(citations, f"{where}.citations")
                            )
                        )
                        if citations is not None
                        else (),
                    )
                )
            elif kind == "thinking":
                self._check_known(block, kind, where)
                signature = fields.optional_string(block, "signature", where)
                out.append(
                    Thinking(
                        text=fields.string(block, "thinking", where),
                        signature=carried.signature_of(signature) if signature else None,
                    )
                )
            elif kind == "redacted_thinking":
                data = fields.string(block, "data", where)
                out.append(Thinking(redacted=True, signature=carried.signature_of(data)))
            elif kind == "tool_use":
                out.append(self._call(block, where))
            elif kind in ("image", "document", "tool_result", "search_result"):
                raise fields.wrong(f"{where}.type", "a block that an assistant can produce")
            else:
                # Server tools, compaction, whatever comes next: theirs, returned to them alone.
                out.append(Opaque(protocol=SLUG, value=block))
        return tuple(carried.returned(out))

    def _call(self, block: JSONDict, where: str) -> ToolCall:
        self._check_known(block, "tool_use", where)
        call_id = fields.string(block, "id", where)
        if not call_id:
            raise fields.wrong(f"{where}.id", "a non-empty string")
        name = fields.string(block, "name", where)
        if not name:
            raise fields.wrong(f"{where}.name", "a non-empty string")
        caller = block.get("caller")
        if caller is not None and fields.dictionary(caller, f"{where}.caller") != {
            "type": "direct"
        }:
            self.callers[call_id] = caller
        arguments = block.get("input")
        return ToolCall(
            id=call_id,
            name=name,
            arguments="{}" if arguments is None else dumps_str(arguments),
            namespace=fields.optional_string(block, "toolset_name", where),
            cache=cache_mark(block, where),
        )

    def _result(self, block: JSONDict, where: str) -> ToolResult:
        self._check_known(block, "tool_result", where)
        content = block.get("content")
        parts: list[Any] = []
        if type(content) is str:
            if content:
                parts.append(Text(text=content))
        elif type(content) is dict:
            # Not in the SDK's types, but tools return bare objects: their JSON is the text.
            parts.append(Text(text=dumps_str(content)))
        elif content is not None:
            for index, entry in enumerate(fields.items(content, f"{where}.content")):
                inner = f"{where}.content[{index}]"
                parts.extend(self._shown(fields.dictionary(entry, inner), inner, is_result=True))
        return ToolResult(
            call_id=fields.string(block, "tool_use_id", where),
            content=tuple(parts),
            is_error=bool(fields.flag(block, "is_error", where)),
            cache=cache_mark(block, where),
        )

    def _shown(
        self, block: JSONDict, where: str, *, is_result: bool
    ) -> tuple[Text | Image | Document | Audio | Video | Opaque, ...]:
        """What stands in a user turn or a tool result. Opaque only in a user turn."""
        kind = fields.string(block, "type", where)
        if kind == "text":
            self._check_known(block, kind, where)
            return (Text(text=fields.string(block, "text", where), cache=cache_mark(block, where)),)
        if kind == "image":
            self._check_known(block, kind, where)
            source = _source(block, where, ("base64", "url", "file"))
            return (Image(source=source, cache=cache_mark(block, where)),)
        if kind == "document":
            self._check_known(block, kind, where)
            return self._document(block, where)
        if kind == "search_result":
            return (
                carried.carry(block, _search_result_text(block, where), cache_mark(block, where)),
            )
        if kind == "tool_reference":
            name = fields.string(block, "tool_name", where)
            return (carried.carry(block, f"The tool {name} is available.", None),)
        if kind in ("thinking", "redacted_thinking", "tool_use"):
            raise fields.wrong(f"{where}.type", "a block that a user can send")
        if is_result:
            return (carried.carry(block, dumps_str(block), cache_mark(block, where)),)
        return (Opaque(protocol=SLUG, value=block),)

    def _document(self, block: JSONDict, where: str) -> tuple[Text | Image | Document, ...]:
        source = fields.dictionary(block.get("source"), f"{where}.source")
        title = fields.optional_string(block, "title", where)
        context = fields.optional_string(block, "context", where)
        cache = cache_mark(block, where)
        citations = block.get("citations")
        is_cited = citations is not None and bool(
            fields.flag(fields.dictionary(citations, f"{where}.citations"), "enabled", where)
        )
        if source.get("type") == "content":
            content = source.get("content")
            if type(content) is str:
                return (_text_document(content, title, context, is_cited, cache),)
            parts: list[Any] = []
            for index, entry in enumerate(fields.items(content, f"{where}.source.content")):
                inner = f"{where}.source.content[{index}]"
                parts.extend(self._shown(fields.dictionary(entry, inner), inner, is_result=True))
            if all(isinstance(part, Text) for part in parts):
                text = "\n".join(part.text for part in parts)
                return (_text_document(text, title, context, is_cited, cache),)
            # A document with pictures inside: its parts in their order, nothing lost.
            heading = "\n".join(line for line in (title, context) if line)
            return (Text(text=heading), *parts) if heading else tuple(parts)
        if source.get("type") == "text":
            text = fields.string(source, "data", f"{where}.source")
            return (_text_document(text, title, context, is_cited, cache),)
        return (
            Document(
                source=_source(block, where, ("base64", "url", "file")),
                title=title,
                context=context,
                citations=is_cited,
                cache=cache,
            ),
        )

    def _check_known(self, block: JSONDict, kind: str, where: str) -> None:
        known = _KNOWN[kind]
        if not known.issuperset(block):
            self.unread.extend(f"{where}.{key}" for key in block if key not in known)


def cache_mark(block: JSONDict, where: str) -> CacheMark | None:
    value = block.get("cache_control")
    if value is None:
        return None
    mark = fields.dictionary(value, f"{where}.cache_control")
    ttl = mark.get("ttl")
    if ttl is None:
        return CacheMark()
    if ttl == "5m":
        return CacheMark(ttl="5m")
    if ttl == "1h":
        return CacheMark(ttl="1h")
    raise fields.wrong(f"{where}.cache_control.ttl", "5m or 1h")


def _source(block: JSONDict, where: str, allowed: tuple[str, ...]) -> Base64 | Url | FileId:
    path = f"{where}.source"
    source = fields.dictionary(block.get("source"), path)
    kind = source.get("type")
    if kind == "base64":
        return Base64(
            media_type=fields.string(source, "media_type", path),
            data=fields.string(source, "data", path),
        )
    if kind == "url":
        return Url(url=fields.string(source, "url", path))
    if kind == "file":
        return FileId(id=fields.string(source, "file_id", path))
    raise fields.wrong(f"{path}.type", " or ".join(allowed))


def _text_document(
    text: str, title: str | None, context: str | None, is_cited: bool, cache: CacheMark | None
) -> Document:
    data = base64.b64encode(text.encode("utf-8", "replace")).decode()
    return Document(
        source=Base64(media_type="text/plain", data=data),
        title=title,
        context=context,
        citations=is_cited,
        cache=cache,
    )


def _search_result_text(block: JSONDict, where: str) -> str:
    lines = [fields.string(block, "title", where), fields.string(block, "source", where)]
    for index, entry in enumerate(fields.items(block.get("content"), f"{where}.content")):
        inner = f"{where}.content[{index}]"
        lines.append(fields.string(fields.dictionary(entry, inner), "text", inner))
    return "\n".join(line for line in lines if line)
