"""OpenAI's other endpoints: passed through with the model exchanged and the usage read.

Nothing is translated: the same dialect stands on both sides. Bodies are JSON or multipart
forms; both are changed in place.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

import msgspec

from controlplane.kit.errors import Fault
from controlplane.kit.json import InvalidJSON, JSONDict, dumps, loads_dict
from providers.protocols.canonical import Usage
from providers.protocols.errors import LocalProtocolError
from providers.protocols.numbers import MAX_COUNT, count
from providers.protocols.openai_completions import multipart, reading
from providers.protocols.openai_completions.errors import fault_in_stream
from providers.protocols.openai_completions.meter import LineMeter
from providers.protocols.openai_completions.splice import Object
from providers.protocols.openai_completions.usage import decode_usage, details_of

MAX_MODEL_ID: Final = 256


class Endpoint(StrEnum):
    """The value is the path below the base URL, without its first slash."""

    EMBEDDINGS = "embeddings"
    IMAGES = "images/generations"
    IMAGE_EDITS = "images/edits"
    SPEECH = "audio/speech"
    TRANSCRIPTIONS = "audio/transcriptions"
    TRANSLATIONS = "audio/translations"
    MODERATIONS = "moderations"
    RERANK = "rerank"
    COMPLETIONS = "completions"

    @property
    def path(self) -> str:
        return f"/{self.value}"


# The vendor has a default model for these.
_MODEL_OPTIONAL: Final = frozenset({Endpoint.IMAGES, Endpoint.IMAGE_EDITS, Endpoint.MODERATIONS})


class View(msgspec.Struct, frozen=True, kw_only=True):
    """What routing must know. `model` is None where the client left it to the vendor; `inputs`
    counts what is asked for: texts to embed, pictures to draw. `characters` are to be spoken."""

    endpoint: Endpoint
    model: str | None
    stream: bool = False
    inputs: int = 1
    characters: int = 0
    end_user_id: str | None = None


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer says it cost. These endpoints are billed by different things."""

    usage: Usage | None = None
    images: int = 0
    audio_seconds: float = 0.0
    search_units: int = 0


class _Fields(msgspec.Struct):
    model: str | None = None
    stream: bool | None = None
    stream_format: str | None = None
    n: int | None = None
    user: str | None = None


_decode_fields: Final = msgspec.json.Decoder(_Fields).decode


def view(endpoint: Endpoint, content_type: str, raw: bytes) -> View:
    """Raises LocalProtocolError naming the field."""
    if is_multipart(content_type):
        found = multipart.fields(raw, content_type)
        model = multipart.value(raw, found, "model")
        stream = multipart.value(raw, found, "stream")
        number = multipart.value(raw, found, "n") or "1"
        return View(
            endpoint=endpoint,
            model=_checked(endpoint, model),
            stream=(stream or "").strip().lower() in ("true", "1"),
            inputs=int(number) if number.isascii() and number.isdigit() and len(number) < 5 else 1,
            end_user_id=multipart.value(raw, found, "user") or None,
        )
    try:
        wish = _decode_fields(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        wish = _patiently(raw)
    return View(
        endpoint=endpoint,
        model=_checked(endpoint, wish.model),
        stream=bool(wish.stream) or wish.stream_format == "sse",
        inputs=max(1, min(wish.n or 1, 10_000)),
        characters=_characters(raw) if endpoint is Endpoint.SPEECH else 0,
        end_user_id=wish.user or None,
    )


class _Spoken(msgspec.Struct):
    input: str = ""


def _characters(raw: bytes) -> int:
    """Where it is no text the vendor says so, and charges nothing."""
    try:
        return len(msgspec.json.decode(raw, type=_Spoken).input)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return 0


def _patiently(raw: bytes) -> _Fields:
    """Finds out which field is wrong."""
    try:
        body = loads_dict(raw)
    except InvalidJSON as error:
        raise LocalProtocolError(f"The body is not a JSON object: {error}") from None
    return _Fields(
        model=reading.string(body, "model"),
        stream=reading.boolean(body, "stream"),
        stream_format=reading.string(body, "stream_format"),
        n=reading.integer(body, "n", least=1),
        user=reading.string(body, "user"),
    )


def _checked(endpoint: Endpoint, model: str | None) -> str | None:
    if not model:
        if endpoint in _MODEL_OPTIONAL:
            return None
        raise reading.wrong("model", "is required and must be a non-empty string")
    if len(model) > MAX_MODEL_ID or not model.isprintable():
        raise reading.wrong("model", f"must be at most {MAX_MODEL_ID} printable characters")
    return model


def is_multipart(content_type: str) -> bool:
    return content_type.lstrip()[:19].lower() == "multipart/form-data"


def with_model(raw: bytes, content_type: str, model: str) -> bytes:
    """The body with this model; every other byte as it was."""
    if is_multipart(content_type):
        return multipart.with_value(raw, content_type, "model", model)
    patch = Object(raw)
    patch.set("model", dumps(model))
    return patch.render()


# --- answers --------------------------------------------------------------------------------


class _Answer(msgspec.Struct):
    usage: Any = None
    data: list[msgspec.Raw] | None = None
    meta: Any = None
    duration: Any = None
    service_tier: Any = None


_decode_answer: Final = msgspec.json.Decoder(_Answer).decode
_NOTHING: Final = Measured()


def measure(endpoint: Endpoint, content_type: str, body: bytes) -> Measured:
    """What a complete answer says it used. Sound and subtitles say nothing."""
    if "json" not in content_type.lower():
        return _NOTHING
    try:
        answer = _decode_answer(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _NOTHING
    is_image = endpoint in (Endpoint.IMAGES, Endpoint.IMAGE_EDITS)
    usage = answer.usage if type(answer.usage) is dict else {}
    meta = answer.meta if type(answer.meta) is dict else {}
    tier = answer.service_tier
    seconds = _seconds(usage.get("seconds")) or _seconds(answer.duration)
    return Measured(
        usage=_usage(usage, meta, tier if type(tier) is str else None),
        images=len(answer.data or ()) if is_image else 0,
        audio_seconds=seconds,
        search_units=count(details_of(meta, "billed_units").get("search_units")),
    )


def _usage(usage: JSONDict, meta: JSONDict, tier: str | None = None) -> Usage | None:
    """Chat's names, Responses' names (images, transcriptions), or Cohere's `meta`."""
    if "prompt_tokens" in usage or "completion_tokens" in usage:
        return decode_usage(usage, tier)
    if "input_tokens" in usage or "output_tokens" in usage:
        before = details_of(usage, "input_tokens_details", "input_token_details")
        after = details_of(usage, "output_tokens_details", "output_token_details")
        prompt = count(usage.get("input_tokens"))
        read = min(count(before.get("cached_tokens")), prompt)
        return Usage(
            input=prompt - read,
            cache_read=read,
            output=count(usage.get("output_tokens")),
            audio_input=count(before.get("audio_tokens")),
            image_input=count(before.get("image_tokens")),
            image_output=count(after.get("image_tokens")),
        )
    if "total_tokens" in usage:
        return Usage(input=count(usage.get("total_tokens")))
    billed = details_of(meta, "billed_units")
    if "input_tokens" in billed or "output_tokens" in billed:
        return Usage(
            input=count(billed.get("input_tokens")), output=count(billed.get("output_tokens"))
        )
    return None


def _seconds(value: Any) -> float:
    """Some servers write the duration as text."""
    if type(value) is str and len(value) < 32:
        try:
            value = float(value)
        except ValueError:
            return 0.0
    if type(value) is int:
        value = float(min(value, MAX_COUNT))
    return value if type(value) is float and 0 < value < MAX_COUNT else 0.0


def _first_fault(lines: bytes) -> Fault | None:
    """What the first event says went wrong, if it does."""
    for line in lines.splitlines():
        if line.startswith(b"data:"):
            try:
                error = loads_dict(line[5:]).get("error")
            except InvalidJSON:
                return None
            return fault_in_stream(error) if error else None
    return None


class PassthroughMeter(LineMeter):
    """Streams of these endpoints: the last event that counts tokens counts."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__()
        self._endpoint = endpoint

    def scan(self, lines: bytes) -> None:
        if not self.has_content and b'"error"' in lines:
            # Nothing was shown yet: this can still become a status, or go to the next target.
            self.fault = _first_fault(lines)
            if self.fault is not None:
                return
        self.has_content = self.has_content or b"data:" in lines
        if b'"usage"' not in lines and b"[DONE]" not in lines:
            return
        for line in lines.splitlines():
            if not line.startswith(b"data:"):
                continue
            data = line[5:].strip()
            if data == b"[DONE]":
                self.is_ended = True
            elif b'"usage"' in data:
                measured = measure(self._endpoint, "application/json", data)
                self.usage = measured.usage or self.usage

    def close(self) -> None:
        super().close()
        if self._endpoint is not Endpoint.COMPLETIONS:
            # Only legacy completions say [DONE]; the others simply close.
            self.is_ended = True
