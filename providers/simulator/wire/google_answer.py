"""Answers as Google gives them: one JSON object, or chunks of which each is a whole response."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean
from typing import Any, Final

from controlplane.kit import json
from controlplane.kit.json import JSONDict
from providers.protocols.canonical import (
    ArgumentsDelta,
    Base64,
    BlockEnd,
    BlockStart,
    CitationDelta,
    Event,
    Finish,
    Image,
    LogprobsDelta,
    Refusal,
    SignatureDelta,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolCall,
    Usage,
    UsageUpdate,
)
from providers.simulator import proofs
from providers.simulator.asked import Ask, script_of
from providers.simulator.wire import Refused
from providers.simulator.wire.answer_headers import seconds
from providers.simulator.wire.google_contents import Family, family_of

_FINISH: Final = {"length": "MAX_TOKENS", "content_filter": "SAFETY"}
_STATUS: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    402: "FAILED_PRECONDITION",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
    529: "UNAVAILABLE",
}
_TYPE: Final = "type.googleapis.com/google.rpc."


class _Candidate:
    """One choice: its parts as they come, and how it ended."""

    def __init__(self, base: str, family: Family) -> None:
        self.parts: list[JSONDict] = []
        self.ending: JSONDict = {"finishReason": "STOP"}
        self.is_blocked = False
        self.sources: list[JSONDict] = []
        self.said = ""
        self._base = base
        self._family = family
        # The proof of the last thoughts: it arrives on the part that follows them.
        self._proof = ""
        self._has_call = False
        self._blocks: dict[int, BlockStart] = {}
        self._arguments: dict[int, list[str]] = {}
        self._logprobs: list[JSONDict] = []

    def take(self, event: Any) -> None:
        match event:
            case BlockStart():
                self._start(event)
            case TextDelta():
                if not isinstance(self._blocks[event.index].block, Refusal):
                    self.said += event.text
                    self.parts.append({"text": event.text})
            case ThinkingDelta():
                self.parts.append({"text": event.text, "thought": True})
            case SignatureDelta():
                self._proof = event.signature.value
            case ArgumentsDelta():
                self._arguments[event.index].append(event.fragment)
            case CitationDelta():
                self.sources.append(event.citation)
            case LogprobsDelta():
                self._logprobs += event.content
            case BlockEnd():
                self._end(event.index)
            case Finish():
                self._finish(event)
            case _:
                pass

    def _start(self, event: BlockStart) -> None:
        self._blocks[event.index] = event
        match event.block:
            case ToolCall():
                self._arguments[event.index] = []
            case Refusal():
                self.is_blocked = True
            case Image(source=Base64() as source):
                inline = {"mimeType": source.media_type, "data": source.data}
                self._sign({"inlineData": inline})
            case Thinking(signature=signature) if signature is not None:
                # Hidden thoughts leave nothing here but their proof.
                self._proof = signature.value
            case _:
                pass

    def _end(self, index: int) -> None:
        block = self._blocks[index].block
        if isinstance(block, ToolCall):
            self._call(block, "".join(self._arguments[index]))
        elif self._proof and not isinstance(block, Thinking | Image):
            self._sign({"text": ""})

    def _call(self, call: ToolCall, raw: str) -> None:
        try:
            arguments = json.loads(raw) if raw else {}
        except json.InvalidJSON:
            self.ending["finishReason"] = "MALFORMED_FUNCTION_CALL"
            self.ending["finishMessage"] = f"Malformed function call: {call.name}({raw})"
            return
        wire: JSONDict = {"name": call.name, "args": arguments}
        if self._family.gives_ids:
            wire["id"] = call.id
        if not self._proof and not self._has_call and self._family.gives_ids:
            # From Gemini 3 on the first call of a turn is signed, thoughts or not.
            self._proof = proofs.make(self._base, f"call:{call.name}")
        self._has_call = True
        self._sign({"functionCall": wire})

    def _finish(self, event: Finish) -> None:
        if self._proof:
            self._sign({"text": ""})
        if event.reason in _FINISH:
            self.ending["finishReason"] = _FINISH[event.reason]
        if self._logprobs:
            self.ending["avgLogprobs"] = fmean(entry["logprob"] for entry in self._logprobs)
            self.ending["logprobsResult"] = {
                "chosenCandidates": [_scored(entry) for entry in self._logprobs],
                "topCandidates": [
                    {"candidates": [_scored(top) for top in entry["top_logprobs"]]}
                    for entry in self._logprobs
                ],
            }

    def _sign(self, part: JSONDict) -> None:
        if self._proof:
            part["thoughtSignature"] = self._proof
            self._proof = ""
        self.parts.append(part)


def _scored(entry: JSONDict) -> JSONDict:
    return {"token": entry["token"], "logProbability": entry["logprob"]}


class Answer:
    """One answer, whole or in chunks. `is_vertex` = the forms that only Vertex uses."""

    def __init__(self, ask: Ask, events: list[Event], *, is_vertex: bool = False) -> None:
        self._id = ask.id
        self._is_vertex = is_vertex
        self._base = script_of(ask.model).base
        family = family_of(self._base)
        self._usage = Usage()
        self._candidates = [_Candidate(self._base, family) for _ in range(ask.choices)]
        # Which candidate each part of the stream belongs to, in order.
        self._parts: list[tuple[int, JSONDict]] = []
        for event in events:
            if isinstance(event, UsageUpdate):
                self._usage = event.usage
                continue
            choice: int = getattr(event, "choice", 0)
            candidate = self._candidates[choice]
            before = len(candidate.parts)
            candidate.take(event)
            self._parts += [(choice, part) for part in candidate.parts[before:]]
        for candidate in self._candidates:
            if candidate.sources:
                candidate.ending |= self._cited(candidate)

    def _cited(self, candidate: _Candidate) -> JSONDict:
        sources = candidate.sources
        if self._is_vertex:
            citations = [
                {
                    "startIndex": source["start_index"],
                    "endIndex": source["end_index"],
                    "uri": source["url"],
                    "title": source["title"],
                }
                for source in sources
            ]
            return {"citationMetadata": {"citations": citations}}
        supports = [
            {
                "segment": {
                    "startIndex": source["start_index"],
                    "endIndex": source["end_index"],
                    "text": candidate.said[source["start_index"] : source["end_index"]],
                },
                "groundingChunkIndices": [number],
            }
            for number, source in enumerate(sources)
        ]
        chunks = [{"web": {"uri": source["url"], "title": source["title"]}} for source in sources]
        return {
            "groundingMetadata": {
                "webSearchQueries": ["simulated"],
                "groundingChunks": chunks,
                "groundingSupports": supports,
            }
        }

    # --- out -----------------------------------------------------------------------------

    def _identity(self) -> JSONDict:
        return {"modelVersion": self._base, "responseId": self._id}

    def _metadata(self, candidates: int, thoughts: int) -> JSONDict:
        usage = self._usage
        out: JSONDict = {"promptTokenCount": usage.prompt}
        if candidates:
            out["candidatesTokenCount"] = candidates
        out["totalTokenCount"] = usage.prompt + candidates + thoughts
        if usage.cache_read:
            out["cachedContentTokenCount"] = usage.cache_read
            out["cacheTokensDetails"] = [{"modality": "TEXT", "tokenCount": usage.cache_read}]
        out["promptTokensDetails"] = [{"modality": "TEXT", "tokenCount": usage.prompt}]
        if thoughts:
            out["thoughtsTokenCount"] = thoughts
        if self._is_vertex:
            out["trafficType"] = "ON_DEMAND"
        return out

    def _last_metadata(self) -> JSONDict:
        usage = self._usage
        return self._metadata(usage.output - usage.reasoning, usage.reasoning)

    @property
    def _is_blocked(self) -> bool:
        return any(candidate.is_blocked for candidate in self._candidates)

    def _blocked(self) -> JSONDict:
        """A prompt that was refused has no candidates at all."""
        feedback: JSONDict = {"blockReason": "PROHIBITED_CONTENT"}
        if self._is_vertex:
            feedback["blockReasonMessage"] = "The prompt was blocked: prohibited content."
        return {
            "promptFeedback": feedback,
            "usageMetadata": self._metadata(0, 0),
            **self._identity(),
        }

    def whole(self) -> JSONDict:
        if self._is_blocked:
            return self._blocked()
        candidates = [
            {
                "content": {**_content(_merged(candidate.parts)), "role": "model"},
                **candidate.ending,
                "index": choice,
            }
            for choice, candidate in enumerate(self._candidates)
        ]
        return {
            "candidates": candidates,
            "usageMetadata": self._last_metadata(),
            **self._identity(),
        }

    def chunks(self) -> Iterator[bytes]:
        """One per part, then the one with the finish reasons; each says the usage so far."""
        if self._is_blocked:
            yield json.dumps(self._blocked())
            return
        tail = b"," + json.dumps(self._identity())[1:]
        candidates = thoughts = 0
        spoken, thought = self._usage.output - self._usage.reasoning, self._usage.reasoning
        for choice, part in self._parts:
            if part.get("thought"):
                thoughts += 1
            else:
                candidates += 1
            # A part that only carries a proof costs nothing.
            so_far = self._metadata(min(candidates, spoken), min(thoughts, thought))
            usage = b',"usageMetadata":' + json.dumps(so_far)
            yield (
                b'{"candidates":[{"content":{"parts":[%b],"role":"model"},"index":%d}]'
                % (json.dumps(part), choice)
                + usage
                + tail
            )
        endings = [
            {"content": {"role": "model"}, **candidate.ending, "index": choice}
            for choice, candidate in enumerate(self._candidates)
        ]
        yield json.dumps(
            {
                "candidates": endings,
                "usageMetadata": self._last_metadata(),
                **self._identity(),
            }
        )


def _content(parts: list[JSONDict]) -> JSONDict:
    return {"parts": parts} if parts else {}


def _merged(parts: list[JSONDict]) -> list[JSONDict]:
    """Neighbouring pieces of one text are one part; a proof on the last piece stays with it."""
    out: list[JSONDict] = []
    for part in parts:
        last = out[-1] if out else {}
        if (
            "text" in part
            and "text" in last
            and part.get("thought") == last.get("thought")
            and "thoughtSignature" not in last
        ):
            out[-1] = {**last, **part, "text": last["text"] + part["text"]}
        else:
            out.append(part)
    return out


def error_body(refused: Refused, *, service: str, model: str = "") -> JSONDict:
    status = _STATUS.get(
        refused.status, "INTERNAL" if refused.status >= 500 else "INVALID_ARGUMENT"
    )
    details: list[JSONDict] = []
    if refused.code == "API_KEY_INVALID":
        details.append(
            {
                "@type": _TYPE + "ErrorInfo",
                "reason": refused.code,
                "domain": "googleapis.com",
                "metadata": {"service": service},
            }
        )
    if refused.rule:
        details.append(
            {
                "@type": _TYPE + "BadRequest",
                "fieldViolations": [{"description": refused.message}],
            }
        )
    if refused.status == 429:
        details.append(
            {
                "@type": _TYPE + "QuotaFailure",
                "violations": [
                    {
                        "quotaMetric": f"{service}/generate_content_requests",
                        "quotaId": "GenerateRequestsPerMinutePerProjectPerModel",
                        "quotaDimensions": {"location": "global", "model": model or "sim-gemini"},
                        "quotaValue": "60",
                    }
                ],
            }
        )
    if (wait := seconds(refused.retry_after)) is not None:
        details.append({"@type": _TYPE + "RetryInfo", "retryDelay": f"{wait:g}s"})
    error: JSONDict = {"code": refused.status, "message": refused.message, "status": status}
    if details:
        error["details"] = details
    return {"error": error}
