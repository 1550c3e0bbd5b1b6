"""A Gemini client's `contents` as a conversation.

Google's wire has no tool role, often no call ids, and its clients send one model turn back as
many small contents, one per chunk they received. Here that becomes the canonical shape.
"""

from __future__ import annotations

from typing import Any, Final

from controlplane.kit.json import JSONDict, dumps_str
from providers.protocols import signatures
from providers.protocols.canonical import (
    Audio,
    Base64,
    Document,
    Image,
    Message,
    Opaque,
    Part,
    Signature,
    Source,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Url,
    Video,
)
from providers.protocols.errors import LocalProtocolError
from providers.protocols.google_generative_ai.family import (
    OPAQUE_FIELDS,
    SLUG,
    standard_base64,
)
from providers.protocols.google_generative_ai.fields import (
    inner,
    items,
    members,
    text,
    wrong,
)

MAX_CONTENTS: Final = 10_000
_YOUTUBE: Final = ("https://www.youtube.com/", "https://youtu.be/", "https://youtube.com/")
# Beside the content of a part: knobs of Google's without a canonical meaning.
_PART_KNOBS: Final = ("videoMetadata", "mediaResolution", "partMetadata", "mediaProcessing")
_USER_ROLES: Final = frozenset({"user", "function", "tool", ""})

Media = Image | Audio | Video | Document


class Conversation:
    """Feed contents in order with `add`, then take `messages`. `knobs` holds fields of parts
    that no other wire knows, by their path."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.knobs: JSONDict = {}
        self._turn: list[tuple[Part, bool]] = []
        # Calls of the last model turn that wait for a result: [id, name].
        self._open: list[tuple[str, str]] = []
        self._counts: dict[str, int] = {}
        self._ids: set[str] = set()

    def add(self, value: Any, path: str) -> None:
        content = members(value, path)
        role = text(content, "role", path) or ""
        parts = items(content, "parts", path)
        if role == "model":
            self._model(parts, path)
        elif role in _USER_ROLES:
            self._user(parts, path)
        else:
            raise LocalProtocolError(
                f"{path}.role must be 'user' or 'model', not {role[:50]!r}.", param=f"{path}.role"
            )

    def close(self) -> tuple[Message, ...]:
        self._flush()
        return tuple(self.messages)

    # --- model turns ---------------------------------------------------------------------

    def _model(self, parts: list[Any], path: str) -> None:
        if not self._turn:
            self._open = []
        for index, value in enumerate(parts):
            part = self._part(value, f"{path}.parts[{index}]")
            if isinstance(part, ToolResult):
                raise LocalProtocolError(
                    f"{path}.parts[{index}] holds a functionResponse in a model turn. "
                    "Send it with role 'user'.",
                    param=f"{path}.parts[{index}]",
                )
            self._turn.append((part, index == 0))

    def _flush(self) -> None:
        if self._turn:
            parts = _joined(self._turn)
            self._turn = []
            if parts:
                self.messages.append(Message(role="assistant", parts=tuple(parts)))

    # --- user turns ----------------------------------------------------------------------

    def _user(self, parts: list[Any], path: str) -> None:
        self._flush()
        results: list[Part] = []
        others: list[Part] = []
        for index, value in enumerate(parts):
            part = self._part(value, f"{path}.parts[{index}]")
            (results if isinstance(part, ToolResult) else others).append(part)
        if results:
            last = self.messages[-1] if self.messages else None
            if last is not None and last.role == "tool":
                self.messages[-1] = Message(role="tool", parts=(*last.parts, *results))
            else:
                self.messages.append(Message(role="tool", parts=tuple(results)))
        if others:
            self.messages.append(Message(role="user", parts=tuple(others)))

    # --- parts ---------------------------------------------------------------------------

    def _part(self, value: Any, path: str) -> Part:
        part = members(value, path)
        for knob in _PART_KNOBS:
            if part.get(knob) is not None:
                self.knobs[f"{path}.{knob}"] = part[knob]
        signature = _signature(part, path)
        words = part.get("text")
        if words is not None:
            if type(words) is not str:
                raise wrong(f"{path}.text", "a string", words)
            if part.get("thought") is True:
                return Thinking(text=words, signature=signature)
            return Text(text=words, signature=signature)
        if (call := inner(part, "functionCall", path)) is not None:
            return self._call(call, f"{path}.functionCall", signature)
        if (response := inner(part, "functionResponse", path)) is not None:
            return self._result(response, f"{path}.functionResponse")
        if (blob := inner(part, "inlineData", path)) is not None:
            if part.get("thought") is True:
                return Opaque(protocol=SLUG, value=part)
            return _inline(blob, f"{path}.inlineData", signature)
        if (link := inner(part, "fileData", path)) is not None:
            return _linked(link, f"{path}.fileData")
        if any(part.get(name) is not None for name in OPAQUE_FIELDS):
            return Opaque(protocol=SLUG, value=part)
        if signature is not None:
            # Without `text` at all: reasoning with nothing to read (see client_answer).
            if part.get("thought") is True:
                return Thinking(redacted=True, signature=signature)
            return Text(text="", signature=signature)
        raise LocalProtocolError(
            f"{path} holds none of text, inlineData, fileData, functionCall, functionResponse.",
            param=path,
        )

    def _call(self, call: JSONDict, path: str, signature: Signature | None) -> ToolCall:
        name = text(call, "name", path)
        if not name:
            raise LocalProtocolError(f"{path}.name is missing.", param=f"{path}.name")
        arguments = call.get("args")
        if arguments is not None and type(arguments) is not dict:
            raise wrong(f"{path}.args", "an object", arguments)
        call_id = text(call, "id", path) or self._new_id(name)
        self._ids.add(call_id)
        self._open.append((call_id, name))
        return ToolCall(
            id=call_id,
            name=name,
            arguments=dumps_str(arguments) if arguments else "{}",
            signature=signature,
        )

    def _new_id(self, name: str) -> str:
        """Deterministic over turns, and never one that was used (traps 49, 50)."""
        while True:
            number = self._counts.get(name, 0) + 1
            self._counts[name] = number
            candidate = f"call_{name}_{number}"
            if candidate not in self._ids:
                return candidate

    def _result(self, response: JSONDict, path: str) -> ToolResult:
        name = text(response, "name", path) or ""
        given = text(response, "id", path) or ""
        call_id, name = self._matched(given, name)
        body = response.get("response")
        content: list[Text | Image | Document | Audio | Video] = []
        is_error = False
        if body is not None:
            said, is_error = _said(body, f"{path}.response")
            if said:
                content.append(Text(text=said))
        for index, value in enumerate(items(response, "parts", path)):
            place = f"{path}.parts[{index}]"
            part = members(value, place)
            if (blob := inner(part, "inlineData", place)) is not None:
                content.append(_inline(blob, f"{place}.inlineData", None))
            elif (link := inner(part, "fileData", place)) is not None:
                content.append(_linked(link, f"{place}.fileData"))
            else:
                raise LocalProtocolError(f"{place} must hold inlineData or fileData.", param=place)
        return ToolResult(
            call_id=call_id, content=tuple(content), is_error=is_error, name=name or None
        )

    def _matched(self, given: str, name: str) -> tuple[str, str]:
        """The call that a result answers: by id, else the oldest open one of that name, else the
        oldest open one; an id of its own when nothing waits (traps 49, 55)."""
        waiting = self._open
        found = -1
        if given:
            found = next((i for i, call in enumerate(waiting) if call[0] == given), -1)
            if found < 0 and given in self._ids:
                return given, name
        if found < 0 and name:
            found = next((i for i, call in enumerate(waiting) if call[1] == name), -1)
        if found < 0 and not name and waiting:
            found = 0
        if found < 0:
            return given or self._new_id(name or "function"), name
        call_id, called = waiting.pop(found)
        return call_id, name or called


def _joined(turn: list[tuple[Part, bool]]) -> list[Part]:
    """One model turn's parts. Text that arrived in several contents is one text again, and a
    part that holds only a signature belongs to the one before it (traps 82, 83)."""
    out: list[Part] = []
    run: list[str] = []
    last: Text | Thinking | None = None

    def end_run() -> None:
        nonlocal last
        if last is not None:
            words = "".join(run)
            if isinstance(last, Text):
                if words or last.signature is not None:
                    out.append(Text(text=words, signature=last.signature))
            else:
                out.append(Thinking(text=words, signature=last.signature))
            run.clear()
            last = None

    for part, is_first in turn:
        if isinstance(part, Text | Thinking) and not (isinstance(part, Thinking) and part.redacted):
            continues = (
                last is not None
                and type(last) is type(part)
                and last.signature is None
                and (is_first or not part.text or isinstance(part, Thinking))
            )
            if not continues:
                end_run()
            run.append(part.text)
            last = part
        else:
            end_run()
            out.append(part)
    end_run()
    return out


def _signature(part: JSONDict, path: str) -> Signature | None:
    value = text(part, "thoughtSignature", path)
    return signatures.unwrap(standard_base64(value), native=SLUG) if value else None


def _said(body: Any, path: str) -> tuple[str, bool]:
    """The text of a result and whether it reports a failure: `{output}` and `{error}` are the
    convention, anything else is passed on as JSON (trap 74)."""
    response = members(body, path)
    if len(response) == 1:
        for key in ("output", "error"):
            if key in response:
                value = response[key]
                said = value if isinstance(value, str) else dumps_str(value)
                return said, key == "error"
    return (dumps_str(body) if response else ""), False


def _inline(blob: JSONDict, path: str, signature: Signature | None) -> Media:
    media_type = text(blob, "mimeType", path) or ""
    data = text(blob, "data", path)
    if not media_type or data is None:
        missing = "data" if media_type else "mimeType"
        raise LocalProtocolError(f"{path}.{missing} is missing.", param=f"{path}.{missing}")
    source = Base64(media_type=media_type, data=standard_base64(data))
    return _media(source, media_type, text(blob, "displayName", path), signature)


def _linked(link: JSONDict, path: str) -> Media:
    uri = text(link, "fileUri", path)
    if not uri:
        raise LocalProtocolError(f"{path}.fileUri is missing.", param=f"{path}.fileUri")
    media_type = text(link, "mimeType", path) or None
    kind = media_type or ("video/*" if uri.startswith(_YOUTUBE) else "")
    return _media(Url(url=uri, media_type=media_type), kind, text(link, "displayName", path), None)


def _media(source: Source, media_type: str, name: str | None, signature: Signature | None) -> Media:
    """By media type, never forced into an image (trap 178)."""
    kind = media_type.partition("/")[0].lower()
    if kind == "image":
        return Image(source=source, signature=signature)
    if kind == "audio":
        return Audio(source=source)
    if kind == "video":
        return Video(source=source)
    return Document(source=source, filename=name)
