"""Watches a relayed Chat Completions stream: scans bytes, parses almost none."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from controlplane.kit.errors import Fault
from controlplane.kit.json import InvalidJSON, JSONDict, loads
from providers.protocols.canonical import ModelSpec, Usage
from providers.protocols.errors import RemoteProtocolError
from providers.protocols.openai_completions.errors import fault_in_stream
from providers.protocols.openai_completions.usage import decode_usage
from providers.protocols.sse import MAX_EVENT

# A quote inside a JSON string is escaped, so these match members only, never text.
_ERROR: Final = re.compile(rb'"error"\s*:\s*[{"\[]')
_CONTENT: Final = re.compile(
    rb'"(?:content|reasoning_content|reasoning|reasoning_text|refusal|arguments)"\s*:\s*"[^"]'
    rb'|"(?:tool_calls|function_call|audio|images)"\s*:\s*[\[{]'
)
_USAGE_ONLY: Final = re.compile(rb'"choices"\s*:\s*\[\s*\]')


def _is_notable(lines: bytes) -> bool:
    """Whether usage, an error or the end may stand here. Every `usage` and `finish_reason` that is
    not plainly null counts, however the vendor spaces its JSON; plain searches cost a third of
    one expression for all."""
    count = lines.count
    return (
        count(b'"usage"') != count(b'"usage":null')
        or count(b'"finish_reason"') != count(b'"finish_reason":null')
        or b"[DONE]" in lines
        or (b'"error"' in lines and _ERROR.search(lines) is not None)
    )


class _Line(msgspec.Struct):
    usage: Any = None
    error: Any = None
    service_tier: Any = None
    choices: Any = None


_decode: Final = msgspec.json.Decoder(_Line).decode


class LineMeter(ABC):
    """Whole lines of a stream, however it was cut; what to note in them is the subclass's."""

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.fault: Fault | None = None
        self.is_ended = False
        self.has_content = False
        self._rest = bytearray()

    def feed(self, chunk: bytes) -> None:
        if self.is_ended:
            return
        cut = chunk.rfind(b"\n") + 1
        if not cut:
            self._rest += chunk
            if len(self._rest) > MAX_EVENT:
                raise RemoteProtocolError("The upstream sent a line that is too long.")
            return
        if self._rest:
            lines = bytes(self._rest) + chunk[:cut]
            self._rest.clear()
        else:
            lines = chunk if cut == len(chunk) else chunk[:cut]
        if cut != len(chunk):
            self._rest += chunk[cut:]
        self.scan(lines)

    def close(self) -> None:
        if self._rest and not self.is_ended:
            rest = bytes(self._rest)
            self._rest.clear()
            self.scan(rest)

    @abstractmethod
    def scan(self, lines: bytes) -> None: ...


class ChatMeter(LineMeter):
    def __init__(self, model: ModelSpec) -> None:
        super().__init__()
        self._has_finish = False
        self._ends_silently = not model.quirks.supports_finish_reason

    def scan(self, lines: bytes) -> None:
        if not self.has_content and _CONTENT.search(lines):
            self.has_content = True
        if not _is_notable(lines):
            return
        for line in lines.splitlines():
            if line.startswith(b"data:") and _is_notable(line):
                self._note(line[5:].strip())
                if self.is_ended:
                    return

    def close(self) -> None:
        super().close()
        # Many vendors close after the finish reason, without [DONE].
        if self._has_finish or (self._ends_silently and self.has_content):
            self.is_ended = self.is_ended or self.fault is None

    def _note(self, data: bytes) -> None:
        if data == b"[DONE]":
            self.is_ended = True
            return
        try:
            line = _decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return  # not ours to judge: the bytes go to the client as they are
        if line.error:
            self.fault = fault_in_stream(line.error)
        usage = line.usage
        for choice in line.choices if type(line.choices) is list else ():
            if type(choice) is dict:
                if type(choice.get("finish_reason")) is str:
                    self._has_finish = True
                if usage is None:
                    usage = choice.get("usage")
        if type(usage) is dict:
            tier = line.service_tier
            self.usage = decode_usage(usage, tier if type(tier) is str else None)


class UsageChunkFilter:
    """Takes out the chunk without choices that only we asked for: clients that did not set
    `include_usage` index into `choices` and would fail on it."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, chunk: bytes) -> bytes:
        """Whole events only: clients can do nothing with half of one either."""
        if self._rest or not chunk.endswith(b"\n\n"):
            # A blank line may have begun in the last bytes that we hold.
            start = max(0, len(self._rest) - 3)
            self._rest += chunk
            cut = _whole(self._rest, start)
            if len(self._rest) - cut > MAX_EVENT:
                raise RemoteProtocolError("The upstream sent an event that is too long.")
            chunk = bytes(self._rest[:cut])
            del self._rest[:cut]
        if _USAGE_ONLY.search(chunk) is None:
            return chunk
        return b"".join(event for event in _events(chunk) if not _is_usage_only(event))

    def close(self) -> bytes:
        rest = bytes(self._rest)
        self._rest.clear()
        return b"" if _is_usage_only(rest) else rest


def needs_usage_filter(body: Mapping[str, Any], model: ModelSpec) -> bool:
    """Whether the relay asks for usage that this client did not ask for."""
    if not model.quirks.supports_usage_in_streaming:
        return False
    options = body.get("stream_options")
    return not (type(options) is dict and options.get("include_usage"))


def _whole(data: bytearray, start: int) -> int:
    """Where the last whole event ends, looking from `start`; 0 when there is none."""
    plain, windows = data.rfind(b"\n\n", start), data.rfind(b"\r\n\r\n", start)
    return max(plain + 2 if plain >= 0 else 0, windows + 4 if windows >= 0 else 0)


def _events(data: bytes) -> list[bytes]:
    return re.findall(rb".*?(?:\r\n\r\n|\n\n)", data, re.DOTALL)


def _is_usage_only(event: bytes) -> bool:
    if _USAGE_ONLY.search(event) is None:
        return False
    try:
        value = loads(event.strip().removeprefix(b"data:"))
    except InvalidJSON:
        return False
    return type(value) is dict and value.get("choices") == [] and bool(value.get("usage"))


def answer_usage(body: bytes) -> Usage | None:
    try:
        line = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if type(line.usage) is not dict:
        return None
    usage: JSONDict = line.usage
    tier = line.service_tier
    return decode_usage(usage, tier if type(tier) is str else None)
