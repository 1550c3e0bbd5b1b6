"""What providers and facts files say of their models, read into one form. Pure.

Listings differ in everything but the idea; a field that is missing or makes no sense is simply
unknown. Facts files have the shape of https://models.dev/api.json: providers by id, each with
`models` by id.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final, Literal

import msgspec

from controlplane.kit.json import JSONDict
from providers.catalog.schema import ListingShape

MAX_MODELS: Final = 20_000
_MAX_ID: Final = 255
# As in the database, where the figures end up.
_MAX_TOKENS: Final = 2_147_483_647
_MODALITIES: Final = {
    "text": "text",
    "image": "image",
    "audio": "audio",
    "video": "video",
    "pdf": "document",
    "document": "document",
    "file": "document",
}
_MILLION: Final = Decimal(1_000_000)

Kind = Literal["chat", "embedding", "image", "speech", "transcription", "moderation"]


class UnreadableListing(ValueError):
    """The answer is not the kind of listing it was taken for; the message says what it was."""


class FoundModel(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model somewhere else. None and "" = not said."""

    id: str
    name: str = ""
    kind: Kind | None = None
    context_window: int | None = None
    max_output_tokens: int | None = None
    modalities: tuple[str, ...] | None = None
    reasoning: bool | None = None
    functions: bool | None = None
    # As in schema.Price: text, dollars per million.
    price: dict[str, Any] | None = None


class Page(msgspec.Struct, frozen=True):
    """One page of a listing; `next` is the query that asks for the following one."""

    models: tuple[FoundModel, ...]
    next: dict[str, str] = {}


def read_json(data: bytes) -> Any:
    """JSON with decimal fractions: no price passes through a float. Raises UnreadableListing."""
    try:
        return _DECODER.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise UnreadableListing(f"The answer is not JSON: {error}.") from None


_DECODER: Final = msgspec.json.Decoder(float_hook=Decimal)


def read_page(shape: ListingShape, data: bytes) -> Page:
    """One answer of a provider's model listing. Raises UnreadableListing."""
    body = read_json(data)
    entries = list(_entries(shape, body))
    if len(entries) > MAX_MODELS:
        raise UnreadableListing(f"The listing names more than {MAX_MODELS} models.")
    found: dict[str, FoundModel] = {}
    for entry in entries:
        model = _READERS.get(shape, _openai)(entry)
        if model is not None and 0 < len(model.id) <= _MAX_ID and model.id.isprintable():
            found.setdefault(model.id, model)
    return Page(tuple(found.values()), _next(shape, body))


def read_facts(data: bytes) -> dict[str, tuple[FoundModel, ...]]:
    """A models.dev-shaped file: models by the file's own provider ids. Raises
    UnreadableListing."""
    body = read_json(data)
    if type(body) is not dict or not all(type(entry) is dict for entry in body.values()):
        raise UnreadableListing("A facts file is an object of providers by id, as models.dev has.")
    out: dict[str, tuple[FoundModel, ...]] = {}
    for provider, entry in body.items():
        models = entry.get("models")
        if type(models) is not dict:
            raise UnreadableListing(f"The facts file names no models for {provider[:60]!r}.")
        if len(models) > MAX_MODELS:
            raise UnreadableListing(f"The facts file names too many models for {provider[:60]!r}.")
        out[provider] = tuple(
            _models_dev(name, fields)
            for name, fields in models.items()
            if type(fields) is dict and 0 < len(name) <= _MAX_ID and name.isprintable()
        )
    return out


# --- where the entries are ----------------------------------------------------------------


def _entries(shape: ListingShape, body: Any) -> Iterator[JSONDict]:
    if shape == "code-assist":
        models = body.get("models") if type(body) is dict else None
        if type(models) is not dict:
            raise UnreadableListing("The answer holds no object `models`.")
        for name, fields in models.items():
            yield {**(fields if type(fields) is dict else {}), "id": name}
        return
    listed: Any = body
    if type(body) is dict:
        names = ("data", "models", "modelSummaries")
        listed = next((body[name] for name in names if name in body), None)
    if type(listed) is not list:
        raise UnreadableListing(f"The answer is no model listing of the kind {shape!r}.")
    for entry in listed:
        if type(entry) is dict:
            yield entry
        elif type(entry) is str:
            yield {"id": entry}


def _next(shape: ListingShape, body: Any) -> dict[str, str]:
    if type(body) is not dict:
        return {}
    if shape == "anthropic" and body.get("has_more") and type(body.get("last_id")) is str:
        return {"after_id": body["last_id"]}
    name = {"gemini": "nextPageToken", "kiro": "nextToken", "bedrock": "nextToken"}.get(shape, "")
    token = body.get(name)
    if type(token) is str and token:
        return {"pageToken" if shape == "gemini" else "nextToken": token}
    return {}


# --- one entry ----------------------------------------------------------------------------


def _openai(entry: JSONDict) -> FoundModel | None:
    """OpenAI's shape with the fields that OpenRouter, Groq, Mistral, Together, vLLM and others
    add to it."""
    top = _dict(entry, "top_provider")
    capabilities = _dict(entry, "capabilities")
    parameters = entry.get("supported_parameters")
    return FoundModel(
        id=_text(entry, "id") or _text(entry, "name"),
        name=_text(entry, "display_name") or (_text(entry, "name") if "id" in entry else ""),
        kind=_KINDS.get(_text(entry, "type")),
        context_window=_first(
            _tokens(top, "context_length"),
            *(_tokens(entry, name) for name in _CONTEXT_NAMES),
        ),
        max_output_tokens=_first(
            _tokens(top, "max_completion_tokens"),
            *(_tokens(entry, name) for name in _OUTPUT_NAMES),
        ),
        modalities=_modalities(_dict(entry, "architecture").get("input_modalities"))
        or (("text", "image") if capabilities.get("vision") is True else None),
        reasoning=_flag(capabilities, "reasoning")
        if type(parameters) is not list
        else "reasoning" in parameters,
        functions=_flag(capabilities, "function_calling")
        if type(parameters) is not list
        else "tools" in parameters,
        price=_listed_price(_dict(entry, "pricing")),
    )


_CONTEXT_NAMES: Final = (
    "context_length", "context_window", "max_context_length", "max_model_len", "context_size",
)  # fmt: skip
_OUTPUT_NAMES: Final = ("max_completion_tokens", "max_output_tokens", "max_tokens")
_KINDS: Final[dict[str, Kind]] = {
    "chat": "chat",
    "language": "chat",
    "embedding": "embedding",
    "image": "image",
    "audio": "speech",
    "transcribe": "transcription",
    "moderation": "moderation",
}


def _anthropic(entry: JSONDict) -> FoundModel | None:
    return FoundModel(
        id=_text(entry, "id"),
        name=_text(entry, "display_name"),
        context_window=_tokens(entry, "max_input_tokens"),
        max_output_tokens=_tokens(entry, "max_tokens"),
    )


def _gemini(entry: JSONDict) -> FoundModel | None:
    methods = entry.get("supportedGenerationMethods")
    kind: Kind | None = None
    if type(methods) is list:
        if "generateContent" in methods:
            kind = "chat"
        elif "embedContent" in methods:
            kind = "embedding"
        else:
            return None
    return FoundModel(
        id=_text(entry, "name").removeprefix("models/"),
        name=_text(entry, "displayName"),
        kind=kind,
        context_window=_tokens(entry, "inputTokenLimit"),
        max_output_tokens=_tokens(entry, "outputTokenLimit"),
        reasoning=_flag(entry, "thinking"),
    )


def _ollama(entry: JSONDict) -> FoundModel | None:
    return FoundModel(id=_text(entry, "model") or _text(entry, "name"))


def _bedrock(entry: JSONDict) -> FoundModel | None:
    if _text(_dict(entry, "modelLifecycle"), "status") == "LEGACY":
        return None
    inputs = entry.get("inputModalities")
    return FoundModel(
        id=_text(entry, "modelId"),
        name=_text(entry, "modelName"),
        modalities=_modalities(
            [value.lower() for value in inputs if type(value) is str]
            if type(inputs) is list
            else None
        ),
    )


def _copilot(entry: JSONDict) -> FoundModel | None:
    """Only what a person may pick and the policy allows."""
    capabilities = _dict(entry, "capabilities")
    limits, supports = _dict(capabilities, "limits"), _dict(capabilities, "supports")
    if entry.get("model_picker_enabled") is False:
        return None
    if _text(_dict(entry, "policy"), "state") == "disabled":
        return None
    return FoundModel(
        id=_text(entry, "id"),
        name=_text(entry, "name"),
        context_window=_tokens(limits, "max_context_window_tokens"),
        max_output_tokens=_tokens(limits, "max_output_tokens"),
        modalities=("text", "image") if supports.get("vision") is True else None,
        functions=_flag(supports, "tool_calls"),
    )


def _kiro(entry: JSONDict) -> FoundModel | None:
    return FoundModel(
        id=_text(entry, "modelId"),
        name=_text(entry, "modelName"),
        context_window=_tokens(_dict(entry, "tokenLimits"), "maxInputTokens"),
        max_output_tokens=_tokens(_dict(entry, "tokenLimits"), "maxOutputTokens"),
    )


def _codex(entry: JSONDict) -> FoundModel | None:
    return FoundModel(
        id=_text(entry, "slug") or _text(entry, "id"),
        name=_text(entry, "display_name"),
        context_window=_tokens(entry, "context_window"),
    )


def _code_assist(entry: JSONDict) -> FoundModel | None:
    return FoundModel(
        id=_text(entry, "id"),
        name=_text(entry, "displayName"),
        context_window=_tokens(entry, "maxTokens"),
        max_output_tokens=_tokens(entry, "maxOutputTokens"),
        modalities=("text", "image") if entry.get("supportsImages") is True else None,
        reasoning=_flag(entry, "supportsThinking"),
    )


_READERS: Final = {
    "openai": _openai,
    "anthropic": _anthropic,
    "gemini": _gemini,
    "ollama": _ollama,
    "bedrock": _bedrock,
    "copilot": _copilot,
    "kiro": _kiro,
    "codex": _codex,
    "code-assist": _code_assist,
}


def _models_dev(name: str, fields: JSONDict) -> FoundModel:
    limit, modalities = _dict(fields, "limit"), _dict(fields, "modalities")
    outputs = modalities.get("output")
    kind: Kind | None = None
    if type(outputs) is list and "text" not in outputs:
        kind = "image" if "image" in outputs else "speech" if "audio" in outputs else None
    return FoundModel(
        id=name,
        name=_text(fields, "name"),
        kind=kind,
        context_window=_tokens(limit, "context"),
        max_output_tokens=_tokens(limit, "output"),
        modalities=_modalities(modalities.get("input")),
        reasoning=_flag(fields, "reasoning"),
        functions=_flag(fields, "tool_call"),
        price=_facts_price(_dict(fields, "cost")),
    )


# --- prices -------------------------------------------------------------------------------

_FACTS_PRICES: Final = {
    "input": "input",
    "output": "output",
    "cache_read": "cache_read",
    "cache_write": "cache_write",
    "input_audio": "audio_input",
    "output_audio": "audio_output",
}
_LISTED_PRICES: Final = {
    "prompt": "input",
    "input": "input",
    "completion": "output",
    "output": "output",
    "input_cache_read": "cache_read",
    "input_cache_write": "cache_write",
    "audio": "audio_input",
}
_OVER: Final = re.compile(r"context_over_(\d{1,6})k\Z")


def _facts_price(cost: JSONDict) -> dict[str, Any] | None:
    """Dollars per million. Nothing for a model whose price is not said, or said to be nothing."""
    price: dict[str, Any] = _prices(cost, _FACTS_PRICES, Decimal(1))
    if "input" not in price or "output" not in price:
        return None
    if Decimal(price["input"]) == 0 == Decimal(price["output"]):
        return None
    tiers = []
    for name, table in cost.items():
        found = _OVER.match(name)
        if found and type(table) is dict:
            rates = _prices(table, _FACTS_PRICES, Decimal(1))
            rates.pop("audio_input", None)
            rates.pop("audio_output", None)
            if "input" in rates and "output" in rates:
                tiers.append({"above_input_tokens": int(found.group(1)) * 1000, **rates})
    if tiers:
        price["tiers"] = sorted(tiers, key=lambda tier: tier["above_input_tokens"])
    return price


def _listed_price(pricing: JSONDict) -> dict[str, Any] | None:
    """OpenRouter and its like say dollars per token; Together says dollars per million and
    calls them `input` and `output` (as numbers), Vercel per token under the same names (as
    text)."""
    is_per_million = type(pricing.get("input")) in (int, Decimal)
    price = _prices(pricing, _LISTED_PRICES, Decimal(1) if is_per_million else _MILLION)
    if "input" not in price or "output" not in price:
        return None
    if Decimal(price["input"]) == 0 == Decimal(price["output"]):
        return None
    return price


def _prices(table: JSONDict, names: Mapping[str, str], factor: Decimal) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for theirs, ours in names.items():
        amount = _amount(table.get(theirs))
        # -1 = "it depends" (a router); 0 beside a real price = not said.
        if amount is None or amount < 0 or (amount == 0 and ours not in ("input", "output")):
            continue
        out[ours] = _plain(amount * factor)
    return out


def _amount(value: Any) -> Decimal | None:
    if type(value) in (int, Decimal, str):
        try:
            amount = Decimal(value)
        except InvalidOperation:
            return None
        if amount.is_finite() and abs(amount) < 1_000_000:
            return amount
    return None


def _plain(amount: Decimal) -> str:
    text = format(amount.normalize(), "f")
    return text if len(text) <= 32 else format(round(amount, 12).normalize(), "f")


# --- fields -------------------------------------------------------------------------------


def _text(entry: JSONDict, name: str) -> str:
    value = entry.get(name)
    # Too long for its column: better unknown than cut to another name.
    if type(value) is not str or len(value) > _MAX_ID or not value.isprintable():
        return ""
    return value.strip()


def _dict(entry: JSONDict, name: str) -> JSONDict:
    value = entry.get(name)
    return value if type(value) is dict else {}


def _flag(entry: JSONDict, name: str) -> bool | None:
    value = entry.get(name)
    return value if type(value) is bool else None


def _tokens(entry: JSONDict, name: str) -> int | None:
    value = entry.get(name)
    return value if type(value) is int and 0 < value <= _MAX_TOKENS else None


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)


def _modalities(values: Any) -> tuple[str, ...] | None:
    if type(values) is not list:
        return None
    known = [_MODALITIES[value] for value in values if type(value) is str and value in _MODALITIES]
    return tuple(dict.fromkeys(known)) or None
