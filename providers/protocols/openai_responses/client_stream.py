"""Events as the stream of Responses; the complete answer is the last event's response."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from controlplane.kit.errors import Fault, FaultKind
from controlplane.kit.json import JSONDict, dumps
from providers.protocols.canonical import (
    ArgumentsDelta,
    Base64,
    BlockEnd,
    BlockStart,
    CitationDelta,
    End,
    Event,
    Failed,
    Finish,
    Image,
    KeepAlive,
    LogprobsDelta,
    Opaque,
    Refusal,
    SignatureDelta,
    Start,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolCall,
    Usage,
    UsageUpdate,
)
from providers.protocols.codec import EncodedAnswer, Reply
from providers.protocols.losses import Loss, LossCode
from providers.protocols.openai_completions.client_stream import fault_of_finish
from providers.protocols.openai_responses import carriers
from providers.protocols.openai_responses.client_output import (
    CallItem,
    Emit,
    MessageItem,
    MessagePart,
    ReasoningItem,
)
from providers.protocols.openai_responses.client_response import response_object
from providers.protocols.openai_responses.items import FAMILY
from providers.protocols.openai_responses.usage import encode_usage
from providers.protocols.sse import COMMENT, named_event

_INCOMPLETE: Final = {
    "length": "max_output_tokens",
    "context_overflow": "max_output_tokens",
    "content_filter": "content_filter",
    "pause": None,
}
# The vendor's words for `response.error.code`; all others are its `server_error`.
_ERROR_CODES: Final = {
    FaultKind.RATE_LIMIT: "rate_limit_exceeded",
    FaultKind.BAD_REQUEST: "invalid_prompt",
    FaultKind.CONTEXT_OVERFLOW: "invalid_prompt",
}

Item = MessageItem | ReasoningItem | CallItem


class ResponsesStreamEncoder:
    """See StreamEncoder. `final` is the whole response once the stream has ended."""

    def __init__(self, reply: Reply) -> None:
        self.losses: list[Loss] = []
        self.final: JSONDict | None = None
        self._reply = reply
        self._emit = Emit(reply.id)
        self._output: list[JSONDict | None] = []
        # The block's item; a text block's part of its message.
        self._blocks: dict[int, MessagePart | ReasoningItem | CallItem | None] = {}
        self._message: MessageItem | None = None
        # Ended, but not yet shown as such: what follows tells whether it was cut off (14.6).
        self._ended_call: CallItem | None = None
        self._usage: Usage | None = None
        self._finish: Finish | None = None
        self._has_started = False
        self._is_over = False
        self._handlers: dict[type, Callable[[Any], bytes]] = {
            Start: self._on_start,
            BlockStart: self._on_block,
            TextDelta: self._on_text,
            ThinkingDelta: self._on_thinking,
            SignatureDelta: self._on_signature,
            ArgumentsDelta: self._on_arguments,
            CitationDelta: self._on_citation,
            LogprobsDelta: self._on_logprobs,
            BlockEnd: self._on_block_end,
            Finish: self._on_finish,
            UsageUpdate: self._on_usage,
            KeepAlive: self._on_keep_alive,
            End: self._on_end,
            Failed: self._on_failed,
        }

    def feed(self, event: Event) -> bytes:
        choice: object = getattr(event, "choice", None)
        if self._is_over or choice:
            # One answer is all that the protocol has room for.
            return b""
        if self._ended_call is None or isinstance(event, UsageUpdate | KeepAlive):
            return self._handlers[type(event)](event)
        is_cut_off = isinstance(event, Failed) or (
            isinstance(event, Finish) and event.reason in _INCOMPLETE
        )
        out = self._end_call("incomplete" if is_cut_off else "completed")
        return out + self._handlers[type(event)](event)

    # --- beginning ---

    def _on_start(self, event: Start) -> bytes:
        return self._start()

    def _start(self) -> bytes:
        if self._has_started:
            return b""
        self._has_started = True
        response = self._response("in_progress")
        return self._emit(b"response.created", {"response": response}) + self._emit(
            b"response.in_progress", {"response": response}
        )

    def _response(self, status: str, **fields: Any) -> JSONDict:
        output = [item for item in self._output if item is not None]
        return response_object(self._reply, status, output, fields)

    def _on_keep_alive(self, event: KeepAlive) -> bytes:
        return COMMENT

    # --- blocks ---

    def _on_block(self, event: BlockStart) -> bytes:
        out = self._start()
        block = event.block
        if isinstance(block, Text | Refusal):
            return out + self._begin_text(event.index, block)
        out += self._end_message()
        if isinstance(block, Thinking):
            thought = ReasoningItem(self._emit, self._slot(), block)
            self._blocks[event.index] = thought
            out += thought.begin()
            return out + thought.add(block.text, 0) if block.text else out
        if isinstance(block, ToolCall):
            call = CallItem(self._emit, self._slot(), block)
            self._blocks[event.index] = call
            out += call.begin()
            return out + call.add(block.arguments) if block.arguments not in ("", "{}") else out
        self._blocks[event.index] = None
        if isinstance(block, Opaque) and block.protocol in FAMILY:
            return out + self._whole_item(block.value)
        if isinstance(block, Image) and isinstance(block.source, Base64):
            return out + self._whole_item(
                {
                    "type": "image_generation_call",
                    "id": self._emit.item_id("ig", len(self._output)),
                    "status": "completed",
                    "result": block.source.data,
                }
            )
        kind = block.protocol if isinstance(block, Opaque) else type(block).__name__.lower()
        self.losses.append(
            Loss(f"output[{event.index}]", LossCode.DROPPED, f"there is no item for {kind} content")
        )
        return out

    def _slot(self) -> int:
        self._output.append(None)
        return len(self._output) - 1

    def _whole_item(self, item: JSONDict) -> bytes:
        index = self._slot()
        self._output[index] = item
        status = {"status": "in_progress"} if "status" in item else {}
        return self._emit(
            b"response.output_item.added", {"output_index": index, "item": {**item, **status}}
        ) + self._emit(b"response.output_item.done", {"output_index": index, "item": item})

    def _begin_text(self, index: int, block: Text | Refusal) -> bytes:
        """Neighbouring texts of one phase share a message."""
        phase = block.phase if isinstance(block, Text) else None
        out = b""
        if self._message is not None and self._message.phase != phase:
            out = self._end_message()
        if self._message is None:
            self._message = MessageItem(self._emit, self._slot(), phase)
            out += self._message.begin()
        part = self._message.add_part(block)
        self._blocks[index] = part
        out += part.begin()
        if block.text:
            out += part.add(block.text)
        return out

    def _end_message(self, status: str = "completed") -> bytes:
        """A message is closed before other items start (trap 24)."""
        message, self._message = self._message, None
        if message is None:
            return b""
        out = message.end(status)
        self._output[message.index] = message.item(status)
        return out

    def _on_text(self, event: TextDelta) -> bytes:
        part = self._blocks[event.index]
        assert isinstance(part, MessagePart)
        if part.is_open:
            return part.add(event.text)
        # Another item began meanwhile and closed the message: the text goes on in the next one.
        out = self._begin_text(event.index, part.skeleton)
        return out + self._on_text(event)

    def _on_thinking(self, event: ThinkingDelta) -> bytes:
        item = self._blocks[event.index]
        assert isinstance(item, ReasoningItem)
        return item.add(event.text, event.summary_index)

    def _on_arguments(self, event: ArgumentsDelta) -> bytes:
        item = self._blocks[event.index]
        assert isinstance(item, CallItem)
        return item.add(event.fragment)

    def _on_signature(self, event: SignatureDelta) -> bytes:
        item = self._blocks.get(event.index)
        if item is not None:
            item.proof = event.signature
        return b""

    def _on_citation(self, event: CitationDelta) -> bytes:
        part = self._blocks[event.index]
        assert isinstance(part, MessagePart)
        encoded = part.cite(event.citation)
        if encoded is None:
            self.losses.append(
                Loss(f"output[{event.index}].citations", LossCode.DROPPED, "it has no address")
            )
            return b""
        return encoded

    def _on_logprobs(self, event: LogprobsDelta) -> bytes:
        """They belong to the last delta of the open text."""
        if self._message is None or not self._message.parts:
            return b""
        return self._message.parts[-1].add_logprobs(event.content)

    def _on_block_end(self, event: BlockEnd) -> bytes:
        item = self._blocks.pop(event.index)
        if item is None:
            return b""
        if isinstance(item, CallItem):
            self._ended_call = item
            return b""
        out = item.end("completed")
        if isinstance(item, MessagePart):
            if item.proof is not None:
                out += self._end_message()
                out += self._carry(carriers.for_text(item.proof, is_empty=not item.text))
            return out
        self._output[item.index] = item.item("completed")
        return out

    def _end_call(self, status: str) -> bytes:
        call, self._ended_call = self._ended_call, None
        assert call is not None
        out = call.end(status)
        self._output[call.index] = call.item(status)
        if call.proof is not None:
            out += self._carry(carriers.for_call(call.proof, call.call.id))
        return out

    def _carry(self, encrypted: str) -> bytes:
        """A reasoning item without words, for a proof that has no place of its own."""
        index = len(self._output)
        item = {
            "type": "reasoning",
            "id": self._emit.item_id("rs", index),
            "summary": [],
            "encrypted_content": encrypted,
        }
        return self._whole_item(item)

    # --- the end ---

    def _on_finish(self, event: Finish) -> bytes:
        self._finish = event
        return b""

    def _on_usage(self, event: UsageUpdate) -> bytes:
        self._usage = event.usage
        return b""

    def _on_end(self, event: End) -> bytes:
        finish = self._finish
        reason = finish.reason if finish is not None else "stop"
        if finish is not None and reason in ("error", "aborted"):
            return self._on_failed(Failed(fault_of_finish(finish)))
        is_incomplete = reason in _INCOMPLETE
        out = self._start()
        out += self._close_items("incomplete" if is_incomplete else "completed")
        fields: JSONDict = {"usage": self._usage_object()}
        if self._usage is not None and self._usage.service_tier is not None:
            fields["service_tier"] = self._usage.service_tier
        if is_incomplete:
            fields["incomplete_details"] = {"reason": _INCOMPLETE[reason]}
            return out + self._terminate("incomplete", fields)
        fields["completed_at"] = self._reply.created
        return out + self._terminate("completed", fields)

    def _usage_object(self) -> JSONDict | None:
        return None if self._usage is None else encode_usage(self._usage)

    def _close_items(self, status: str) -> bytes:
        """Whatever is open ends with the answer, and an answer cut short says so of its last
        item too (trap 143)."""
        out = b""
        for item in self._blocks.values():
            if item is not None:
                out += item.end(status)
                if not isinstance(item, MessagePart):
                    self._output[item.index] = item.item(status)
        self._blocks.clear()
        return out + self._end_message(status)

    def _on_failed(self, event: Failed) -> bytes:
        if not self._has_started:
            self._is_over = True
            return error_event(event.fault)
        out = self._close_items("incomplete")
        fault = event.fault
        error = {
            "code": _ERROR_CODES.get(fault.kind, "server_error"),
            "message": fault.message,
        }
        return out + self._terminate("failed", {"error": error, "usage": self._usage_object()})

    def _terminate(self, status: str, fields: JSONDict) -> bytes:
        self._is_over = True
        self.final = self._response(status, **fields)
        return self._emit(f"response.{status}".encode(), {"response": self.final})


def error_event(fault: Fault) -> bytes:
    """Before a response has begun there is nothing that could fail but the request."""
    payload = {
        "type": "error",
        "sequence_number": 0,
        "code": fault.upstream_code or fault.code,
        "message": fault.message,
        "param": fault.param,
    }
    return named_event(b"error", dumps(payload))


def encode_answer(events: Iterable[Event], reply: Reply) -> EncodedAnswer:
    encoder = ResponsesStreamEncoder(reply)
    encoder.feed(Start())
    for event in events:
        encoder.feed(event)
    if encoder.final is None:
        encoder.feed(End())
    assert encoder.final is not None
    return EncodedAnswer(encoder.final, tuple(encoder.losses))
