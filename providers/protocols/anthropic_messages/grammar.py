"""Canonical events to Anthropic's grammar of blocks.

Anthropic's blocks are sequential and closed: one open block at a time, contiguous indexes. The
canonical stream may interleave. Text and reasoning are cut into further blocks, calls that
begin while another is open wait for their turn. Streams and whole answers share this order, so
a stream accumulates to the complete answer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Final

from controlplane.kit.json import JSONDict, dumps_str
from providers.protocols.anthropic_messages import carried
from providers.protocols.anthropic_messages.carried import SLUG
from providers.protocols.canonical import (
    ArgumentsDelta,
    Audio,
    Base64,
    BlockEnd,
    BlockStart,
    CitationDelta,
    Event,
    FileId,
    Finish,
    Image,
    Opaque,
    Refusal,
    Signature,
    SignatureDelta,
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
from providers.protocols.names import safe_id
from providers.protocols.signatures import wrap
from providers.protocols.tool_calls import CUSTOM_PROPERTY

STOP_WORDS: Final[dict[StopReason, str]] = {
    "stop": "end_turn",
    "stop_sequence": "stop_sequence",
    "length": "max_tokens",
    "tool_use": "tool_use",
    "content_filter": "refusal",
    "refusal": "refusal",
    "pause": "pause_turn",
    "context_overflow": "model_context_window_exceeded",
}
_ID_LIMIT: Final = 64


class _Open:
    """The wire block that is open now, and which canonical block it shows."""

    __slots__ = ("fragments", "index", "is_call", "kind", "signature", "source", "summary_index")

    def __init__(self, index: int, kind: str, source: int) -> None:
        self.index = index
        self.kind = kind  # text, thinking, call, custom
        self.is_call = kind in ("call", "custom")
        self.source = source
        self.signature: Signature | None = None
        self.summary_index = 0
        self.fragments: list[str] = []


class Grammar(ABC):
    """Canonical events to sequential blocks. Subclasses say what a block becomes."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.losses: list[Loss] = []
        self.usage = Usage()
        self.finish: Finish | None = None
        self._current: _Open | None = None
        self._next_index = 0
        # Kinds of canonical blocks that have begun and not ended.
        self._kinds: dict[int, str] = {}
        self._call_ids: dict[int, str] = {}
        # Events of calls that wait for the open call to end, by canonical index.
        self._waiting: dict[int, list[Event]] = {}
        self._has_calls = False

    # --- what subclasses do ---

    @abstractmethod
    def open_block(self, index: int, block: JSONDict) -> None: ...

    @abstractmethod
    def grow_block(self, index: int, kind: str, key: str, value: Any) -> None: ...

    @abstractmethod
    def close_block(self, index: int) -> None: ...

    # --- the grammar ---

    def take(self, event: Event) -> None:
        match event:
            case TextDelta() | ThinkingDelta() | ArgumentsDelta() | SignatureDelta():
                if event.choice == 0:
                    self._content(event.index, event)
            case CitationDelta() | BlockEnd():
                if event.choice == 0:
                    self._content(event.index, event)
            case BlockStart():
                if event.choice == 0:
                    self._content(event.index, event)
            case UsageUpdate():
                self.usage = event.usage
            case Finish():
                if event.choice == 0:
                    self.finish = event
            case _:
                pass  # log probabilities have no place here and cannot be asked for

    def _content(self, source: int, event: Event) -> None:
        waiting = self._waiting.get(source)
        if waiting is not None:
            waiting.append(event)
            return
        current = self._current
        if current is not None and current.is_call and current.source != source:
            # Arguments of two calls must not mix: the later block waits (trap 35).
            self._waiting[source] = [event]
            return
        self._show(source, event)
        if self._waiting:
            self._release()

    def _show(self, source: int, event: Event) -> None:
        match event:
            case TextDelta():
                if event.text:
                    block = self._opened(source, "text")
                    self.grow_block(block.index, "text_delta", "text", event.text)
            case ArgumentsDelta():
                self._arguments(source, event.fragment)
            case ThinkingDelta():
                self._thought(source, event)
            case SignatureDelta():
                self._signature(source, event.signature)
            case CitationDelta():
                self._citation(source, event.citation)
            case BlockStart():
                self._start(source, event.block)
            case BlockEnd():
                self._end(source)
            case _:
                pass  # `take` lets only these through

    def _start(self, source: int, block: Any) -> None:
        match block:
            case Text() | Refusal():
                self._kinds[source] = "text"
                if block.text:
                    self._show(source, TextDelta(source, block.text))
                if isinstance(block, Text) and block.signature is not None:
                    self._signature(source, block.signature)
            case Thinking():
                self._kinds[source] = "thinking"
                self._start_thinking(source, block)
            case ToolCall():
                self._start_call(source, block)
            case Opaque():
                self._kinds[source] = "opaque"
                self._opaque(block)
            case Image() | Audio():
                self._kinds[source] = "media"
                self._media(block)
            case _:
                pass  # no other part can be answered

    def _start_thinking(self, source: int, block: Thinking) -> None:
        if block.redacted:
            self._kinds[source] = "redacted"
            if block.signature is not None:
                self._redacted(block.signature)
            return
        if block.text:
            self._show(source, ThinkingDelta(source, block.text))
        if block.signature is not None:
            self._signature(source, block.signature)

    def _start_call(self, source: int, call: ToolCall) -> None:
        if call.signature is not None:
            self._proof(carried.proof_of_call(self._wire_id(call.id), call.signature))
        self._close_current()
        self._has_calls = True
        kind = "custom" if call.kind == "custom" else "call"
        self._kinds[source] = kind
        self._call_ids[source] = self._wire_id(call.id)
        block: JSONDict = {
            "type": "tool_use",
            "id": self._call_ids[source],
            "name": call.name,
            "input": {},
        }
        if call.namespace is not None:
            if self.reply.request.dialect == SLUG:
                block["toolset_name"] = call.namespace
            else:
                block["name"] = f"{call.namespace}__{call.name}"
        self._current = _Open(self._begin(block), kind, source)

    def _wire_id(self, call_id: str) -> str:
        # Deterministic, and the client returns the same id with the call and with its result.
        return (
            safe_id(call_id, _ID_LIMIT) if call_id else f"toolu_{self.reply.id}_{self._next_index}"
        )

    def _opened(self, source: int, kind: str) -> _Open:
        current = self._current
        if current is not None and current.source == source:
            return current
        self._close_current()
        block: JSONDict = (
            {"type": "text", "text": ""}
            if kind == "text"
            else {"type": "thinking", "thinking": "", "signature": ""}
        )
        current = _Open(self._begin(block), kind, source)
        self._current = current
        return current

    def _thought(self, source: int, event: ThinkingDelta) -> None:
        block = self._opened(source, "thinking")
        text = event.text
        if event.summary_index != block.summary_index:
            # Several summary parts are one thinking block here (trap 96).
            block.summary_index = event.summary_index
            text = "\n\n" + text
        if text:
            self.grow_block(block.index, "thinking_delta", "thinking", text)

    def _signature(self, source: int, signature: Signature) -> None:
        kind = self._kinds.get(source)
        if kind == "thinking":
            # Sent when the block ends: the last one counts.
            self._opened(source, "thinking").signature = signature
        elif kind == "redacted":
            self._redacted(signature)
        elif kind in ("call", "custom"):
            current = self._current
            proof = carried.proof_of_call(self._call_ids[source], signature)
            if current is not None and current.source == source:
                current.signature = signature
            else:
                self._proof(proof)
        elif kind == "text":
            current = self._current
            if current is not None and current.source == source:
                current.signature = signature
            else:
                self._proof(carried.proof_of_text(signature))

    def _redacted(self, signature: Signature) -> None:
        self._close_current()
        index = self._begin({"type": "redacted_thinking", "data": wrap(signature, native=SLUG)})
        self.close_block(index)

    def _proof(self, wrapped: str) -> None:
        """A proof that is not of thinking, in a thinking block without text."""
        self._close_current()
        index = self._begin({"type": "thinking", "thinking": "", "signature": ""})
        self.grow_block(index, "signature_delta", "signature", wrapped)
        self.close_block(index)

    def _citation(self, source: int, citation: JSONDict) -> None:
        shown = _shown_citation(citation)
        if shown is None:
            self.losses.append(
                Loss("content.citations", LossCode.DROPPED, "a citation in another vendor's form")
            )
            return
        block = self._opened(source, "text")
        self.grow_block(block.index, "citations_delta", "citation", shown)

    def _arguments(self, source: int, fragment: str) -> None:
        current = self._current
        if current is None or current.source != source or not fragment:
            return
        if current.kind == "custom":
            current.fragments.append(fragment)
        elif current.kind == "call":
            self.grow_block(current.index, "input_json_delta", "partial_json", fragment)

    def _opaque(self, block: Opaque) -> None:
        if block.protocol != SLUG:
            self.losses.append(
                Loss(
                    "content",
                    LossCode.DROPPED,
                    f"an item of {block.protocol} ({block.value.get('type', 'unknown')})",
                )
            )
            return
        self._close_current()
        value = dict(block.value)
        kind = value.get("type")
        is_call = isinstance(kind, str) and kind in _STREAMED_INPUT
        arguments = value.get("input") if is_call else None
        if arguments is not None:
            value["input"] = {}
        index = self._begin(value)
        if arguments is not None:
            self.grow_block(index, "input_json_delta", "partial_json", dumps_str(arguments))
        self.close_block(index)

    def _media(self, block: Image | Audio) -> None:
        """An assistant cannot show media in this dialect: a data URL in text keeps them."""
        self._close_current()
        what = "image" if isinstance(block, Image) else "audio"
        source = block.source
        if isinstance(source, Base64):
            url = f"data:{source.media_type};base64,{source.data}"
        else:
            url = source.id if isinstance(source, FileId) else source.url
        mark = "!" if what == "image" else ""
        index = self._begin({"type": "text", "text": ""})
        self.grow_block(index, "text_delta", "text", f"{mark}[{what}]({url})")
        self.close_block(index)
        self.losses.append(Loss("content", LossCode.EMULATED, f"{what} output, as a link in text"))

    def _end(self, source: int) -> None:
        self._kinds.pop(source, None)
        current = self._current
        if current is not None and current.source == source:
            self._close_current()

    def _release(self) -> None:
        """Shows what waited, in the order in which it began, until a call stays open again."""
        while self._waiting and (self._current is None or not self._current.is_call):
            source = next(iter(self._waiting))
            events = self._waiting.pop(source)
            for event in events:
                self._show(source, event)

    def _begin(self, block: JSONDict) -> int:
        index = self._next_index
        self._next_index += 1
        self.open_block(index, block)
        return index

    def _close_current(self) -> None:
        current = self._current
        if current is None:
            return
        self._current = None
        if current.kind == "custom":
            self.grow_block(
                current.index,
                "input_json_delta",
                "partial_json",
                dumps_str({CUSTOM_PROPERTY: "".join(current.fragments)}),
            )
        signature = current.signature
        if current.kind == "thinking" and signature is not None:
            self.grow_block(
                current.index, "signature_delta", "signature", wrap(signature, native=SLUG)
            )
            signature = None
        self.close_block(current.index)
        if signature is not None:
            self._proof(
                carried.proof_of_text(signature)
                if current.kind == "text"
                else carried.proof_of_call(self._call_ids[current.source], signature)
            )

    def conclude(self) -> tuple[str, str | None, JSONDict | None]:
        """Closes what is open; the stop reason, its sequence and details."""
        self._close_current()
        while self._waiting:
            self._release()
            self._close_current()
        finish = self.finish
        reason: StopReason = finish.reason if finish is not None else "stop"
        if reason == "tool_use" and not self._has_calls:
            reason = "stop"
        elif reason == "stop" and self._has_calls:
            reason = "tool_use"
        details: JSONDict | None = None
        if reason in ("refusal", "content_filter"):
            given = finish.details if finish is not None and finish.details is not None else {}
            details = (
                given
                if given.get("type") == "refusal"
                else {"type": "refusal", "category": None, "explanation": None}
            )
        sequence = finish.stop_sequence if finish is not None else None
        return STOP_WORDS.get(reason, "end_turn"), sequence, details


_STREAMED_INPUT: Final = frozenset({"server_tool_use", "mcp_tool_use"})
_LOCATIONS: Final = frozenset(
    {
        "char_location", "page_location", "content_block_location", "web_search_result_location",
        "search_result_location",
    }
)  # fmt: skip


def _shown_citation(citation: JSONDict) -> JSONDict | None:
    kind = citation.get("type")
    if isinstance(kind, str) and kind in _LOCATIONS:
        return citation
    nested = citation.get("url_citation")
    source = nested if isinstance(nested, dict) else citation
    if kind == "url_citation" and isinstance(source.get("url"), str):
        # OpenAI's web citation; there is nothing encrypted to return.
        title = source.get("title")
        return {
            "type": "web_search_result_location",
            "url": source["url"],
            "title": title if isinstance(title, str) else None,
            "cited_text": "",
            "encrypted_index": "",
        }
    return None
