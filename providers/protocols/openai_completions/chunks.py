"""A chunk of Chat Completions, typed: the quick way for what vendors should send, and a
patient way for what some of them do send."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from controlplane.kit.json import InvalidJSON, JSONDict, dumps_str, loads
from providers.protocols import nesting
from providers.protocols.errors import RemoteProtocolError


class FunctionDelta(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class CustomDelta(msgspec.Struct):
    name: str | None = None
    input: str | None = None


class CallDelta(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    type: str | None = None
    function: FunctionDelta | None = None
    custom: CustomDelta | None = None


class Delta(msgspec.Struct):
    """A delta, or the message of a complete answer: the fields are the same."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_text: str | None = None
    reasoning_details: list[JSONDict] | None = None
    refusal: str | None = None
    tool_calls: list[CallDelta] | None = None
    function_call: FunctionDelta | None = None
    annotations: list[JSONDict] | None = None
    images: list[JSONDict] | None = None
    audio: JSONDict | None = None


class Logprobs(msgspec.Struct):
    content: list[JSONDict] | None = None


class Choice(msgspec.Struct):
    index: int = 0
    delta: Delta | None = None
    message: Delta | None = None
    finish_reason: str | None = None
    logprobs: Logprobs | None = None
    usage: JSONDict | None = None


class Chunk(msgspec.Struct):
    id: str | None = None
    model: str | None = None
    created: int | None = None
    choices: list[Choice] | None = None
    usage: JSONDict | None = None
    service_tier: str | None = None
    error: Any = None
    object: str | None = None
    message: Any = None


_decode: Final = msgspec.json.Decoder(Chunk).decode


def parse(data: bytes) -> Chunk | None:
    """None for JSON that is no object (keep-alives). Raises RemoteProtocolError for no JSON."""
    nesting.check(data)
    try:
        return _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError):
        pass  # unusual types or broken surrogates: read it patiently
    value = read_json(data)
    if type(value) is list:
        value = next((entry for entry in value if type(entry) is dict), None)
    return _chunk(value) if type(value) is dict else None


def read_json(data: bytes) -> Any:
    """Stricter than the typed way, which skips what it does not need."""
    try:
        return loads(data)
    except InvalidJSON as error:
        raise RemoteProtocolError(f"The upstream sent a chunk that is not JSON: {error}") from None


def _chunk(value: JSONDict) -> Chunk:
    choices = value.get("choices")
    return Chunk(
        id=_text(value.get("id")),
        model=_text(value.get("model")),
        created=_integer(value.get("created")),
        choices=[_choice(entry) for entry in choices if type(entry) is dict]
        if type(choices) is list
        else None,
        usage=_mapping(value.get("usage")),
        service_tier=_text(value.get("service_tier")),
        error=value.get("error"),
        object=_text(value.get("object")),
        message=value.get("message"),
    )


def _choice(value: JSONDict) -> Choice:
    logprobs = _mapping(value.get("logprobs"))
    return Choice(
        index=_integer(value.get("index")) or 0,
        delta=_delta(value.get("delta")),
        message=_delta(value.get("message")),
        finish_reason=_text(value.get("finish_reason")),
        logprobs=None if logprobs is None else Logprobs(_mappings(logprobs.get("content"))),
        usage=_mapping(value.get("usage")),
    )


def _delta(value: Any) -> Delta | None:
    if type(value) is not dict:
        return None
    calls = _mappings(value.get("tool_calls"))
    return Delta(
        content=_content(value.get("content")),
        reasoning_content=_content(value.get("reasoning_content")),
        reasoning=_content(value.get("reasoning")),
        reasoning_text=_content(value.get("reasoning_text")),
        reasoning_details=_mappings(value.get("reasoning_details")),
        refusal=_text(value.get("refusal")),
        tool_calls=None if calls is None else [_call(call) for call in calls],
        function_call=_function(value.get("function_call")),
        annotations=_mappings(value.get("annotations")),
        images=_mappings(value.get("images")),
        audio=_mapping(value.get("audio")),
    )


def _call(value: JSONDict) -> CallDelta:
    custom = _mapping(value.get("custom"))
    return CallDelta(
        index=_integer(value.get("index")),
        id=_text(value.get("id")),
        type=_text(value.get("type")),
        function=_function(value.get("function")),
        custom=None
        if custom is None
        else CustomDelta(_text(custom.get("name")), _text(custom.get("input"))),
    )


def _function(value: Any) -> FunctionDelta | None:
    if type(value) is not dict:
        return None
    arguments = value.get("arguments")
    # An object instead of its text: some vendors, in whole chunks only.
    if type(arguments) in (dict, list):
        arguments = dumps_str(arguments)
    return FunctionDelta(_text(value.get("name")), _text(arguments))


def _content(value: Any) -> str | None:
    """Text, or parts of which the texts are taken."""
    if type(value) is list:
        texts = [part.get("text") for part in value if type(part) is dict]
        return "".join(text for text in texts if type(text) is str)
    return _text(value)


def _text(value: Any) -> str | None:
    return value if type(value) is str else None


def _integer(value: Any) -> int | None:
    if type(value) is str and value.isascii() and value.isdigit() and len(value) < 10:
        return int(value)
    if type(value) is float and value.is_integer() and abs(value) < 1e12:
        return int(value)
    return value if type(value) is int else None


def _mapping(value: Any) -> JSONDict | None:
    return value if type(value) is dict else None


def _mappings(value: Any) -> list[JSONDict] | None:
    if type(value) is not list:
        return None
    return [entry for entry in value if type(entry) is dict]
