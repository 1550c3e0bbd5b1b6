"""The `messages` of a Chat Completions client, as canonical turns."""

from __future__ import annotations

from typing import Any, Literal

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
    Video,
)
from providers.protocols.openai_completions import reading
from providers.protocols.openai_completions.details import Returned
from providers.protocols.openai_completions.media import audio_of, source_of
from providers.protocols.openai_completions.reading import wrong

Content = Text | Image | Document | Audio | Video
_THINKING_FIELDS = ("reasoning_content", "reasoning", "reasoning_text")


def conversation(
    entries: list[Any], protocol: str
) -> tuple[tuple[SystemText, ...], tuple[Message, ...]]:
    """Leading system texts, and the turns; consecutive results become one turn."""
    reader = _Reader(protocol)
    for index, entry in enumerate(entries):
        path = f"messages[{index}]"
        reader.read(reading.as_mapping(entry, path), path)
    reader.flush()
    return tuple(reader.system), tuple(reader.messages)


class _Reader:
    def __init__(self, protocol: str) -> None:
        self.protocol = protocol
        self.system: list[SystemText] = []
        self.messages: list[Message] = []
        self._results: list[ToolResult] = []
        # Legacy calls have no ids: theirs is their place in the conversation (trap 50).
        self._legacy_calls: list[tuple[str, str]] = []

    def read(self, entry: JSONDict, path: str) -> None:
        role = entry.get("role")
        if role == "tool":
            self._results.append(_result(entry, path))
            return
        if role == "function":
            self._results.append(self._legacy_result(entry, path))
            return
        self.flush()
        if role == "user":
            parts: tuple[Part, ...] = tuple(content_parts(entry.get("content"), path))
        elif role == "assistant":
            parts = tuple(self._assistant(entry, path))
        elif role in ("system", "developer"):
            self._system(entry, "system" if role == "system" else "developer", path)
            return
        else:
            raise wrong(
                f"{path}.role",
                "must be one of developer, system, user, assistant, tool, function",
            )
        name = reading.string(entry, "name", f"{path}.")
        self.messages.append(
            Message(role="user" if role == "user" else "assistant", parts=parts, name=name)
        )

    def flush(self) -> None:
        """Results end with the next message of another role."""
        if self._results:
            self.messages.append(Message(role="tool", parts=tuple(self._results)))
            self._results = []

    def _system(self, entry: JSONDict, origin: Literal["system", "developer"], path: str) -> None:
        texts: list[Text] = []
        for index, part in enumerate(content_parts(entry.get("content"), path)):
            if not isinstance(part, Text):
                raise wrong(f"{path}.content[{index}]", f"must be text in a {origin} message")
            texts.append(part)
        if self.messages:
            name = reading.string(entry, "name", f"{path}.")
            self.messages.append(Message(role="system", parts=tuple(texts), name=name))
            return
        self.system.extend(
            SystemText(text=text.text, origin=origin, cache=text.cache)
            for text in texts
            if text.text
        )

    def _legacy_result(self, entry: JSONDict, path: str) -> ToolResult:
        name = reading.required_string(entry, "name", f"{path}.")
        matching = [id_ for id_, called in self._legacy_calls if called == name]
        return ToolResult(
            call_id=matching[-1] if matching else f"call_legacy_{name}",
            content=result_content(entry.get("content"), path),
            name=name,
        )

    def _assistant(self, entry: JSONDict, path: str) -> list[Part]:
        returned = self._returned(entry, path)
        parts: list[Part] = []
        if returned is not None and returned.thinking:
            parts += returned.thinking
        else:
            thought = _thought(entry, path)
            if thought:
                parts.append(Thinking(text=thought))
        proof = returned.text if returned is not None else None
        for part in _assistant_content(entry, path):
            if isinstance(part, Text) and proof is not None and part.text:
                part = _signed(part, proof)
                proof = None
            parts.append(part)
        calls: dict[str, Signature] = returned.calls if returned is not None else {}
        at = f"{path}."
        for index, value in enumerate(reading.items(entry, "tool_calls", at)):
            where = f"{at}tool_calls[{index}]"
            parts.append(_call(reading.as_mapping(value, where), f"{where}.", calls))
        legacy = reading.mapping(entry, "function_call", at)
        if legacy is not None:
            id_ = f"call_legacy_{len(self._legacy_calls)}"
            name = reading.required_string(legacy, "name", f"{at}function_call.")
            self._legacy_calls.append((id_, name))
            arguments = _arguments(legacy, "arguments", f"{at}function_call.")
            parts.append(ToolCall(id=id_, name=name, arguments=arguments))
        audio = reading.mapping(entry, "audio", at)
        if audio is not None:
            parts.append(Opaque(protocol=self.protocol, value={"audio": audio}))
        if returned is not None and returned.empty_text is not None:
            parts.append(Text(text="", signature=returned.empty_text))
        return parts

    def _returned(self, entry: JSONDict, path: str) -> Returned | None:
        details = reading.items(entry, "reasoning_details", f"{path}.")
        if not details:
            return None
        where = f"{path}.reasoning_details"
        return Returned(
            [reading.as_mapping(value, f"{where}[{i}]") for i, value in enumerate(details)],
            self.protocol,
        )


def _signed(part: Text, proof: Signature) -> Text:
    return Text(text=part.text, cache=part.cache, signature=proof)


def _thought(entry: JSONDict, path: str) -> str:
    """The first that is not empty: some vendors fill two fields with the same (trap 98)."""
    for key in _THINKING_FIELDS:
        if key in entry:
            text = reading.string(entry, key, f"{path}.")
            if text:
                return text
    return ""


def _assistant_content(entry: JSONDict, path: str) -> list[Text | Refusal]:
    content = entry.get("content")
    parts: list[Text | Refusal] = []
    if type(content) is str:
        if content:
            parts.append(Text(text=content))
    elif content is not None:
        if type(content) is not list:
            raise wrong(f"{path}.content", "must be a string, an array of parts, or null")
        for index, value in enumerate(content):
            where = f"{path}.content[{index}]"
            part = reading.as_mapping(value, where)
            kind = part.get("type")
            if kind == "refusal":
                parts.append(Refusal(text=reading.any_string(part, "refusal", f"{where}.")))
            elif kind == "text":
                parts.append(_text(part, f"{where}."))
            else:
                raise wrong(f"{where}.type", "must be text or refusal in an assistant message")
    refusal = reading.string(entry, "refusal", f"{path}.")
    if refusal:
        parts.append(Refusal(text=refusal))
    return parts


def _text(part: JSONDict, at: str) -> Text:
    cache = reading.cache_mark(part, at) if len(part) > 2 else None
    return Text(text=reading.any_string(part, "text", at), cache=cache)


def content_parts(content: object, path: str) -> list[Content]:
    if type(content) is str:
        return [Text(text=content)]
    if type(content) is not list:
        raise wrong(f"{path}.content", "must be a string or an array of parts")
    parts: list[Content] = []
    for index, value in enumerate(content):
        where = f"{path}.content[{index}]"
        parts.append(_part(reading.as_mapping(value, where), where))
    return parts


def _part(part: JSONDict, path: str) -> Content:
    at = f"{path}."
    kind = part.get("type")
    if kind == "text":
        return _text(part, at)
    if kind == "image_url":
        url, detail = _link(part, "image_url", at)
        return Image(
            source=source_of(url, f"{path}.image_url", "image/png"),
            # `auto` is what leaving it out means.
            detail=None if detail == "auto" else detail,
            cache=reading.cache_mark(part, at),
        )
    if kind == "input_audio":
        audio = reading.required_mapping(part, "input_audio", at)
        inner = f"{at}input_audio."
        return audio_of(
            reading.required_string(audio, "data", inner),
            reading.required_string(audio, "format", inner),
        )
    if kind == "video_url":
        url, _ = _link(part, "video_url", at)
        return Video(source=source_of(url, f"{path}.video_url", "video/mp4"))
    if kind == "file":
        return _file(part, at)
    if kind == "refusal":
        return Text(text=reading.any_string(part, "refusal", at))
    raise wrong(f"{path}.type", "must be one of text, image_url, input_audio, file, video_url")


def _link(part: JSONDict, key: str, at: str) -> tuple[str, str | None]:
    """An object with `url`, or the bare string that many clients send (trap 179)."""
    value = part.get(key)
    if type(value) is str:
        return value, None
    link = reading.required_mapping(part, key, at)
    inner = f"{at}{key}."
    return reading.required_string(link, "url", inner), reading.string(link, "detail", inner)


def _file(part: JSONDict, at: str) -> Document | Image | Audio | Video:
    """By media type, not by field: clients send everything as a file (trap 178)."""
    file = reading.required_mapping(part, "file", at)
    inner = f"{at}file."
    cache = reading.cache_mark(part, at)
    filename = reading.string(file, "filename", inner)
    id_ = reading.string(file, "file_id", inner)
    if id_:
        return Document(source=FileId(id=id_), filename=filename, cache=cache)
    data = reading.required_string(file, "file_data", inner)
    if data[:5].lower() != "data:" and "://" not in data[:12]:
        data = f"data:;base64,{data}"
    source = source_of(data, f"{inner}file_data", "application/pdf")
    if not isinstance(source, Url):
        if source.media_type.startswith("image/"):
            return Image(source=source, cache=cache)
        if source.media_type.startswith("audio/"):
            return Audio(source=source)
        if source.media_type.startswith("video/"):
            return Video(source=source)
    return Document(source=source, filename=filename, cache=cache)


def _call(entry: JSONDict, at: str, proofs: dict[str, Signature]) -> ToolCall:
    id_ = reading.required_string(entry, "id", at)
    cache = reading.cache_mark(entry, at) if len(entry) > 3 else None
    if entry.get("type") == "custom":
        inner = reading.required_mapping(entry, "custom", at)
        return ToolCall(
            id=id_,
            name=reading.required_string(inner, "name", f"{at}custom."),
            arguments=reading.string(inner, "input", f"{at}custom.") or "",
            kind="custom",
            signature=proofs.get(id_),
            cache=cache,
        )
    inner = reading.required_mapping(entry, "function", at)
    return ToolCall(
        id=id_,
        name=reading.required_string(inner, "name", f"{at}function."),
        arguments=_arguments(inner, "arguments", f"{at}function."),
        signature=proofs.get(id_),
        cache=cache,
    )


def _arguments(inner: JSONDict, key: str, at: str) -> str:
    """Text as it is; objects, which careless clients send, are written as text (traps 45, 46)."""
    value = inner.get(key)
    if type(value) is str:
        return value or "{}"
    if value is None:
        return "{}"
    if type(value) in (dict, list):
        return dumps_str(value)
    raise wrong(at + key, "must be a string of JSON")


def _result(entry: JSONDict, path: str) -> ToolResult:
    return ToolResult(
        call_id=reading.required_string(entry, "tool_call_id", f"{path}."),
        content=result_content(entry.get("content"), path),
        name=reading.string(entry, "name", f"{path}."),
        cache=reading.cache_mark(entry, f"{path}."),
    )


def result_content(content: object, path: str) -> tuple[Content, ...]:
    """A string, parts, an object, null or nothing at all (trap 74)."""
    if content is None:
        return ()
    if type(content) is str:
        return (Text(text=content),) if content else ()
    if type(content) is dict:
        return (Text(text=dumps_str(content)),)
    if type(content) is not list:
        raise wrong(f"{path}.content", "must be a string or an array of parts")
    if all(type(part) is dict and type(part.get("type")) is str for part in content):
        return tuple(content_parts(content, path))
    # An array that is data, not parts.
    return (Text(text=dumps_str(content)),)
