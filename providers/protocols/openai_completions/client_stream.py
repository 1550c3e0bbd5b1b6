"""Events as the chunks that a Chat Completions client expects, and as one complete answer.

Both run through the same blocks, so that a complete answer says what the stream said.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from controlplane.kit.errors import Fault, FaultKind
from controlplane.kit.json import JSONDict, dumps
from providers.protocols.canonical import (
    ArgumentsDelta,
    Audio,
    Base64,
    BlockEnd,
    BlockStart,
    CitationDelta,
    End,
    Event,
    Failed,
    FileId,
    Finish,
    Image,
    KeepAlive,
    LogprobsDelta,
    Opaque,
    Refusal,
    Signature,
    SignatureDelta,
    Start,
    StopReason,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolCall,
    Usage,
    UsageUpdate,
)
from providers.protocols.codec import Reply
from providers.protocols.losses import Loss, LossCode
from providers.protocols.openai_completions.citations import to_chat
from providers.protocols.openai_completions.details import (
    EMPTY_TEXT_ID,
    TEXT_ID,
    proof_entry,
    thinking_entry,
)
from providers.protocols.openai_completions.errors import encode_error
from providers.protocols.openai_completions.media import url_of
from providers.protocols.openai_completions.usage import encode_usage
from providers.protocols.sse import COMMENT, DONE, data_event

REASONS: Final[dict[StopReason, str]] = {
    "stop": "stop",
    "stop_sequence": "stop",
    "pause": "stop",
    "length": "length",
    "context_overflow": "length",
    "tool_use": "tool_calls",
    "content_filter": "content_filter",
    "refusal": "content_filter",
}


def answer_id(reply: Reply) -> str:
    return f"chatcmpl-{reply.id}"


def fault_of_finish(finish: Finish) -> Fault:
    """An answer that ended for a reason nobody knows is an error, not a success (trap 137)."""
    word = f" ({finish.raw[:100]})" if finish.raw else ""
    return Fault(
        kind=FaultKind.UPSTREAM,
        code="upstream_finish_error",
        message=f"The model stopped with an error{word}. Try again.",
        upstream_code=finish.raw[:100] or None,
    )


class Block:
    """A part of the answer on its way out."""

    __slots__ = (
        "choice",
        "has_content",
        "kind",
        "position",
        "proof",
        "skeleton",
        "summary",
        "text",
    )

    def __init__(self, event: BlockStart, position: int) -> None:
        self.skeleton: Any = event.block
        self.kind: type = type(event.block)
        self.choice = event.choice
        self.position = position
        self.proof: Signature | None = getattr(event.block, "signature", None)
        self.text: list[str] = []
        self.summary = 0
        self.has_content = False


class Choice:
    """What one choice has shown so far."""

    __slots__ = ("calls", "details", "has_thought", "logprobs", "prefix")

    def __init__(self, prefix: bytes) -> None:
        self.prefix = prefix
        self.calls = 0
        self.details = 0
        self.has_thought = False


class ChatStreamEncoder:
    """See StreamEncoder. `collect` is told every delta: so the complete answer is made."""

    def __init__(
        self, reply: Reply, collect: Callable[[int, JSONDict], None] | None = None
    ) -> None:
        request = reply.request
        self.losses: list[Loss] = []
        self._is_legacy = request.uses_legacy_functions
        self._wants_usage = request.include_usage
        self._collect = collect
        self._head = (
            b'data: {"id":%b,"object":"chat.completion.chunk","created":%d,"model":%b,"choices":['
            % (dumps(answer_id(reply)), reply.created, dumps(request.model))
        )
        usage = b',"usage":null' if self._wants_usage else b""
        self._tail = b'},"logprobs":null,"finish_reason":null}]' + usage + b"}\n\n"
        self._after = b"]" + usage + b"}\n\n"
        self._choices: dict[int, Choice] = {}
        self._blocks: dict[int, Block] = {}
        self._usage: Usage | None = None
        self._fault: Fault | None = None
        self._is_over = False
        self._handlers: dict[type, Callable[[Any], bytes]] = {
            Start: self._start,
            BlockStart: self._block_start,
            TextDelta: self._text,
            ThinkingDelta: self._thinking,
            SignatureDelta: self._signature,
            ArgumentsDelta: self._arguments,
            CitationDelta: self._citation,
            LogprobsDelta: self._logprobs,
            BlockEnd: self._block_end,
            Finish: self._finish,
            UsageUpdate: self._count,
            KeepAlive: self._keep_alive,
            End: self._end,
            Failed: self._failed,
        }

    def feed(self, event: Event) -> bytes:
        if self._is_over:
            return b""
        return self._handlers[type(event)](event)

    # --- chunks ---

    def _choice(self, index: int) -> tuple[Choice, bytes]:
        """The choice, and the chunk that opens it: the only one with a role (trap 126)."""
        choice = self._choices.get(index)
        if choice is not None:
            return choice, b""
        prefix = self._head + b'{"index":%d,"delta":{' % index
        choice = self._choices[index] = Choice(prefix)
        return choice, prefix + b'"role":"assistant","content":""' + self._tail

    def _delta(self, index: int, delta: JSONDict) -> bytes:
        choice, opening = self._choice(index)
        if self._collect is not None:
            self._collect(index, delta)
        return opening + choice.prefix + dumps(delta)[1:-1] + self._tail

    def _keep_alive(self, event: KeepAlive) -> bytes:
        return COMMENT

    def _start(self, event: Start) -> bytes:
        return self._choice(0)[1]

    def _block_start(self, event: BlockStart) -> bytes:
        choice, opening = self._choice(event.choice)
        skeleton = event.block
        block = Block(event, choice.calls)
        self._blocks[event.index] = block
        if isinstance(skeleton, Text | Refusal):
            if skeleton.text:
                opening += self._text(TextDelta(event.index, skeleton.text, event.choice))
        elif isinstance(skeleton, Thinking):
            if skeleton.text:
                opening += self._thinking(ThinkingDelta(event.index, skeleton.text))
        elif isinstance(skeleton, ToolCall):
            opening += self._call_start(skeleton, event, choice)
        elif isinstance(skeleton, Image):
            opening += self._image(skeleton, event)
        elif isinstance(skeleton, Audio):
            opening += self._audio(skeleton, event)
        else:
            opening += self._opaque(skeleton, event)
        return opening

    def _text(self, event: TextDelta) -> bytes:
        block = self._blocks[event.index]
        block.has_content = True
        name = "refusal" if block.kind is Refusal else "content"
        if self._collect is not None:
            self._collect(block.choice, {name: event.text})
        prefix = self._choices[block.choice].prefix
        if name == "content":
            return prefix + b'"content":' + dumps(event.text) + self._tail
        return prefix + b'"refusal":' + dumps(event.text) + self._tail

    def _thinking(self, event: ThinkingDelta) -> bytes:
        block = self._blocks[event.index]
        choice = self._choices[block.choice]
        text = event.text
        if event.summary_index != block.summary:
            block.summary = event.summary_index
            if block.has_content:
                text = f"\n\n{text}"
        block.text.append(text)
        if not block.has_content and choice.has_thought:
            # Blocks run together in one field: a blank line keeps them apart.
            text = f"\n\n{text}"
        block.has_content = choice.has_thought = True
        if self._collect is not None:
            self._collect(block.choice, {"reasoning_content": text})
        return choice.prefix + b'"reasoning_content":' + dumps(text) + self._tail

    def _signature(self, event: SignatureDelta) -> bytes:
        block = self._blocks.get(event.index)
        if block is not None:
            block.proof = event.signature
        return b""

    def _call_start(self, call: ToolCall, event: BlockStart, choice: Choice) -> bytes:
        position = choice.calls
        choice.calls += 1
        if self._is_legacy:
            if position:
                why = "`function_call` holds one call; declare `tools` to receive several"
                self.losses.append(Loss("choices", LossCode.DROPPED, why))
                return b""
            out = self._delta(event.choice, {"function_call": {"name": call.name, "arguments": ""}})
        else:
            key = "input" if call.kind == "custom" else "arguments"
            out = self._delta(
                event.choice,
                {
                    "tool_calls": [
                        {
                            "index": position,
                            "id": call.id,
                            "type": call.kind,
                            call.kind: {"name": call.name, key: ""},
                        }
                    ]
                },
            )
        if call.arguments not in ("", "{}"):
            out += self._arguments(ArgumentsDelta(event.index, call.arguments))
        return out

    def _arguments(self, event: ArgumentsDelta) -> bytes:
        block = self._blocks[event.index]
        block.has_content = True
        prefix = self._choices[block.choice].prefix
        is_custom = block.skeleton.kind == "custom"
        if self._is_legacy:
            if block.position:
                return b""
            if self._collect is not None:
                self._collect(block.choice, {"function_call": {"arguments": event.fragment}})
            fragment = b'"function_call":{"arguments":' + dumps(event.fragment) + b"}"
            return prefix + fragment + self._tail
        if self._collect is not None:
            inner = {"input" if is_custom else "arguments": event.fragment}
            call = {"index": block.position, block.skeleton.kind: inner}
            self._collect(block.choice, {"tool_calls": [call]})
        middle = b'"custom":{"input":' if is_custom else b'"function":{"arguments":'
        head = b'"tool_calls":[{"index":%d,' % block.position
        return prefix + head + middle + dumps(event.fragment) + b"}}]" + self._tail

    def _image(self, image: Image, event: BlockStart) -> bytes:
        if isinstance(image.source, FileId):
            return self._cannot(event.index, "a file id of another vendor")
        link = {"type": "image_url", "image_url": {"url": url_of(image.source)}}
        return self._delta(event.choice, {"images": [link]})

    def _audio(self, audio: Audio, event: BlockStart) -> bytes:
        if not isinstance(audio.source, Base64):
            return self._cannot(event.index, "audio that is only a link")
        whole = {"id": f"audio_{event.index}", "data": audio.source.data, "transcript": ""}
        return self._delta(event.choice, {"audio": {**whole, "expires_at": 0}})

    def _opaque(self, item: Opaque, event: BlockStart) -> bytes:
        if item.protocol == "openai-completions":
            return self._delta(event.choice, item.value)
        return self._cannot(event.index, f"an item that only {item.protocol} has")

    def _cannot(self, index: int, what: str) -> bytes:
        self.losses.append(Loss(f"output[{index}]", LossCode.DROPPED, what))
        return b""

    def _citation(self, event: CitationDelta) -> bytes:
        block = self._blocks[event.index]
        annotation = to_chat(event.citation)
        if annotation is None:
            self.losses.append(
                Loss(f"output[{event.index}].citations", LossCode.DROPPED, "it has no address")
            )
            return b""
        return self._delta(block.choice, {"annotations": [annotation]})

    def _logprobs(self, event: LogprobsDelta) -> bytes:
        choice, opening = self._choice(event.choice)
        if self._collect is not None:
            self._collect(event.choice, {"logprobs": list(event.content)})
        content = dumps(event.content)
        finish = b'},"logprobs":{"content":' + content + b',"refusal":null},"finish_reason":null}'
        return opening + choice.prefix + finish + self._after

    def _block_end(self, event: BlockEnd) -> bytes:
        block = self._blocks.pop(event.index)
        out = b""
        if block.kind is ToolCall and not block.has_content and block.skeleton.kind == "function":
            self._blocks[event.index] = block
            out = self._arguments(ArgumentsDelta(event.index, "{}"))
            del self._blocks[event.index]
        if block.proof is None:
            return out
        return out + self._detail(block)

    def _detail(self, block: Block) -> bytes:
        """The proof, in the field that well-behaved clients send back."""
        choice = self._choices[block.choice]
        index = choice.details
        assert block.proof is not None
        if block.kind is Thinking:
            text = "".join(block.text)
            entry = thinking_entry(text, block.proof, index, block.skeleton.item_id)
        elif block.kind is ToolCall:
            entry = proof_entry(block.skeleton.id, block.proof, index)
        elif block.kind is Text:
            entry = proof_entry(TEXT_ID if block.has_content else EMPTY_TEXT_ID, block.proof, index)
        else:
            return b""
        choice.details += 1
        return self._delta(block.choice, {"reasoning_details": [entry]})

    # --- the end ---

    def _finish(self, event: Finish) -> bytes:
        choice, opening = self._choice(event.choice)
        word = REASONS.get(event.reason)
        if word is None:
            self._fault = fault_of_finish(event)
            return opening
        if self._is_legacy and word == "tool_calls":
            word = "function_call"
        if self._collect is not None:
            self._collect(event.choice, {"finish_reason": word})
        finish = b'},"logprobs":null,"finish_reason":"' + word.encode() + b'"}'
        return opening + choice.prefix + finish + self._after

    def _count(self, event: UsageUpdate) -> bytes:
        self._usage = event.usage
        return b""

    def _end(self, event: End) -> bytes:
        self._is_over = True
        if self._fault is not None:
            return data_event(dumps(encode_error(self._fault))) + DONE
        return self._usage_chunk() + DONE

    def _usage_chunk(self) -> bytes:
        if not self._wants_usage or self._usage is None:
            return b""
        return self._head + b'],"usage":' + dumps(encode_usage(self._usage)) + b"}\n\n"

    def _failed(self, event: Failed) -> bytes:
        self._is_over = True
        return data_event(dumps(encode_error(event.fault))) + DONE
