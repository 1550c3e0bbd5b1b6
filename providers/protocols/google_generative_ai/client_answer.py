"""Events as what a Gemini client reads: a whole answer, an SSE stream, or a JSON array that
arrives in pieces (a stream without `alt=sse`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Final, assert_never

from controlplane.kit.errors import Fault
from controlplane.kit.json import JSONDict, dumps
from providers.protocols.canonical import (
    ArgumentsDelta,
    Audio,
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
from providers.protocols.google_generative_ai.client_errors import encode_error
from providers.protocols.google_generative_ai.client_parts import (
    Block,
    Candidate,
    thought_part,
    whole_part,
)
from providers.protocols.google_generative_ai.usage import metadata_of
from providers.protocols.losses import Loss

# Between events an empty line means nothing. A comment line would be right by the standard, but
# Google's own Python client takes every line without `data:` for JSON (google-genai 3.3, 2026-11).
KEEP_ALIVE: Final = b"\n"


def encode_answer(events: Iterable[Event], reply: Reply) -> EncodedAnswer:
    losses: list[Loss] = []
    candidates: dict[int, Candidate] = {}
    usage: Usage | None = None
    for event in events:
        match event:
            case UsageUpdate():
                usage = event.usage
            case Start() | End() | KeepAlive() | Failed():
                pass
            case _:
                candidate = candidates.get(event.choice)
                if candidate is None:
                    candidate = candidates[event.choice] = Candidate()
                _collect(candidate, event)
    wire = []
    for index, candidate in sorted(candidates.items()):
        parts = []
        for block in candidate.blocks.values():
            part = candidate.part(block, losses)
            if part is not None:
                parts.append(part)
            candidate.citations.extend(block.citations)
        wire.append(
            {
                "content": {"parts": parts, "role": "model"},
                **candidate.ending(),
                "index": index,
            }
        )
    body: JSONDict = {"candidates": wire, **_identity(reply)}
    if usage is not None:
        body["usageMetadata"] = metadata_of(usage)
    return EncodedAnswer(body, tuple(losses))


def _collect(
    candidate: Candidate,
    event: BlockStart
    | TextDelta
    | ThinkingDelta
    | SignatureDelta
    | ArgumentsDelta
    | CitationDelta
    | LogprobsDelta
    | BlockEnd
    | Finish,
) -> None:
    match event:
        case BlockStart():
            candidate.blocks[event.index] = Block(event)
        case TextDelta():
            candidate.blocks[event.index].pieces.append(event.text)
        case ThinkingDelta():
            block = candidate.blocks[event.index]
            block.pieces.append(block.text_of(event))
        case ArgumentsDelta():
            candidate.blocks[event.index].pieces.append(event.fragment)
        case SignatureDelta():
            candidate.blocks[event.index].signature = event.signature
        case CitationDelta():
            candidate.blocks[event.index].citations.append(event.citation)
        case LogprobsDelta():
            candidate.see_logprobs(event)
        case Finish():
            candidate.finish = event
        case BlockEnd():
            pass
        case _:
            assert_never(event)


def _identity(reply: Reply) -> JSONDict:
    return {"modelVersion": reply.request.model, "responseId": reply.id}


class ChunkEncoder(ABC):
    """Text leaves at once, a call when it is whole, the finish reason with the last usage.

    Makes JSON chunks; the two subclasses frame them.
    """

    losses: list[Loss]

    def __init__(self, reply: Reply) -> None:
        self.losses = []
        self._request_id = reply.id
        identity = _identity(reply)
        self._identity = identity
        self._tail = b"," + dumps(identity)[1:]
        self._candidates: dict[int, Candidate] = {}
        self._usage: Usage | None = None
        self._is_done = False
        # Everything around a piece of text, made once per candidate.
        self._text_ends: dict[int, tuple[bytes, bytes]] = {}

    # --- framing, by subclass ------------------------------------------------------------

    @abstractmethod
    def _frame(self, payload: bytes) -> bytes: ...

    def _close(self) -> bytes:
        return b""

    def _keep_alive(self) -> bytes:
        return KEEP_ALIVE

    # --- events --------------------------------------------------------------------------

    def feed(self, event: Event) -> bytes:
        if self._is_done:
            return b""
        match event:
            case TextDelta():
                return self._words(event.choice, event.text, 0)
            case ThinkingDelta():
                block = self._candidate(event.choice).blocks[event.index]
                return self._words(event.choice, block.text_of(event), 1)
            case ArgumentsDelta():
                self._candidate(event.choice).blocks[event.index].pieces.append(event.fragment)
                return b""
            case BlockStart():
                return self._started(event)
            case BlockEnd():
                return self._ended(event)
            case SignatureDelta():
                block = self._candidate(event.choice).blocks[event.index]
                block.signature = event.signature
                return b""
            case CitationDelta():
                self._candidate(event.choice).citations.append(event.citation)
                return b""
            case LogprobsDelta():
                self._candidate(event.choice).see_logprobs(event)
                return b""
            case UsageUpdate():
                self._usage = event.usage
                return b""
            case Finish():
                self._candidate(event.choice).finish = event
                return b""
            case KeepAlive():
                return self._keep_alive()
            case Start():
                return b""
            case End():
                self._is_done = True
                return self._last() + self._close()
            case Failed():
                self._is_done = True
                return (
                    self._frame(dumps(encode_error(event.fault, self._request_id))) + self._close()
                )
            case _:
                assert_never(event)

    def _candidate(self, choice: int) -> Candidate:
        candidate = self._candidates.get(choice)
        if candidate is None:
            candidate = self._candidates[choice] = Candidate()
        return candidate

    def _words(self, choice: int, words: str, kind: int) -> bytes:
        """A piece of text (kind 0) or of thought (kind 1)."""
        if not words:
            return b""
        ends = self._text_ends.get(choice)
        if ends is None:
            rest = b'}],"role":"model"},"index":%d}]' % choice + self._tail
            ends = self._text_ends[choice] = (rest, b',"thought":true' + rest)
        return self._frame(
            b'{"candidates":[{"content":{"parts":[{"text":' + dumps(words) + ends[kind]
        )

    def _part(self, choice: int, part: JSONDict | None) -> bytes:
        if part is None:
            return b""
        candidate = {"content": {"parts": [part], "role": "model"}, "index": choice}
        return self._frame(dumps({"candidates": [candidate], **self._identity}))

    def _started(self, event: BlockStart) -> bytes:
        candidate = self._candidate(event.choice)
        block = candidate.blocks[event.index] = Block(event)
        match block.skeleton:
            case Image() | Audio() | Opaque() as whole:
                return self._part(event.choice, whole_part(whole, self.losses))
            case Thinking():
                return self._words(event.choice, "".join(block.pieces), 1)
            case Text() | Refusal():
                return self._words(event.choice, "".join(block.pieces), 0)
            case ToolCall():
                return b""
            case _:
                assert_never(block.skeleton)

    def _ended(self, event: BlockEnd) -> bytes:
        candidate = self._candidate(event.choice)
        # Whole now: what it held is not needed again.
        block = candidate.blocks.pop(event.index)
        candidate.citations.extend(block.citations)
        match block.skeleton:
            case ToolCall():
                return self._part(event.choice, candidate.call_part(block, self.losses))
            case Thinking() as thinking:
                if block.signature is None:
                    return b""
                return self._part(
                    event.choice, thought_part("", thinking.redacted, block.signature)
                )
            case Text() if block.signature is not None:
                block.pieces.clear()
                return self._part(event.choice, candidate.part(block, self.losses))
            case _:
                return b""

    def _last(self) -> bytes:
        """The chunk with the finish reasons. Its empty text keeps it a valid turn for clients
        that check their history."""
        if not self._candidates:
            self._candidate(0)
        body: JSONDict = {
            "candidates": [
                {
                    "content": {"parts": [{"text": ""}], "role": "model"},
                    **candidate.ending(),
                    "index": index,
                }
                for index, candidate in sorted(self._candidates.items())
            ],
            **self._identity,
        }
        if self._usage is not None:
            body["usageMetadata"] = metadata_of(self._usage)
        return self._frame(dumps(body))


class SSEEncoder(ChunkEncoder):
    def _frame(self, payload: bytes) -> bytes:
        return b"data: " + payload + b"\r\n\r\n"


class ArrayEncoder(ChunkEncoder):
    """One JSON array; what arrived so far plus `]` is always valid JSON."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply)
        self._is_first = True

    def _frame(self, payload: bytes) -> bytes:
        if self._is_first:
            self._is_first = False
            return b"[" + payload
        return b",\r\n" + payload

    def _close(self) -> bytes:
        return b"]"

    def _keep_alive(self) -> bytes:
        # White space is allowed between the elements of an array, not in front of it by all.
        return b"" if self._is_first else KEEP_ALIVE


def encode_error_event(fault: Fault, request_id: str = "") -> bytes:
    return b"data: " + dumps(encode_error(fault, request_id)) + b"\r\n\r\n"


def encode_error_element(fault: Fault, request_id: str = "") -> bytes:
    """The error as the last element of an array that has begun."""
    return b",\r\n" + dumps(encode_error(fault, request_id)) + b"]"
