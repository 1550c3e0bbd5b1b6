"""Anthropic on both sides: the client's bytes with a few fields changed, usage read in passing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from controlplane.kit.errors import Fault
from controlplane.kit.json import JSONDict, dumps, dumps_str
from providers.protocols import signatures
from providers.protocols.anthropic_messages.carried import signature_of
from providers.protocols.anthropic_messages.errors import fault_of_stream
from providers.protocols.anthropic_messages.request import VERSION
from providers.protocols.anthropic_messages.usage import UsageReader, of_value
from providers.protocols.canonical import ModelSpec, Usage
from providers.protocols.codec import UpstreamCall
from providers.protocols.errors import LocalProtocolError, RemoteProtocolError
from providers.protocols.losses import Loss, LossCode
from providers.protocols.sse import MAX_EVENT, SSEParser

# How every proof that we wrapped begins, as it stands in JSON.
_WRAPPED: Final = b'"cGNwMQ'
_SPACE: Final = re.compile(rb"[ \t\r\n]*")
_KEY: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"[ \t\r\n]*:[ \t\r\n]*')
_MODEL: Final = re.compile(rb'"model"[ \t\r\n]*:[ \t\r\n]*("[^"\\]*")')
_raw_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def relay_request(
    raw: bytes, body: Mapping[str, Any], model: ModelSpec, *, stream: bool
) -> tuple[UpstreamCall, bytes]:
    """Changes `model`; `stream` where it differs; `tools` where the endpoint refuses cache marks
    on them; and `messages` only when they hold proofs that we wrapped for a client: those of this
    model are unwrapped, others are taken out."""
    changes: dict[str, bytes] = {}
    losses: list[Loss] = []
    if body.get("model") != model.id:
        changes["model"] = dumps(model.id)
    if bool(body.get("stream")) != stream:
        changes["stream"] = b"true" if stream else b"false"
    if not model.quirks.supports_cache_control_on_tools and b'"cache_control"' in raw:
        _unmark_tools(body.get("tools"), changes, losses)
    if _WRAPPED in raw:
        messages, is_changed = _own_proofs(body.get("messages"), model, losses)
        if is_changed:
            changes["messages"] = dumps(messages)
    sent = _with_model(raw, body, changes) if changes else raw
    call = UpstreamCall(
        path="/v1/messages",
        body={},
        headers={"anthropic-version": VERSION},
        stream=stream,
        losses=tuple(losses),
    )
    return call, sent


def _unmark_tools(tools: Any, changes: dict[str, bytes], losses: list[Loss]) -> None:
    if not isinstance(tools, list):
        return
    kept = [
        {key: value for key, value in tool.items() if key != "cache_control"}
        if isinstance(tool, dict)
        else tool
        for tool in tools
    ]
    if kept != tools:
        changes["tools"] = dumps(kept)
        losses.append(Loss("tools", LossCode.DROPPED, "no cache marks on tools at this endpoint"))


def relay_count_request(
    raw: bytes, body: Mapping[str, Any], model: ModelSpec
) -> tuple[UpstreamCall, bytes]:
    """The same patches for count_tokens, which has no stream."""
    call, sent = relay_request(raw, body, model, stream=bool(body.get("stream")))
    return (
        msgspec.structs.replace(call, path="/v1/messages/count_tokens", stream=False),
        sent,
    )


def _with_model(raw: bytes, body: Mapping[str, Any], changes: dict[str, bytes]) -> bytes:
    """Mostly the model's name is all that changes, and it stands there once."""
    if len(changes) == 1 and "model" in changes and raw.count(b'"model"') == 1:
        match = _MODEL.search(raw)
        # With an escape somewhere the key could be written in another way: look properly.
        if match is not None and b"\\u00" not in raw and match.group(1) == dumps(body.get("model")):
            return raw[: match.start(1)] + changes["model"] + raw[match.end(1) :]
    return splice(raw, changes)


def splice(raw: bytes, changes: dict[str, bytes]) -> bytes:
    """`raw` with the values of some top-level fields replaced or added; every other byte stays."""
    spans, end, is_empty = _spans(raw)
    out: list[bytes] = []
    position = 0
    added: list[bytes] = []
    for key, value in changes.items():
        if key not in spans:
            added.append(dumps_str(key).encode() + b":" + value)
    for start, stop, key in sorted((*spans[key], key) for key in changes if key in spans):
        out.append(raw[position:start])
        out.append(changes[key])
        position = stop
    out.append(raw[position:end])
    if added:
        out.append((b"" if is_empty else b",") + b",".join(added))
    out.append(raw[end:])
    return b"".join(out)


def _spans(raw: bytes) -> tuple[dict[str, tuple[int, int]], int, bool]:
    """Where each top-level value stands, and where the closing brace does."""
    try:
        values = _raw_fields(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise LocalProtocolError("The request body is not a JSON object.") from None
    spans: dict[str, tuple[int, int]] = {}
    position = raw.index(b"{") + 1
    for key, value in values.items():
        position = _skip(raw, position)
        match = _KEY.match(raw, position)
        if match is None:
            raise _twice()
        start = match.end()
        written = bytes(value)
        stop = start + len(written)
        if raw[start:stop] != written:
            # The parser keeps the last of two equal keys: then nobody knows what was meant.
            raise _twice()
        spans[key] = (start, stop)
        position = _skip(raw, stop)
        if raw[position : position + 1] == b",":
            position += 1
    position = _skip(raw, position)
    if raw[position : position + 1] != b"}":
        raise _twice()
    return spans, position, not values


def _skip(raw: bytes, position: int) -> int:
    match = _SPACE.match(raw, position)
    return match.end() if match is not None else position


def _twice() -> LocalProtocolError:
    return LocalProtocolError("The request body names a field twice. Send each field once.")


def _own_proofs(messages: Any, model: ModelSpec, losses: list[Loss]) -> tuple[list[Any], bool]:
    """Messages in which wrapped proofs are native again, or gone with their blocks."""
    out: list[Any] = []
    is_changed = False
    for index, message in enumerate(messages if isinstance(messages, list) else ()):
        content = message.get("content") if isinstance(message, dict) else None
        if not isinstance(content, list) or message.get("role") != "assistant":
            out.append(message)
            continue
        kept = [_own_proof(block, model) for block in content]
        if all(new is old for new, old in zip(kept, content, strict=True)):
            out.append(message)
            continue
        is_changed = True
        blocks = [block for block in kept if block is not None]
        if len(blocks) != len(content):
            losses.append(
                Loss(
                    f"messages[{index}]",
                    LossCode.SIGNATURE_DROPPED,
                    "reasoning of another model cannot be replayed here",
                )
            )
        if blocks:
            out.append({**message, "content": blocks})
    return out, is_changed


def _own_proof(block: Any, model: ModelSpec) -> Any:
    if not isinstance(block, dict):
        return block
    key = {"thinking": "signature", "redacted_thinking": "data"}.get(str(block.get("type")))
    value = block.get(key) if key else None
    if key is None or not isinstance(value, str) or not value.startswith("cGNwMQ"):
        return block
    signature = signature_of(value)
    if signature.value == value:
        return block  # it only looks like ours
    return {**block, key: signature.value} if signatures.belongs_to(signature, model) else None


class _Watched(msgspec.Struct):
    type: str = ""
    message: JSONDict | None = None
    usage: JSONDict | None = None
    error: Any = None


_decode_watched = msgspec.json.Decoder(_Watched).decode


class AnthropicMeter:
    """Reads message_start, message_delta, message_stop and error; looks at nothing else.

    Chunks that end with an event are only scanned for these names; the rest goes through a
    buffer of one event.
    """

    __slots__ = ("_parser", "_pending", "_reader", "fault", "has_content", "is_ended", "usage")

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.fault: Fault | None = None
        self.is_ended = False
        self.has_content = False
        self._reader = UsageReader()
        # An event that has begun and not ended.
        self._pending = bytearray()
        # Streams with CR line ends take the general way.
        self._parser: SSEParser | None = None

    def feed(self, chunk: bytes) -> None:
        if self._parser is not None:
            self._general(chunk)
        elif b"\r" in chunk:
            # A raw CR can only be a line end: JSON escapes its own.
            self._parser = SSEParser()
            self._general(bytes(self._pending) + chunk)
            self._pending.clear()
        elif not self._pending and chunk.endswith(b"\n\n"):
            self._scan(chunk)
        else:
            self._assemble(chunk)

    def close(self) -> None:
        if self._parser is not None:
            for event in self._parser.close():
                self._event(event.data)
        elif self._pending:
            self._scan(bytes(self._pending))
            self._pending.clear()

    def _assemble(self, chunk: bytes) -> None:
        pending = self._pending
        searched = max(0, len(pending) - 1)
        pending += chunk
        end = pending.rfind(b"\n\n", searched)
        if end >= 0:
            self._scan(bytes(pending[: end + 2]))
            del pending[: end + 2]
        if len(pending) > MAX_EVENT:
            raise RemoteProtocolError(f"The upstream sent an event of more than {MAX_EVENT} bytes.")

    def _general(self, chunk: bytes) -> None:
        assert self._parser is not None
        for event in self._parser.feed(chunk):
            if not self.has_content and b"content_block" in event.data:
                self.has_content = True
            if _may_matter(event.data):
                self._event(event.data)

    def _scan(self, block: bytes) -> None:
        """Whole events. Parses one only if a name that matters occurs in it."""
        if not self.has_content and b"content_block" in block:
            self.has_content = True
        if not _may_matter(block):
            return
        for event in block.split(b"\n\n"):
            if _may_matter(event):
                lines = [line[5:] for line in event.split(b"\n") if line.startswith(b"data:")]
                self._event(b"\n".join(lines))

    def _event(self, data: bytes) -> None:
        try:
            event = _decode_watched(data)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, OverflowError):
            return  # what we cannot read we relay all the same
        match event.type:
            case "message_start":
                if event.message is not None:
                    self._learn(event.message.get("usage"))
            case "message_delta":
                self._learn(event.usage)
            case "message_stop":
                self.is_ended = True
            case "error":
                self.fault = fault_of_stream(event.error)
            case _:
                pass  # a name that matters, inside somebody's text

    def _learn(self, value: Any) -> None:
        if self._reader.update(value):
            self.usage = self._reader.usage


def _may_matter(data: bytes) -> bool:
    return b"message_" in data or b'"error"' in data


class _Answer(msgspec.Struct):
    usage: JSONDict | None = None


_decode_answer = msgspec.json.Decoder(_Answer).decode


def answer_usage(body: bytes) -> Usage | None:
    try:
        return of_value(_decode_answer(body).usage)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, OverflowError):
        return None
