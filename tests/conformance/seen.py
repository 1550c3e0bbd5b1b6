"""What a reader sees of an answer, whoever read it: our events, or a vendor's own SDK."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from controlplane.kit import json
from providers.protocols.canonical import (
    ArgumentsDelta,
    Base64,
    BlockStart,
    CitationDelta,
    Event,
    Failed,
    Finish,
    Image,
    LogprobsDelta,
    Refusal,
    SignatureDelta,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolCall,
    UsageUpdate,
)


@dataclass(slots=True)
class Choice:
    """One answer. `calls` holds (id, name, arguments), arguments parsed where they are JSON;
    `proofs` the opaque signatures that the answer carried, as they were made."""

    text: str = ""
    thoughts: str = ""
    refusal: str = ""
    calls: list[tuple[str, str, Any]] = field(default_factory=list)
    images: list[tuple[str, str]] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    proofs: list[str] = field(default_factory=list)
    logprobs: int = 0
    stop: str = ""
    stop_sequence: str | None = None


@dataclass(slots=True)
class Seen:
    choices: list[Choice] = field(default_factory=list)
    # prompt, output, cache_read, cache_write, reasoning; missing = not reported.
    usage: dict[str, int] = field(default_factory=dict)
    fault: str = ""


def parsed(arguments: str) -> Any:
    try:
        return json.loads(arguments) if arguments else {}
    except json.InvalidJSON:
        return arguments


def of_events(events: Iterable[Event]) -> Seen:
    seen = Seen()
    choices: dict[int, Choice] = {}
    calls: dict[int, list[str]] = {}
    order: list[tuple[int, int, ToolCall]] = []
    kinds: dict[int, Any] = {}

    def of(event: Any) -> Choice:
        return choices.setdefault(event.choice, Choice())

    for event in events:
        match event:
            case BlockStart(block=ToolCall() as call):
                calls[event.index] = [call.arguments if call.arguments != "{}" else ""]
                order.append((event.choice, event.index, call))
                if call.signature is not None:
                    of(event).proofs.append(call.signature.value)
            case BlockStart(block=Image(source=Base64() as source)):
                of(event).images.append((source.media_type, source.data))
            case BlockStart(block=Thinking() as thinking):
                kinds[event.index] = thinking
                choice = of(event)
                if choice.thoughts and not thinking.redacted:
                    choice.thoughts += "\n\n"
                choice.thoughts += thinking.text
                if thinking.signature is not None:
                    choice.proofs.append(thinking.signature.value)
            case BlockStart(block=Text() | Refusal() as block):
                kinds[event.index] = block
                if isinstance(block, Refusal):
                    of(event).refusal += block.text
                else:
                    of(event).text += block.text
            case TextDelta():
                if isinstance(kinds[event.index], Refusal):
                    of(event).refusal += event.text
                else:
                    of(event).text += event.text
            case ThinkingDelta():
                of(event).thoughts += event.text
            case ArgumentsDelta():
                calls[event.index].append(event.fragment)
            case SignatureDelta():
                of(event).proofs.append(event.signature.value)
            case CitationDelta():
                of(event).sources.append(source_url(event.citation))
            case LogprobsDelta():
                of(event).logprobs += len(event.content)
            case Finish():
                of(event).stop = event.reason
                of(event).stop_sequence = event.stop_sequence
            case UsageUpdate():
                usage = event.usage
                seen.usage = {
                    "prompt": usage.prompt,
                    "output": usage.output,
                    "cache_read": usage.cache_read,
                    "cache_write": usage.cache_write,
                    "reasoning": usage.reasoning,
                }
            case Failed():
                seen.fault = event.fault.message
            case _:
                pass
    for number, index, call in order:
        arguments = parsed("".join(calls[index]))
        choices[number if number in choices else 0].calls.append((call.id, call.name, arguments))
    seen.choices = [choices[number] for number in sorted(choices)]
    return seen


def source_url(citation: Any) -> str:
    """Whichever vendor's words it is in."""
    if isinstance(citation, dict):
        for name in ("url", "uri", "source"):
            if isinstance(citation.get(name), str):
                return str(citation[name])
        for inner in citation.values():
            if isinstance(inner, dict) and (found := source_url(inner)):
                return found
    return ""
