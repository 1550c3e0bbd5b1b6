"""Finished blocks of an answer as a Gemini client's parts, and what ends a candidate."""

from __future__ import annotations

from typing import Any, assert_never

from controlplane.kit.json import InvalidJSON, JSONDict, dumps_str
from providers.protocols import signatures
from providers.protocols.canonical import (
    ArgumentsDelta,
    Audio,
    Base64,
    BlockStart,
    CitationDelta,
    FileId,
    Finish,
    Image,
    LogprobsDelta,
    Opaque,
    Refusal,
    Signature,
    SignatureDelta,
    Source,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolCall,
)
from providers.protocols.google_generative_ai.family import FAMILY, SLUG
from providers.protocols.google_generative_ai.finish import word_for
from providers.protocols.losses import Loss, LossCode
from providers.protocols.nesting import loads_shallow
from providers.protocols.tool_calls import CUSTOM_PROPERTY

BlockDelta = TextDelta | ThinkingDelta | ArgumentsDelta | SignatureDelta | CitationDelta


class Block:
    """One block while it grows."""

    __slots__ = ("citations", "is_open", "pieces", "signature", "skeleton", "summary_index")

    def __init__(self, start: BlockStart) -> None:
        self.skeleton = start.block
        self.pieces: list[str] = []
        self.citations: list[JSONDict] = []
        self.signature: Signature | None = getattr(start.block, "signature", None)
        self.summary_index = 0
        self.is_open = True
        match start.block:
            case Text() as block:
                self.pieces.append(block.text)
                self.citations.extend(block.citations)
            case Thinking() | Refusal() as block:
                self.pieces.append(block.text)
            case ToolCall() as block:
                # "{}" is the default of a skeleton that says nothing yet.
                self.pieces.append("" if block.arguments == "{}" else block.arguments)

    def text_of(self, event: ThinkingDelta) -> str:
        """The delta's text, with a blank line where a new part of a summary begins."""
        if event.summary_index == self.summary_index:
            return event.text
        self.summary_index = event.summary_index
        return "\n\n" + event.text


class Candidate:
    """One choice: its blocks in order, and how it ended."""

    __slots__ = ("blocks", "citations", "finish", "is_malformed", "logprobs", "malformed")

    def __init__(self) -> None:
        self.blocks: dict[int, Block] = {}
        self.citations: list[JSONDict] = []
        self.logprobs: list[JSONDict] = []
        self.finish: Finish | None = None
        self.malformed = ""
        self.is_malformed = False

    def see_logprobs(self, event: LogprobsDelta) -> None:
        self.logprobs.extend(event.content)

    def call_part(self, block: Block, losses: list[Loss]) -> JSONDict | None:
        """A whole call. None when its arguments are no JSON: Google's own word for that is the
        finish reason, and a call that cannot be read must not look as if it could be run."""
        call = block.skeleton
        assert isinstance(call, ToolCall)
        raw = "".join(block.pieces)
        arguments: Any
        if call.kind == "custom":
            arguments = {CUSTOM_PROPERTY: raw}
        elif not raw or raw.isspace():
            arguments = {}
        else:
            try:
                arguments = loads_shallow(raw)
            except InvalidJSON:
                self.is_malformed = True
                self.malformed = f"{call.name}: {raw}"
                return None
        if arguments is None:
            arguments = {}
        elif not isinstance(arguments, dict):
            losses.append(
                Loss(
                    "answer.tool_call.arguments",
                    LossCode.EMULATED,
                    "arguments that are no object are wrapped as {value}",
                )
            )
            arguments = {"value": arguments}
        wire: JSONDict = {"name": call.name, "args": arguments}
        if call.id:
            wire["id"] = call.id
        return _signed({"functionCall": wire}, block.signature)

    def part(self, block: Block, losses: list[Loss]) -> JSONDict | None:
        """The whole block as one part; None when it has nothing to say."""
        skeleton = block.skeleton
        match skeleton:
            case ToolCall():
                return self.call_part(block, losses)
            case Text() | Refusal():
                words = "".join(block.pieces)
                if not words and block.signature is None:
                    return None
                return _signed({"text": words}, block.signature)
            case Thinking():
                return thought_part("".join(block.pieces), skeleton.redacted, block.signature)
            case Image() | Audio() | Opaque():
                return whole_part(skeleton, losses)
            case _:
                assert_never(skeleton)

    def ending(self) -> JSONDict:
        """`finishReason` and what else stands on the last chunk of a candidate."""
        out: JSONDict = {}
        finish = self.finish
        if finish is None:
            out["finishReason"] = "OTHER"
        else:
            out["finishReason"] = word_for(finish)
            message = (finish.details or {}).get("message")
            if isinstance(message, str) and message:
                out["finishMessage"] = message
            elif out["finishReason"] == "OTHER" and finish.raw:
                out["finishMessage"] = finish.raw
        if self.is_malformed and out["finishReason"] == "STOP":
            out["finishReason"] = "MALFORMED_FUNCTION_CALL"
            out["finishMessage"] = f"Malformed function call: {self.malformed}"
        if self.citations:
            # The Gemini API's name for it; Vertex says `citations`.
            out["citationMetadata"] = {"citationSources": [_citation(c) for c in self.citations]}
        if self.logprobs:
            out["logprobsResult"] = _logprobs(self.logprobs)
        return out


def thought_part(words: str, redacted: bool, signature: Signature | None) -> JSONDict | None:
    """Reasoning with nothing to read has no `text` at all: that is how it is known again."""
    if not words and signature is None:
        return None
    part: JSONDict = {"thought": True} if redacted else {"text": words, "thought": True}
    return _signed(part, signature)


def whole_part(block: Image | Audio | Opaque, losses: list[Loss]) -> JSONDict | None:
    if isinstance(block, Opaque):
        if block.protocol in FAMILY:
            return block.value
        losses.append(
            Loss("answer", LossCode.DROPPED, f"an item only {block.protocol} understands")
        )
        return None
    return _signed(_source(block.source), getattr(block, "signature", None))


def _source(source: Source) -> JSONDict:
    if isinstance(source, Base64):
        return {"inlineData": {"mimeType": source.media_type, "data": source.data}}
    link: JSONDict = {"fileUri": source.id if isinstance(source, FileId) else source.url}
    if source.media_type:
        link["mimeType"] = source.media_type
    return {"fileData": link}


def _signed(part: JSONDict, signature: Signature | None) -> JSONDict:
    if signature is not None:
        part["thoughtSignature"] = signatures.wrap(signature, native=SLUG)
    return part


def _citation(citation: JSONDict) -> JSONDict:
    """Whatever the vendor called them: a link, a title, and where it stands."""
    nested = citation.get("url_citation")
    source = nested if isinstance(nested, dict) else citation
    out: JSONDict = {}
    for ours, theirs in (
        ("uri", ("uri", "url")),
        ("title", ("title", "document_title")),
        ("startIndex", ("startIndex", "start_index")),
        ("endIndex", ("endIndex", "end_index")),
        ("license", ("license",)),
    ):
        for name in theirs:
            if source.get(name) is not None:
                out[ours] = source[name]
                break
    return out


def _logprobs(entries: list[JSONDict]) -> JSONDict:
    """OpenAI's entries as Google's two parallel lists."""
    return {
        "chosenCandidates": [_scored(entry) for entry in entries],
        "topCandidates": [
            {"candidates": [_scored(top) for top in entry.get("top_logprobs") or ()]}
            for entry in entries
        ],
    }


def _scored(entry: JSONDict) -> JSONDict:
    token = entry.get("token")
    return {
        "token": token if isinstance(token, str) else dumps_str(token),
        "logProbability": entry.get("logprob"),
    }
