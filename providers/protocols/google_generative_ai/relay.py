"""A Gemini client in front of Gemini: bytes are passed on, only usage is read.

The body holds no model and the answer needs no change, so there is nothing to patch, save a
proof of another vendor that we once handed to this client in a wrapping of ours.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from controlplane.kit.errors import Fault
from controlplane.kit.json import InvalidJSON, dumps, loads
from providers.protocols import signatures
from providers.protocols.canonical import ModelSpec, Usage
from providers.protocols.errors import RemoteProtocolError
from providers.protocols.google_generative_ai.array_stream import ArrayParser
from providers.protocols.google_generative_ai.errors import fault_of_error
from providers.protocols.google_generative_ai.family import SENTINEL, SLUG, standard_base64
from providers.protocols.google_generative_ai.usage import UsageMetadata, usage_of
from providers.protocols.sse import MAX_EVENT, SSEParser

# What every wrapped proof begins with (signatures.py), as a whole JSON string.
_WRAPPED: Final = re.compile(rb'"(cGNwMQ[A-Za-z0-9+/_=-]*)"')


class _Candidate(msgspec.Struct, rename="camel"):
    finish_reason: Any = None


class _Feedback(msgspec.Struct, rename="camel"):
    block_reason: Any = None


class _Ending(msgspec.Struct, rename="camel"):
    """All that matters of a chunk that might be the last or a failure."""

    candidates: list[_Candidate] | None = None
    prompt_feedback: _Feedback | None = None
    error: msgspec.Raw = msgspec.Raw(b"")


class _Metered(msgspec.Struct, rename="camel"):
    usage_metadata: UsageMetadata | None = None


_BLANK_LINE: Final = (b"\n\n", b"\n\r\n")

_ending: Final = msgspec.json.Decoder(_Ending)
_metered: Final = msgspec.json.Decoder(_Metered)


def patched(raw: bytes, body: Mapping[str, Any], model: ModelSpec) -> bytes:
    """`raw`, with wrapped proofs opened for the model they belong to and a `model` field, which
    the body need not have, set to the upstream's name."""
    if b"cGNwMQ" in raw:
        raw = _WRAPPED.sub(lambda match: b'"' + _opened(match.group(1), model) + b'"', raw)
    if "model" in body:
        raw = _with(raw, "model", dumps(model_name(model)))
    whole = body.get("generateContentRequest")
    if isinstance(whole, dict) and "model" in whole:
        members = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        inner = bytes(members["generateContentRequest"])
        raw = _with(raw, "generateContentRequest", _with(inner, "model", dumps(model_name(model))))
    return raw


def model_name(model: ModelSpec) -> str:
    """The model as Google writes it inside a body."""
    return f"models/{model.id.removeprefix('models/')}"


def _with(raw: bytes, name: str, value: bytes) -> bytes:
    """The object with one member replaced; the values of all others byte for byte."""
    members = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    members[name] = msgspec.Raw(value)
    return b"{" + b",".join(dumps(key) + b":" + bytes(raw) for key, raw in members.items()) + b"}"


def _opened(value: bytes, model: ModelSpec) -> bytes:
    text = value.decode()
    signature = signatures.unwrap(standard_base64(text), native=SLUG)
    if signature.value == standard_base64(text):
        return value
    if signatures.belongs_to(signature, model):
        return signature.value.encode()
    return SENTINEL.encode()


def answer_usage(body: bytes) -> Usage | None:
    if b'"usageMetadata"' not in body:
        return None
    return _usage_in(body)


def _usage_in(data: bytes) -> Usage | None:
    try:
        meta = _metered.decode(data).usage_metadata
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return None if meta is None else usage_of(meta)


class _Meter(ABC):
    """Every chunk repeats the usage so far, so only the last one is ever parsed, and only when
    somebody asks."""

    def __init__(self) -> None:
        self.fault: Fault | None = None
        self.is_ended = False
        self.has_content = False
        self._usage: Usage | None = None
        self._unread = b""
        self._has_finished = False

    @property
    def usage(self) -> Usage | None:
        if self._unread:
            for chunk in self._split(self._unread):
                self._usage = _usage_in(chunk) or self._usage
            self._unread = b""
        return self._usage

    @usage.setter
    def usage(self, value: Usage | None) -> None:
        self._unread = b""
        self._usage = value

    def _see(self, data: bytes) -> None:
        """One or more whole chunks."""
        if b'"usageMetadata"' in data:
            self._unread = data
        if not self.has_content and b'"parts"' in data:
            self.has_content = True
        # Inside text these words would stand in escaped quotes: the match means a real key,
        # though perhaps one of a tool's arguments, which only parsing can tell.
        if b'"finishReason"' in data or b'"blockReason"' in data or b'"error"' in data:
            for chunk in self._split(data):
                self._look(chunk)

    @abstractmethod
    def _split(self, data: bytes) -> list[bytes]: ...

    def _look(self, data: bytes) -> None:
        try:
            ending = _ending.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return
        if bytes(ending.error) not in (b"", b"null") and self.fault is None:
            try:
                self.fault = fault_of_error(loads(bytes(ending.error)))
            except InvalidJSON:
                self.fault = fault_of_error({})
        if any(candidate.finish_reason for candidate in ending.candidates or ()) or (
            ending.prompt_feedback is not None and ending.prompt_feedback.block_reason
        ):
            self._has_finished = True

    def _finish(self) -> None:
        """There is no terminator: the end of the connection after a finish reason is the end."""
        self.is_ended = self._has_finished and self.fault is None


class SSEMeter(_Meter):
    """Looks for whole events in the raw bytes; lines are only told apart in the few that matter."""

    def __init__(self) -> None:
        super().__init__()
        self._pending = bytearray()

    def feed(self, chunk: bytes) -> None:
        if not self._pending and chunk.endswith(_BLANK_LINE):
            self._see(chunk)
            return
        start = max(len(self._pending) - 3, 0)
        self._pending += chunk
        ends = [
            self._pending.rfind(blank, start) + len(blank)
            for blank in _BLANK_LINE
            if self._pending.rfind(blank, start) >= 0
        ]
        if ends:
            whole = bytes(self._pending[: max(ends)])
            del self._pending[: max(ends)]
            self._see(whole)
        if len(self._pending) > MAX_EVENT:
            raise RemoteProtocolError(f"The upstream sent an event of more than {MAX_EVENT} bytes.")

    def close(self) -> None:
        if self._pending:
            self._see(bytes(self._pending))
            self._pending.clear()
        self._finish()

    def _split(self, data: bytes) -> list[bytes]:
        parser = SSEParser(max_line=MAX_EVENT, max_event=MAX_EVENT)
        events = parser.feed(data)
        return [event.data for event in (*events, *parser.close())]


class ArrayMeter(_Meter):
    def __init__(self) -> None:
        super().__init__()
        self._parser = ArrayParser()

    def feed(self, chunk: bytes) -> None:
        for element in self._parser.feed(chunk):
            self._see(element)

    def close(self) -> None:
        self._finish()

    def _split(self, data: bytes) -> list[bytes]:
        return [data]
