"""A complete Chat Completions answer: the deltas of the stream, put together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from controlplane.kit.json import JSONDict
from providers.protocols.canonical import Event, Failed, Finish, Usage, UsageUpdate
from providers.protocols.codec import EncodedAnswer, Reply
from providers.protocols.errors import RemoteProtocolError
from providers.protocols.openai_completions.client_stream import (
    REASONS,
    ChatStreamEncoder,
    answer_id,
    fault_of_finish,
)
from providers.protocols.openai_completions.usage import encode_usage

_TIERS = frozenset({"auto", "default", "flex", "scale", "priority", "fast"})
_LISTS = ("annotations", "images", "reasoning_details")


class _Message:
    """Texts are joined once, at the end."""

    def __init__(self) -> None:
        self.texts: dict[str, list[str]] = {}
        self.lists: dict[str, list[Any]] = {}
        self.calls: list[JSONDict] = []
        self.fragments: list[list[str]] = []
        self.function_call: JSONDict | None = None
        self.legacy_fragments: list[str] = []
        self.others: JSONDict = {}
        self.logprobs: list[Any] = []
        self.finish_reason = "stop"

    def add(self, delta: JSONDict) -> None:
        for key, value in delta.items():
            if key in ("content", "reasoning_content", "refusal"):
                self.texts.setdefault(key, []).append(value)
            elif key == "tool_calls":
                self._add_call(value[0])
            elif key == "function_call":
                if "name" in value:
                    self.function_call = {"name": value["name"]}
                self.legacy_fragments.append(value["arguments"])
            elif key in _LISTS:
                self.lists.setdefault(key, []).extend(value)
            elif key == "logprobs":
                self.logprobs.extend(value)
            elif key == "finish_reason":
                self.finish_reason = value
            else:
                self.others[key] = value

    def _add_call(self, delta: JSONDict) -> None:
        if "id" in delta:
            self.calls.append({key: value for key, value in delta.items() if key != "index"})
            self.fragments.append([])
            return
        inner = delta.get("function") or delta["custom"]
        self.fragments[delta["index"]].append(inner.get("arguments") or inner.get("input") or "")

    def message(self) -> JSONDict:
        texts = {key: "".join(pieces) for key, pieces in self.texts.items()}
        message: JSONDict = {
            "role": "assistant",
            "content": texts.get("content"),
            "refusal": texts.get("refusal"),
            **self.others,
        }
        if "reasoning_content" in texts:
            message["reasoning_content"] = texts["reasoning_content"]
        message.update(self.lists)
        if self.calls:
            for call, fragments in zip(self.calls, self.fragments, strict=True):
                kind = call["type"]
                key = "input" if kind == "custom" else "arguments"
                call[kind] = {"name": call[kind]["name"], key: "".join(fragments)}
            message["tool_calls"] = self.calls
        if self.function_call is not None:
            message["function_call"] = {
                **self.function_call,
                "arguments": "".join(self.legacy_fragments),
            }
        if message["content"] is None and not (self.calls or self.function_call):
            message["content"] = "" if message["refusal"] is None else None
        return message


def encode_answer(events: Iterable[Event], reply: Reply) -> EncodedAnswer:
    """Raises RemoteProtocolError when the model stopped with an error."""
    messages: dict[int, _Message] = {}
    usage: Usage | None = None

    def collect(index: int, delta: JSONDict) -> None:
        message = messages.get(index)
        if message is None:
            message = messages[index] = _Message()
        message.add(delta)

    encoder = ChatStreamEncoder(reply, collect)
    for event in events:
        encoder.feed(event)
        if isinstance(event, UsageUpdate):
            usage = event.usage
        elif isinstance(event, Finish) and event.reason not in REASONS:
            raise RemoteProtocolError(fault_of_finish(event).message)
        elif isinstance(event, Failed):
            raise RemoteProtocolError(event.fault.message)
    body: JSONDict = {
        "id": answer_id(reply),
        "object": "chat.completion",
        "created": reply.created,
        "model": reply.request.model,
        "choices": [
            {
                "index": index,
                "message": message.message(),
                "logprobs": {"content": message.logprobs, "refusal": None}
                if message.logprobs
                else None,
                "finish_reason": message.finish_reason,
            }
            for index, message in sorted(messages.items())
        ],
    }
    if usage is not None:
        body["usage"] = encode_usage(usage)
        if usage.service_tier in _TIERS:
            body["service_tier"] = usage.service_tier
    return EncodedAnswer(body, tuple(encoder.losses))
