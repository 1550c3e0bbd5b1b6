"""Canonical turns to Messages API blocks."""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final

from controlplane.kit.json import JSONDict
from providers.protocols import signatures
from providers.protocols.alternation import FILLER, Turn, path_of
from providers.protocols.anthropic_messages.carried import SLUG, carried_block
from providers.protocols.canonical import (
    Base64,
    CacheMark,
    Document,
    FileId,
    Image,
    ModelSpec,
    Opaque,
    Part,
    Refusal,
    Request,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Url,
)
from providers.protocols.errors import LocalProtocolError, UnsupportedContent
from providers.protocols.losses import Loss, LossCode
from providers.protocols.tool_calls import WireNames, arguments_object

NO_OUTPUT: Final = "(no tool output)"
_ATTACHED: Final = "Attached image(s) from tool result:"
_IMAGE_TYPES: Final = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
# How base64 of each format begins: the API rejects an image whose label is wrong.
_IMAGE_STARTS: Final = (
    ("iVBORw0KGgo", "image/png"),
    ("/9j/", "image/jpeg"),
    ("R0lGOD", "image/gif"),
    ("UklGR", "image/webp"),
)
_CITATION_FIELDS: Final[dict[str, tuple[str, ...]]] = {
    "char_location": ("cited_text", "document_index"),
    "page_location": ("cited_text", "document_index"),
    "content_block_location": ("cited_text", "document_index"),
    "web_search_result_location": ("cited_text", "encrypted_index", "url"),
    "search_result_location": ("cited_text", "search_result_index", "source"),
}


def keeps_thinking(thinking: Thinking, model: ModelSpec) -> bool:
    """Signed by this model, or unsigned where the endpoint takes that (traps 20, 87-89)."""
    if thinking.signature is not None:
        return signatures.belongs_to(thinking.signature, model)
    return model.quirks.allow_empty_signature and bool(thinking.text)


class MessageWriter:
    """Writes the messages of one request; collects losses and blocks that bear cache marks."""

    def __init__(
        self, request: Request, model: ModelSpec, names: WireNames, losses: list[Loss]
    ) -> None:
        self._request = request
        self._names = names
        self._losses = losses
        self._callers: JSONDict = {}
        if request.dialect == SLUG:
            self._callers = request.extra.get("tool_callers", {})
        self._toolsets: dict[str, str] = {}
        # In wire order; caching.py decides which of them stay.
        self.marked: list[tuple[JSONDict, CacheMark]] = []

    def messages(self, turns: list[Turn]) -> list[JSONDict]:
        out: list[JSONDict] = []
        for turn in turns:
            if turn.role == "user":
                content = self._user(turn.parts)
            elif turn.role == "assistant":
                content = [self._assistant(part) for part in turn.parts]
            else:
                content = [self._block(part) for part in turn.parts]
            out.append({"role": turn.role, "content": content})
        return out

    def _user(self, parts: list[Part]) -> list[JSONDict]:
        content: list[JSONDict] = []
        after: list[JSONDict] = []
        for part in parts:
            if isinstance(part, ToolResult):
                content.append(self._result(part, after))
                continue
            if after:
                content.extend(after)
                after = []
            content.append(self._block(part))
        return content + after

    def _assistant(self, part: Part) -> JSONDict:
        match part:
            case Thinking(redacted=True, signature=signature) if signature is not None:
                return {"type": "redacted_thinking", "data": signature.value}
            case Thinking():
                return {
                    "type": "thinking",
                    "thinking": part.text,
                    "signature": part.signature.value if part.signature else "",
                }
            case ToolCall():
                return self._call(part)
            case Text() if part.citations:
                block = self._block(part)
                citations = [citation for citation in part.citations if _is_citation(citation)]
                if citations:
                    block["citations"] = citations
                if len(citations) != len(part.citations):
                    self._lose(part, LossCode.DROPPED, "citations in another vendor's form")
                return block
            case Image():
                raise self._unsupported(part, "an image in an assistant turn")
            case _:
                return self._block(part)

    def _call(self, call: ToolCall) -> JSONDict:
        block: JSONDict = {"type": "tool_use", "id": call.id}
        if call.namespace is not None and self._request.dialect == SLUG:
            block["name"] = call.name
            block["toolset_name"] = call.namespace
            self._toolsets[call.id] = call.namespace
        else:
            block["name"] = self._names.wire(call.name, call.namespace)
        block["input"] = arguments_object(call, self._losses)
        caller = self._callers.get(call.id)
        if caller is not None:
            block["caller"] = caller
        self._mark(block, call.cache)
        return block

    def _result(self, result: ToolResult, after: list[JSONDict]) -> JSONDict:
        block: JSONDict = {"type": "tool_result", "tool_use_id": result.call_id}
        content: list[JSONDict] = []
        for part in result.content:
            if isinstance(part, Text) and not part.text.strip():
                continue
            shown = self._block(part)
            if result.is_error and shown["type"] in ("image", "document"):
                # Refused inside an error result: shown right behind the results (trap 76).
                if not after:
                    after.append({"type": "text", "text": _ATTACHED})
                after.append(shown)
                self._losses.append(
                    Loss(
                        path_of(self._request, result),
                        LossCode.MOVED,
                        "a picture of a failed tool, behind the results",
                    )
                )
            else:
                content.append(shown)
        if len(content) == 1 and content[0].keys() == {"type", "text"}:
            block["content"] = content[0]["text"]
        else:
            block["content"] = content or NO_OUTPUT
        if result.is_error:
            block["is_error"] = True
        toolset = self._toolsets.get(result.call_id)
        if toolset is not None:
            block["toolset_name"] = toolset
        self._mark(block, result.cache)
        return block

    def _block(self, part: Part) -> JSONDict:
        block: JSONDict
        cache: CacheMark | None = None
        match part:
            case Text():
                original = carried_block(part)
                if original is not None:
                    block = {k: v for k, v in original.items() if k != "cache_control"}
                else:
                    block = {"type": "text", "text": part.text}
                cache = part.cache
            case Image():
                block = {"type": "image", "source": self._image_source(part)}
                if part.detail not in (None, "auto"):
                    self._lose(part, LossCode.DROPPED, "`detail` of an image", ".detail")
                cache = part.cache
            case Document():
                block = self._document(part)
                cache = part.cache
            case Refusal():
                block = {"type": "text", "text": part.text}
            case Opaque():
                if part.protocol != SLUG:
                    raise self._unsupported(part, f"an item of {part.protocol}")
                return dict(part.value)
            case _:
                raise self._unsupported(part, f"{type(part).__name__.lower()} content")
        self._mark(block, cache)
        return block

    def _mark(self, block: JSONDict, cache: CacheMark | None) -> None:
        if cache is not None:
            self.marked.append((block, cache))

    def _image_source(self, image: Image) -> JSONDict:
        source = image.source
        if isinstance(source, Url):
            return {"type": "url", "url": source.url}
        if isinstance(source, FileId):
            return {"type": "file", "file_id": source.id}
        media_type = source.media_type
        for start, found in _IMAGE_STARTS:
            if source.data.startswith(start):
                if found != media_type:
                    self._lose(image, LossCode.RENAMED, f"{media_type} is really {found}")
                media_type = found
                break
        if media_type not in _IMAGE_TYPES:
            raise self._unsupported(image, f"an image of type {media_type}")
        return {"type": "base64", "media_type": media_type, "data": source.data}

    def _document(self, document: Document) -> JSONDict:
        block: JSONDict = {"type": "document", "source": self._document_source(document)}
        title = document.title or document.filename
        if title:
            block["title"] = title
        if document.context:
            block["context"] = document.context
        if document.citations:
            block["citations"] = {"enabled": True}
        return block

    def _document_source(self, document: Document) -> JSONDict:
        source = document.source
        if isinstance(source, Url):
            return {"type": "url", "url": source.url}
        if isinstance(source, FileId):
            return {"type": "file", "file_id": source.id}
        if source.media_type == "application/pdf":
            return {"type": "base64", "media_type": "application/pdf", "data": source.data}
        if source.media_type.startswith("text/") or source.media_type == "application/json":
            return {
                "type": "text",
                "media_type": "text/plain",
                "data": plain_text(source, path_of(self._request, document)),
            }
        raise self._unsupported(document, f"a document of type {source.media_type}")

    def _lose(self, part: Part, code: LossCode, why: str, suffix: str = "") -> None:
        self._losses.append(Loss(path_of(self._request, part) + suffix, code, why))

    def _unsupported(self, part: Part, what: str) -> UnsupportedContent:
        path = path_of(self._request, part)
        return UnsupportedContent(f"{SLUG} cannot carry {what} ({path}).", param=path)


def plain_text(source: Base64, path: str) -> str:
    try:
        return base64.b64decode(source.data, validate=True).decode()
    except (binascii.Error, ValueError):
        raise LocalProtocolError(
            f"`{path}` must be base64 of UTF-8 text, as its type {source.media_type} says.",
            param=path,
        ) from None


def _is_citation(citation: JSONDict) -> bool:
    needed = _CITATION_FIELDS.get(str(citation.get("type")))
    return needed is not None and all(citation.get(key) not in (None, "") for key in needed)


def end_with_user(messages: list[JSONDict], *, keeps_prefill: bool, losses: list[Loss]) -> None:
    """A conversation that ends with the assistant is a prefill: kept where the model takes it,
    else answered by a filler turn, so that nothing is dropped."""
    if not messages or messages[-1]["role"] != "assistant":
        return
    if not keeps_prefill:
        messages.append({"role": "user", "content": [{"type": "text", "text": FILLER}]})
        losses.append(
            Loss(
                "messages",
                LossCode.EMULATED,
                "this model takes no prefill: the last assistant turn is history, and a user "
                "turn asks to continue",
            )
        )
        return
    last: Any = messages[-1]["content"][-1]
    if last["type"] == "text" and last["text"] != last["text"].rstrip():
        last["text"] = last["text"].rstrip()
        losses.append(Loss("messages", LossCode.CLAMPED, "a prefill must not end with white space"))
