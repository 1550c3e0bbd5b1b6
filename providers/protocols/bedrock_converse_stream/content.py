"""Canonical turns to Converse content blocks."""

from __future__ import annotations

import re
from typing import Final

from controlplane.kit.json import JSONDict
from providers.protocols import signatures
from providers.protocols.alternation import Turn, path_of
from providers.protocols.anthropic_messages.carried import carried_block
from providers.protocols.canonical import (
    Audio,
    Base64,
    CacheMark,
    Document,
    Image,
    ModelSpec,
    Opaque,
    Part,
    Refusal,
    Request,
    Source,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Url,
    Video,
)
from providers.protocols.errors import UnsupportedContent
from providers.protocols.losses import Loss, LossCode
from providers.protocols.tool_calls import WireNames, arguments_object

SLUG: Final = "bedrock-converse-stream"
NO_OUTPUT: Final = "(no tool output)"
_ATTACHED: Final = "Attached image(s) from tool result:"
_ABOUT_DOCUMENT: Final = "See the attached document."

_IMAGES: Final = {
    "image/png": "png",
    "image/jpeg": "jpeg",
    "image/jpg": "jpeg",
    "image/gif": "gif",
    "image/webp": "webp",
}
_DOCUMENTS: Final = {
    "application/pdf": "pdf",
    "text/csv": "csv",
    "application/msword": "doc",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.ms-excel": "xls",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "text/html": "html",
    "text/plain": "txt",
    "application/json": "txt",
    "text/markdown": "md",
}
_AUDIO: Final = {
    "audio/mpeg": "mp3",
    "audio/mp3": "mp3",
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/flac": "flac",
    "audio/ogg": "ogg",
    "audio/opus": "opus",
    "audio/aac": "aac",
    "audio/mp4": "mp4",
    "audio/webm": "webm",
    "audio/pcm": "pcm",
}
_VIDEOS: Final = {
    "video/mp4": "mp4",
    "video/quicktime": "mov",
    "video/x-matroska": "mkv",
    "video/webm": "webm",
    "video/x-flv": "flv",
    "video/mpeg": "mpeg",
    "video/x-ms-wmv": "wmv",
    "video/3gpp": "three_gp",
}
# Letters, digits, single spaces, hyphens, parentheses and square brackets.
_BAD_NAME: Final = re.compile(r"[^A-Za-z0-9\-()\[\] ]+")


def keeps_thinking(thinking: Thinking, model: ModelSpec) -> bool:
    return signatures.belongs_to(thinking.signature, model)


class ContentWriter:
    """Writes the messages of one request."""

    def __init__(
        self, request: Request, model: ModelSpec, names: WireNames, losses: list[Loss]
    ) -> None:
        self._request = request
        self._model = model
        self._names = names
        self._losses = losses
        self._documents = 0
        # (list, block, mark): a cache point goes directly behind its block.
        self.marked: list[tuple[list[JSONDict], JSONDict, CacheMark]] = []
        self.used_tools: dict[str, None] = {}

    def messages(self, turns: list[Turn]) -> list[JSONDict]:
        return [
            {
                "role": turn.role,
                "content": self._user(turn.parts)
                if turn.role == "user"
                else self._assistant(turn.parts),
            }
            for turn in turns
        ]

    def _user(self, parts: list[Part]) -> list[JSONDict]:
        content: list[JSONDict] = []
        after: list[JSONDict] = []
        for part in parts:
            if isinstance(part, ToolResult):
                self._add(content, self._result(part, after), part.cache)
                continue
            content.extend(after)
            after = []
            self._add(content, self._block(part), getattr(part, "cache", None))
        content.extend(after)
        if any("document" in block for block in content) and not any(
            "text" in block for block in content
        ):
            # Converse wants a text beside a document.
            content.append({"text": _ABOUT_DOCUMENT})
            self._losses.append(
                Loss("messages", LossCode.SYNTHESISED, "a text beside a document without one")
            )
        return content

    def _assistant(self, parts: list[Part]) -> list[JSONDict]:
        content: list[JSONDict] = []
        for part in parts:
            match part:
                case Thinking():
                    content.append({"reasoningContent": self._reasoning(part)})
                case ToolCall():
                    name = self._names.wire(part.name, part.namespace)
                    self.used_tools[name] = None
                    value = _without_empty_keys(arguments_object(part, self._losses))
                    call = {"toolUseId": part.id, "name": name, "input": value}
                    self._add(content, {"toolUse": call}, part.cache)
                case Image() | Document():
                    raise self._unsupported(part, "media in an assistant turn")
                case _:
                    if isinstance(part, Text) and part.citations and not carried_block(part):
                        self._losses.append(
                            Loss(
                                path_of(self._request, part),
                                LossCode.DROPPED,
                                "citations of an earlier answer",
                            )
                        )
                    self._add(content, self._block(part), getattr(part, "cache", None))
        return content

    def _add(self, content: list[JSONDict], block: JSONDict, cache: CacheMark | None) -> None:
        content.append(block)
        if cache is not None:
            self.marked.append((content, block, cache))

    def _reasoning(self, thinking: Thinking) -> JSONDict:
        value = thinking.signature.value if thinking.signature is not None else ""
        if thinking.redacted:
            return {"redactedContent": value}
        text: JSONDict = {"text": thinking.text}
        if self._model.quirks.is_claude:
            # Other models refuse the field (trap 113).
            text["signature"] = value
        return {"reasoningText": text}

    def _result(self, result: ToolResult, after: list[JSONDict]) -> JSONDict:
        content: list[JSONDict] = []
        for part in result.content:
            if isinstance(part, Text) and not part.text.strip():
                continue
            if isinstance(part, Audio):
                raise self._unsupported(part, "audio in a tool result")
            block = self._block(part)
            if result.is_error and self._model.quirks.is_claude and "text" not in block:
                # Claude refuses them inside an error result (trap 76).
                if not after:
                    after.append({"text": _ATTACHED})
                after.append(block)
                self._losses.append(
                    Loss(
                        path_of(self._request, result),
                        LossCode.MOVED,
                        "a picture of a failed tool, behind the results",
                    )
                )
            else:
                content.append(block)
        return {
            "toolResult": {
                "toolUseId": result.call_id,
                "content": content or [{"text": NO_OUTPUT}],
                "status": "error" if result.is_error else "success",
            }
        }

    def _block(self, part: Part) -> JSONDict:
        match part:
            case Text():
                original = carried_block(part)
                if original is not None and original.get("type") == "search_result":
                    return {"searchResult": _search_result(original)}
                return {"text": part.text}
            case Refusal():
                return {"text": part.text}
            case Image():
                if part.detail not in (None, "auto"):
                    self._losses.append(
                        Loss(
                            path_of(self._request, part) + ".detail",
                            LossCode.DROPPED,
                            "`detail` of an image",
                        )
                    )
                return {"image": self._media(part, part.source, _IMAGES, "an image")}
            case Document():
                return {"document": self._document(part)}
            case Audio():
                return {"audio": self._media(part, part.source, _AUDIO, "audio")}
            case Video():
                return {"video": self._media(part, part.source, _VIDEOS, "video")}
            case Opaque() if part.protocol == SLUG:
                return dict(part.value)
            case Opaque():
                raise self._unsupported(part, f"an item of {part.protocol}")
            case _:
                raise self._unsupported(part, f"{type(part).__name__.lower()} content")

    def _media(self, part: Part, source: Source, formats: dict[str, str], what: str) -> JSONDict:
        form = formats.get((source.media_type or "").partition(";")[0].strip().lower())
        if form is None and isinstance(source, Url):
            form = _format_of_name(source.url, formats)
        if form is None:
            raise self._unsupported(part, f"{what} of type {source.media_type or 'unknown'}")
        return {"format": form, "source": self._source(part, source, what)}

    def _source(self, part: Part, source: Source, what: str) -> JSONDict:
        if isinstance(source, Base64):
            return {"bytes": source.data}
        if isinstance(source, Url) and source.url.startswith("s3://"):
            return {"s3Location": {"uri": source.url}}
        raise self._unsupported(part, f"{what} by reference: send it as base64")

    def _document(self, document: Document) -> JSONDict:
        self._documents += 1
        title = document.title or document.filename or ""
        # A file's name without its ending; the ending is said in `format`.
        name = " ".join(_BAD_NAME.sub(" ", title.rsplit(".", 1)[0]).split())[:180]
        number = self._documents
        block = self._media(document, document.source, _DOCUMENTS, "a document")
        # Names must differ, and must not change from turn to turn.
        block["name"] = f"{name} {number}" if name else f"document {number}"
        if document.context:
            block["context"] = document.context
        if document.citations:
            block["citations"] = {"enabled": True}
        return block

    def _unsupported(self, part: Part, what: str) -> UnsupportedContent:
        path = path_of(self._request, part)
        return UnsupportedContent(f"{SLUG} cannot carry {what} ({path}).", param=path)


def _format_of_name(url: str, formats: dict[str, str]) -> str | None:
    ending = url.rpartition(".")[2].lower()
    ending = {"jpg": "jpeg", "3gp": "three_gp"}.get(ending, ending)
    return ending if ending in formats.values() else None


def _search_result(block: JSONDict) -> JSONDict:
    citations = block.get("citations")
    is_cited = isinstance(citations, dict) and citations.get("enabled") is True
    return {
        "source": block["source"],
        "title": block["title"],
        "content": [{"text": entry["text"]} for entry in block["content"]],
        "citations": {"enabled": is_cited},
    }


def _without_empty_keys(value: JSONDict, depth: int = 0) -> JSONDict:
    """Converse refuses objects with an empty key: it is sent as an underscore (trap 47)."""
    if depth > 64:
        return value
    out: JSONDict = {}
    for key, item in value.items():
        if isinstance(item, dict):
            item = _without_empty_keys(item, depth + 1)
        elif isinstance(item, list):
            item = [
                _without_empty_keys(entry, depth + 1) if isinstance(entry, dict) else entry
                for entry in item
            ]
        out[key or "_"] = item
    return out
