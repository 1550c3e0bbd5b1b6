"""Events to the Messages API's answer: the stream, and the whole message."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from controlplane.kit.errors import Fault, FaultKind
from controlplane.kit.json import InvalidJSON, JSONDict, dumps
from providers.protocols.anthropic_messages.errors import encode_error_event
from providers.protocols.anthropic_messages.grammar import Grammar
from providers.protocols.anthropic_messages.usage import delta_body, message_body
from providers.protocols.canonical import End, Event, Failed, Finish, KeepAlive, Start, Usage
from providers.protocols.codec import EncodedAnswer, Reply
from providers.protocols.errors import RemoteProtocolError
from providers.protocols.losses import Loss, LossCode
from providers.protocols.nesting import loads_shallow
from providers.protocols.sse import named_event
from providers.protocols.tool_calls import INVALID_KEY

_DELTA: Final = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,'
    b'"delta":{"type":"%s","%s":'
)
_STOP: Final = b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n'
_PING: Final = named_event(b"ping", b'{"type":"ping"}')


class AnthropicStreamEncoder(Grammar):
    """message_start, blocks one after the other, one message_delta with the final usage,
    message_stop; or an error event and no message_stop."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply)
        self._out: list[bytes] = []
        self._is_started = False
        self._is_over = False
        self._prefix_index = -1
        self._prefix_kind = ""
        self._prefix = b""

    def feed(self, event: Event) -> bytes:
        if self._is_over:
            return b""
        out = self._out
        if not self._is_started and not isinstance(event, Failed):
            self._is_started = True
            out.append(self._message_start())
        match event:
            case Start():
                pass  # whoever begins, message_start is first (trap 125)
            case KeepAlive():
                out.append(_PING)
            case End():
                self._terminate()
            case Failed():
                self._is_over = True
                out.append(encode_error_event(event.fault, self.reply.id))
            case _:
                self.take(event)
        data = b"".join(out)
        out.clear()
        return data

    def _message_start(self) -> bytes:
        message = _message(self.reply)
        # The prompt's size is not known yet: the true figures come in message_delta.
        message["usage"] = message_body(Usage())
        return named_event(b"message_start", dumps({"type": "message_start", "message": message}))

    def _terminate(self) -> None:
        self._is_over = True
        reason, sequence, details = self.conclude()
        if self.finish is not None and self.finish.reason in ("error", "aborted"):
            self._out.append(encode_error_event(_broken(self.finish), self.reply.id))
            return
        delta: JSONDict = {"stop_reason": reason, "stop_sequence": sequence}
        if details is not None:
            delta["stop_details"] = details
        self._out.append(
            named_event(
                b"message_delta",
                dumps({"type": "message_delta", "delta": delta, "usage": delta_body(self.usage)}),
            )
        )
        self._out.append(named_event(b"message_stop", b'{"type":"message_stop"}'))

    def open_block(self, index: int, block: JSONDict) -> None:
        self._out.append(
            named_event(
                b"content_block_start",
                dumps({"type": "content_block_start", "index": index, "content_block": block}),
            )
        )

    def grow_block(self, index: int, kind: str, key: str, value: Any) -> None:
        if index != self._prefix_index or kind != self._prefix_kind:
            self._prefix_index, self._prefix_kind = index, kind
            self._prefix = _DELTA % (index, kind.encode(), key.encode())
        self._out.append(self._prefix + dumps(value) + b"}}\n\n")

    def close_block(self, index: int) -> None:
        self._out.append(_STOP % index)


class _WholeAnswer(Grammar):
    def __init__(self, reply: Reply) -> None:
        super().__init__(reply)
        self.content: list[JSONDict] = []
        self._grown: dict[str, list[Any]] = {}

    def open_block(self, index: int, block: JSONDict) -> None:
        self.content.append(block)
        self._grown = {}

    def grow_block(self, index: int, kind: str, key: str, value: Any) -> None:
        self._grown.setdefault(key, []).append(value)

    def close_block(self, index: int) -> None:
        block = self.content[index]
        for key, values in self._grown.items():
            if key == "citation":
                block["citations"] = values
            elif key == "partial_json":
                block["input"] = self._input("".join(values))
            elif key == "signature":
                block["signature"] = values[-1]
            else:
                block[key] = "".join(values)

    def _input(self, text: str) -> JSONDict:
        try:
            value = loads_shallow(text) if text.strip() else {}
        except InvalidJSON:
            value = text
        if isinstance(value, dict):
            return value
        # Never repaired, never half a call: the client sees that it is invalid (trap 43).
        self.losses.append(
            Loss("content", LossCode.EMULATED, "tool arguments that are no JSON object")
        )
        return {INVALID_KEY: text}


def encode_answer(events: Iterable[Event], reply: Reply) -> EncodedAnswer:
    """Raises RemoteProtocolError where the stream would end in an error event."""
    answer = _WholeAnswer(reply)
    for event in events:
        answer.take(event)
    reason, sequence, details = answer.conclude()
    if answer.finish is not None and answer.finish.reason in ("error", "aborted"):
        raise RemoteProtocolError(_broken(answer.finish).message)
    message = _message(reply)
    message["content"] = answer.content
    message["stop_reason"] = reason
    message["stop_sequence"] = sequence
    if details is not None:
        message["stop_details"] = details
    message["usage"] = message_body(answer.usage)
    return EncodedAnswer(message, tuple(answer.losses))


def _message(reply: Reply) -> JSONDict:
    return {
        "id": f"msg_{reply.id}",
        "type": "message",
        "role": "assistant",
        "model": reply.request.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }


def _broken(finish: Finish) -> Fault:
    said = f" ({finish.raw})" if finish.raw else ""
    return Fault(
        kind=FaultKind.UPSTREAM,
        code="upstream_stopped",
        message=f"The upstream stopped without finishing its answer{said}. Try again.",
        upstream_code=finish.raw or None,
    )
