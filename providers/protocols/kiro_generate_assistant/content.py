"""Canonical turns to Kiro's conversation entries."""

from __future__ import annotations

import base64
import binascii
from typing import Final

from controlplane.kit.json import JSONDict
from providers.protocols.alternation import Turn, path_of
from providers.protocols.canonical import (
    Base64,
    Document,
    Image,
    ModelSpec,
    Part,
    Refusal,
    Request,
    Text,
    ToolCall,
    ToolResult,
)
from providers.protocols.errors import LocalProtocolError, UnsupportedContent
from providers.protocols.kiro_generate_assistant.names import SLUG, KiroNames
from providers.protocols.losses import Loss, LossCode
from providers.protocols.tool_calls import arguments_object

# Empty content is refused everywhere.
FILL_USER: Final = "Continue"
FILL_RESULTS: Final = "Tool results provided."
FILL_ASSISTANT: Final = "."
NO_OUTPUT: Final = "(no tool output)"
_FORMATS: Final = {
    "image/png": "png",
    "image/jpeg": "jpeg",
    "image/jpg": "jpeg",
    "image/gif": "gif",
    "image/webp": "webp",
}


class EntryWriter:
    def __init__(
        self, request: Request, model: ModelSpec, names: KiroNames, losses: list[Loss]
    ) -> None:
        self._request = request
        self._model = model
        self._names = names
        self._losses = losses
        self.used_tools: dict[str, None] = {}

    def entries(self, turns: list[Turn]) -> list[JSONDict]:
        return [
            self._user(turn.parts) if turn.role == "user" else self._assistant(turn.parts)
            for turn in turns
        ]

    def _user(self, parts: list[Part]) -> JSONDict:
        texts: list[str] = []
        images: list[JSONDict] = []
        results: list[JSONDict] = []
        for part in parts:
            if isinstance(part, ToolResult):
                results.append(self._result(part, images))
            elif isinstance(part, Image):
                images.append(self._image(part))
            else:
                texts.append(self._text(part))
        content = "\n\n".join(texts) or (FILL_RESULTS if results else FILL_USER)
        message: JSONDict = {
            "content": content,
            "modelId": self._model.id,
            "origin": "AI_EDITOR",
        }
        if images:
            message["images"] = images
        if results:
            message["userInputMessageContext"] = {"toolResults": results}
        return {"userInputMessage": message}

    def _assistant(self, parts: list[Part]) -> JSONDict:
        texts: list[str] = []
        calls: list[JSONDict] = []
        for part in parts:
            if isinstance(part, ToolCall):
                name = self._names.wire(part.name, part.namespace)
                self.used_tools[name] = None
                calls.append(
                    {
                        "toolUseId": part.id,
                        "name": name,
                        "input": arguments_object(part, self._losses),
                    }
                )
                continue
            if calls:
                self._lose(part, LossCode.MOVED, "text behind a call, in front of it")
            texts.append(self._text(part))
        message: JSONDict = {"content": "\n\n".join(texts) or FILL_ASSISTANT}
        if calls:
            message["toolUses"] = calls
        return {"assistantResponseMessage": message}

    def _result(self, result: ToolResult, images: list[JSONDict]) -> JSONDict:
        texts: list[JSONDict] = []
        for part in result.content:
            if isinstance(part, Image):
                images.append(self._image(part))
                self._lose(result, LossCode.MOVED, "a tool's image, to the user message")
            elif not (isinstance(part, Text) and not part.text.strip()):
                texts.append({"text": self._text(part)})
        return {
            "toolUseId": result.call_id,
            "status": "error" if result.is_error else "success",
            "content": texts or [{"text": NO_OUTPUT}],
        }

    def _image(self, image: Image) -> JSONDict:
        source = image.source
        if not isinstance(source, Base64):
            raise self._unsupported(image, "an image by reference: send it as base64")
        form = _FORMATS.get(source.media_type.lower())
        if form is None:
            raise self._unsupported(image, f"an image of type {source.media_type}")
        if image.detail not in (None, "auto"):
            self._lose(image, LossCode.DROPPED, "`detail` of an image", ".detail")
        return {"format": form, "source": {"bytes": source.data}}

    def _text(self, part: Part) -> str:
        match part:
            case Text():
                return part.text
            case Refusal():
                return part.text
            case Document():
                return self._document(part)
            case _:
                raise self._unsupported(part, f"{type(part).__name__.lower()} content")

    def _document(self, document: Document) -> str:
        source = document.source
        if not isinstance(source, Base64) or not (
            source.media_type.startswith("text/") or source.media_type == "application/json"
        ):
            raise self._unsupported(document, f"a document of type {source.media_type}")
        try:
            text = base64.b64decode(source.data, validate=True).decode()
        except (binascii.Error, ValueError):
            path = path_of(self._request, document)
            raise LocalProtocolError(
                f"`{path}` must be base64 of UTF-8 text, as its type says.", param=path
            ) from None
        self._lose(document, LossCode.MOVED, "a text document, into the message")
        heading = "\n".join(
            line for line in (document.title or document.filename, document.context) if line
        )
        return f"{heading}\n\n{text}" if heading else text

    def _lose(self, part: Part, code: LossCode, why: str, suffix: str = "") -> None:
        self._losses.append(Loss(path_of(self._request, part) + suffix, code, why))

    def _unsupported(self, part: Part, what: str) -> UnsupportedContent:
        path = path_of(self._request, part)
        return UnsupportedContent(f"{SLUG} cannot carry {what} ({path}).", param=path)
