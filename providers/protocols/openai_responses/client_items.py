"""The `input` of a Responses client: a flat list of items, as canonical turns."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from controlplane.kit.json import JSONDict, dumps_str
from providers.protocols.canonical import (
    Audio,
    Document,
    FileId,
    Image,
    Message,
    Opaque,
    Part,
    Refusal,
    Signature,
    SystemText,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Url,
)
from providers.protocols.openai_completions import reading
from providers.protocols.openai_completions.media import audio_of, source_of
from providers.protocols.openai_completions.reading import wrong
from providers.protocols.openai_responses import carriers
from providers.protocols.openai_responses.carriers import SLUG

Content = Text | Image | Document | Audio
_PHASES: Final = ("commentary", "final_answer")


def conversation(body: JSONDict) -> tuple[tuple[SystemText, ...], tuple[Message, ...]]:
    value = body.get("input")
    if type(value) is str:
        # (trap 182)
        return (), (Message(role="user", parts=(Text(text=value),)),)
    reader = _Reader()
    for index, entry in enumerate(reading.items(body, "input", limit=reading.MAX_MESSAGES)):
        path = f"input[{index}]"
        reader.read(reading.as_mapping(entry, path), path)
    reader.flush()
    return tuple(reader.system), tuple(reader.messages)


class _Reader:
    """Items of one answer become one assistant turn, outputs that follow it one tool turn."""

    def __init__(self) -> None:
        self.system: list[SystemText] = []
        self.messages: list[Message] = []
        self._parts: list[Part] = []
        self._results: list[ToolResult] = []
        self._proofs: dict[str, Signature] = {}

    def read(self, item: JSONDict, path: str) -> None:
        kind = item.get("type")
        if kind is None or kind == "message":
            self._message(item, path)
        elif kind == "function_call":
            self._part(_function_call(item, f"{path}."))
        elif kind == "custom_tool_call":
            self._part(_custom_call(item, f"{path}."))
        elif kind in ("function_call_output", "custom_tool_call_output"):
            self._end_answer()
            is_custom = kind == "custom_tool_call_output"
            self._results.append(_output(item, path, "custom" if is_custom else "function"))
        elif kind == "reasoning":
            self._reasoning(item, path)
        elif type(kind) is str:
            # Built-in calls, references, compaction, and what is yet to come.
            self._part(Opaque(protocol=SLUG, value=item))
        else:
            raise wrong(f"{path}.type", "must be a string")

    def _part(self, part: Part) -> None:
        self._end_results()
        self._parts.append(part)

    def flush(self) -> None:
        self._end_answer()
        self._end_results()

    def _end_answer(self) -> None:
        if not self._parts:
            return
        parts = self._parts
        if self._proofs:
            parts = [
                msgspec.structs.replace(part, signature=self._proofs[part.id])
                if isinstance(part, ToolCall) and part.id in self._proofs
                else part
                for part in parts
            ]
            self._proofs = {}
        self.messages.append(Message(role="assistant", parts=tuple(parts)))
        self._parts = []

    def _end_results(self) -> None:
        if self._results:
            self.messages.append(Message(role="tool", parts=tuple(self._results)))
            self._results = []

    def _message(self, item: JSONDict, path: str) -> None:
        role = item.get("role")
        if role == "assistant":
            for part in _said(item, path):
                self._part(part)
            return
        self.flush()
        if role == "user":
            parts: tuple[Part, ...] = tuple(input_parts(item.get("content"), path))
            self.messages.append(Message(role="user", parts=parts))
        elif role in ("system", "developer"):
            self._system(item, "system" if role == "system" else "developer", path)
        else:
            raise wrong(f"{path}.role", "must be one of user, assistant, system, developer")

    def _system(self, item: JSONDict, origin: Literal["system", "developer"], path: str) -> None:
        texts: list[Text] = []
        for index, part in enumerate(input_parts(item.get("content"), path)):
            if not isinstance(part, Text):
                raise wrong(f"{path}.content[{index}]", f"must be text in a {origin} message")
            texts.append(part)
        if self.messages:
            self.messages.append(Message(role="system", parts=tuple(texts)))
        else:
            self.system += [
                SystemText(text=text.text, origin=origin, cache=text.cache)
                for text in texts
                if text.text
            ]

    def _reasoning(self, item: JSONDict, path: str) -> None:
        at = f"{path}."
        summary = tuple(
            reading.any_string(reading.as_mapping(entry, f"{at}summary[{i}]"), "text", at)
            for i, entry in enumerate(reading.items(item, "summary", at))
        )
        content = [
            reading.any_string(reading.as_mapping(entry, f"{at}content[{i}]"), "text", at)
            for i, entry in enumerate(reading.items(item, "content", at))
        ]
        encrypted = reading.string(item, "encrypted_content", at)
        item_id = reading.string(item, "id", at)
        signature: Signature | None = None
        if encrypted:
            proof = carriers.read(encrypted)
            if proof.of == "call":
                self._proofs[proof.call_id] = proof.signature
                return
            if proof.of != "thinking":
                self._sign_text(proof)
                return
            signature = proof.signature
        text = "\n\n".join(summary or content)
        self._part(
            Thinking(
                text=text,
                signature=signature,
                redacted=not text,
                summary=summary,
                item_id=item_id or None,
            )
        )

    def _sign_text(self, proof: carriers.Proof) -> None:
        """On the last text of this answer, or on an empty one of its own (trap 82)."""
        if proof.of == "text":
            for index in range(len(self._parts) - 1, -1, -1):
                part = self._parts[index]
                if isinstance(part, Text) and part.signature is None:
                    self._parts[index] = msgspec.structs.replace(part, signature=proof.signature)
                    return
        self._part(Text(text="", signature=proof.signature))


def _phase(item: JSONDict, path: str) -> str | None:
    return reading.one_of(item, "phase", _PHASES, f"{path}.")


def _said(item: JSONDict, path: str) -> list[Text | Refusal]:
    content = item.get("content")
    phase = _phase(item, path)
    if type(content) is str:
        return [Text(text=content, phase=phase)] if content else []
    parts: list[Text | Refusal] = []
    for index, entry in enumerate(reading.items(item, "content", f"{path}.")):
        where = f"{path}.content[{index}]"
        part = reading.as_mapping(entry, where)
        kind = part.get("type")
        if kind in ("output_text", "input_text", "text"):
            citations = reading.items(part, "annotations", f"{where}.")
            parts.append(
                Text(
                    text=reading.any_string(part, "text", f"{where}."),
                    citations=tuple(
                        reading.as_mapping(value, f"{where}.annotations[{number}]")
                        for number, value in enumerate(citations)
                    ),
                    phase=phase,
                )
            )
        elif kind == "refusal":
            parts.append(Refusal(text=reading.any_string(part, "refusal", f"{where}.")))
        else:
            raise wrong(f"{where}.type", "must be output_text or refusal in an assistant message")
    return parts


def input_parts(content: object, path: str) -> list[Content]:
    if type(content) is str:
        return [Text(text=content)]
    if type(content) is not list:
        raise wrong(f"{path}.content", "must be a string or an array of parts")
    return [
        _part(reading.as_mapping(entry, f"{path}.content[{index}]"), f"{path}.content[{index}]")
        for index, entry in enumerate(content)
    ]


def _part(part: JSONDict, path: str) -> Content:
    at = f"{path}."
    kind = part.get("type")
    cache = reading.cache_mark(part, at)
    if kind in ("input_text", "output_text", "text"):
        return Text(text=reading.any_string(part, "text", at), cache=cache)
    if kind == "input_image":
        return _image(part, path)
    if kind == "input_file":
        return _file(part, path)
    if kind == "input_audio":
        audio = reading.required_mapping(part, "input_audio", at)
        inner = f"{at}input_audio."
        return audio_of(
            reading.required_string(audio, "data", inner),
            reading.required_string(audio, "format", inner),
        )
    if kind == "refusal":
        return Text(text=reading.any_string(part, "refusal", at))
    raise wrong(f"{path}.type", "must be one of input_text, input_image, input_file, input_audio")


def _image(part: JSONDict, path: str) -> Image:
    at = f"{path}."
    detail = reading.string(part, "detail", at)
    detail = None if detail == "auto" else detail
    cache = reading.cache_mark(part, at)
    id_ = reading.string(part, "file_id", at)
    if id_:
        return Image(source=FileId(id=id_), detail=detail, cache=cache)
    url = part.get("image_url")
    if type(url) is dict:
        # The Chat form, which clients send here too (trap 179).
        url = url.get("url")
    if type(url) is not str:
        raise wrong(f"{path}.image_url", "is required and must be a string")
    source = source_of(url, f"{path}.image_url", "image/png")
    return Image(source=source, detail=detail, cache=cache)


def _file(part: JSONDict, path: str) -> Document | Image | Audio:
    at = f"{path}."
    cache = reading.cache_mark(part, at)
    filename = reading.string(part, "filename", at)
    id_ = reading.string(part, "file_id", at)
    if id_:
        return Document(source=FileId(id=id_), filename=filename, cache=cache)
    url = reading.string(part, "file_url", at)
    if url:
        return Document(source=Url(url=url), filename=filename, cache=cache)
    data = reading.required_string(part, "file_data", at)
    if data[:5].lower() != "data:":
        data = f"data:;base64,{data}"
    source = source_of(data, f"{path}.file_data", "application/pdf")
    if not isinstance(source, Url):
        if source.media_type.startswith("image/"):
            return Image(source=source, cache=cache)
        if source.media_type.startswith("audio/"):
            return Audio(source=source)
    return Document(source=source, filename=filename, cache=cache)


def _function_call(item: JSONDict, at: str) -> ToolCall:
    return ToolCall(
        id=reading.required_string(item, "call_id", at),
        name=reading.required_string(item, "name", at),
        arguments=_arguments(item.get("arguments"), at),
        namespace=reading.string(item, "namespace", at),
        item_id=reading.string(item, "id", at),
    )


def _arguments(value: Any, at: str) -> str:
    if type(value) is str:
        return value or "{}"
    if value is None:
        return "{}"
    if type(value) in (dict, list):
        return dumps_str(value)
    raise wrong(f"{at}arguments", "must be a string of JSON")


def _custom_call(item: JSONDict, at: str) -> ToolCall:
    return ToolCall(
        id=reading.required_string(item, "call_id", at),
        name=reading.required_string(item, "name", at),
        arguments=reading.string(item, "input", at) or "",
        kind="custom",
        namespace=reading.string(item, "namespace", at),
        item_id=reading.string(item, "id", at),
    )


def _output(item: JSONDict, path: str, kind: Literal["function", "custom"]) -> ToolResult:
    value = item.get("output")
    content: tuple[Text | Image | Document | Audio, ...]
    if value is None or value == "":
        content = ()
    elif type(value) is str:
        content = (Text(text=value),)
    elif type(value) is list and all(
        type(part) is dict and type(part.get("type")) is str for part in value
    ):
        content = tuple(_part(part, f"{path}.output[{index}]") for index, part in enumerate(value))
    else:
        # Data instead of text (trap 74).
        content = (Text(text=dumps_str(value)),)
    return ToolResult(
        call_id=reading.required_string(item, "call_id", f"{path}."), content=content, kind=kind
    )
