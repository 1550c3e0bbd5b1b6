"""What OpenAI serves beside conversations: the model list, embeddings, moderation, rerank; images,
audio, files and batches from the modules of their own."""

from __future__ import annotations

import base64
import hashlib
import math
import struct
from collections.abc import Callable
from typing import Any, Final, NoReturn

from controlplane.kit.json import JSONDict
from providers.protocols.canonical import Event
from providers.simulator.asked import Ask
from providers.simulator.http import Request, Response, json_response
from providers.simulator.wire import Refused, WireRoute, checks
from providers.simulator.wire.checks import require
from providers.simulator.wire.openai_audio import speech, transcriptions, translations
from providers.simulator.wire.openai_bodies import read_body
from providers.simulator.wire.openai_chat import openai_error
from providers.simulator.wire.openai_files import FILES
from providers.simulator.wire.openai_images import edits, generations
from providers.simulator.world import World

MODELS: Final = (
    "sim-gpt",
    "sim-gpt-mini",
    "sim-gpt-responses",
    "sim-embedding",
    "sim-image",
    "sim-tts",
    "sim-whisper",
    "sim-moderation",
    "sim-rerank",
    "sim-instruct",
)
_CREATED: Final = 1_767_225_600
DIMENSIONS: Final = 1536
_MAX_DIMENSIONS: Final = 3072
_MAX_INPUTS: Final = 2048
_CATEGORIES: Final = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/intent",
    "self-harm/instructions",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)


# --- models --------------------------------------------------------------------------------


def _model_object(name: str) -> JSONDict:
    return {"id": name, "object": "model", "created": _CREATED, "owned_by": "simulator"}


def _models(_request: Request, _world: World) -> Response:
    return json_response({"object": "list", "data": [_model_object(name) for name in MODELS]})


def _model(request: Request, _world: World) -> Response:
    name = request.params["model"]
    if name not in MODELS:
        raise Refused(404, f"The model '{name}' does not exist", code="model_not_found")
    return json_response(_model_object(name))


# --- embeddings, moderation, rerank -----------------------------------------------------------


def vector(text: str, dimensions: int) -> list[float]:
    """A unit vector that depends on the text alone."""
    raw = hashlib.shake_256(text.encode()).digest(dimensions * 2)
    numbers = [value / 32768 for value in struct.unpack(f"<{dimensions}h", raw)]
    length = math.sqrt(sum(number * number for number in numbers)) or 1.0
    return [number / length for number in numbers]


def _embeddings(request: Request, _world: World) -> Response:
    body = read_body(request, "model input dimensions encoding_format user")
    model = checks.text(body.get("model"), "model", may_be_empty=False)
    inputs = _inputs(body.get("input"))
    dimensions = DIMENSIONS
    if body.get("dimensions") is not None:
        dimensions = checks.whole_number(body["dimensions"], "dimensions", 1, _MAX_DIMENSIONS)
    form = body.get("encoding_format") or "float"
    checks.one_of(form, "encoding_format", ("float", "base64"))
    data: list[JSONDict] = []
    for index, text in enumerate(inputs):
        numbers: list[float] | str = vector(text, dimensions)
        if form == "base64":
            numbers = base64.b64encode(struct.pack(f"<{dimensions}f", *numbers)).decode()
        data.append({"object": "embedding", "index": index, "embedding": numbers})
    tokens = sum(max(1, len(text.encode()) // 4) for text in inputs)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return json_response({"object": "list", "data": data, "model": model, "usage": usage})


def _inputs(value: object) -> list[str]:
    """One text, several, one list of tokens, or several of them."""
    if isinstance(value, str):
        value = [value]
    entries = checks.items(value, "input")
    require(entries, "empty_input", "'$.input' is invalid: it must not be empty")
    if all(type(token) is int for token in entries):
        return [" ".join(map(str, entries))]
    require(len(entries) <= _MAX_INPUTS, "inputs", f"'$.input' has over {_MAX_INPUTS} entries")
    texts: list[str] = []
    for number, entry in enumerate(entries):
        if isinstance(entry, list) and entry and all(type(token) is int for token in entry):
            texts.append(" ".join(map(str, entry)))
        else:
            texts.append(checks.text(entry, f"input[{number}]"))
            require(texts[-1], "empty_input", f"input[{number}] must not be an empty string")
    return texts


def _moderations(request: Request, world: World) -> Response:
    body = read_body(request, "model input")
    given = body.get("input")
    entries: list[Any] = [given] if isinstance(given, str) else checks.items(given, "input")
    require(entries, "empty_input", "input must not be empty")
    if all(isinstance(entry, dict) for entry in entries):
        # Parts of one message: judged together.
        for number, part in enumerate(entries):
            checks.one_of(part.get("type"), f"input[{number}].type", ("text", "image_url"))
        entries = [" ".join(str(part.get("text") or "") for part in entries)]
    results = [_judged(checks.text(e, f"input[{n}]")) for n, e in enumerate(entries)]
    model = body.get("model") or "sim-moderation"
    return json_response(
        {"id": f"modr-{world.token('moderation', 24)}", "model": model, "results": results}
    )


def _judged(text: str) -> JSONDict:
    """Only what says `violence` is violent: a rule that a test can count on."""
    flagged = {name: name.split("/")[0] in text.lower().split() for name in _CATEGORIES}
    return {
        "flagged": any(flagged.values()),
        "categories": flagged,
        "category_scores": {name: 0.98 if hit else 0.0001 for name, hit in flagged.items()},
        "category_applied_input_types": {name: ["text"] for name in _CATEGORIES},
    }


def _rerank(request: Request, world: World) -> Response:
    """The form that rerankers share: Cohere, Jina and the servers that copy them."""
    body = read_body(
        request,
        "model query documents top_n return_documents max_tokens_per_doc max_chunks_per_doc",
    )
    model = checks.text(body.get("model"), "model", may_be_empty=False)
    query = set(checks.text(body.get("query"), "query", may_be_empty=False).lower().split())
    documents = checks.items(body.get("documents"), "documents")
    require(documents, "documents", "documents must not be empty")
    texts = [
        checks.text(entry.get("text") if isinstance(entry, dict) else entry, f"documents[{number}]")
        for number, entry in enumerate(documents)
    ]
    scores = [
        round(len(query & set(text.lower().split())) / len(query), 6) if query else 0.0
        for text in texts
    ]
    order = sorted(range(len(texts)), key=lambda index: (-scores[index], index))
    if body.get("top_n") is not None:
        order = order[: checks.whole_number(body["top_n"], "top_n", 1)]
    results: list[JSONDict] = []
    for index in order:
        result: JSONDict = {"index": index, "relevance_score": scores[index]}
        if body.get("return_documents"):
            result["document"] = {"text": texts[index]}
        results.append(result)
    tokens = max(1, len(request.body) // 4)
    return json_response(
        {
            "id": f"rerank-{world.token('rerank', 24)}",
            "model": model,
            "results": results,
            "usage": {"total_tokens": tokens},
            "meta": {"billed_units": {"search_units": 1}},
        }
    )


class MediaWire:
    """No conversation takes place here: every route goes to `other`."""

    slug = "openai-media"
    stream_media_type = "text/event-stream; charset=utf-8"
    routes: tuple[WireRoute, ...] = (
        WireRoute("GET", "/v1/models", "models"),
        WireRoute("GET", "/v1/models/{model...}", "model"),
        WireRoute("POST", "/v1/embeddings", "embeddings"),
        WireRoute("POST", "/v1/images/generations", "images"),
        WireRoute("POST", "/v1/images/edits", "image_edits"),
        WireRoute("POST", "/v1/audio/speech", "speech"),
        WireRoute("POST", "/v1/audio/transcriptions", "transcriptions"),
        WireRoute("POST", "/v1/audio/translations", "translations"),
        WireRoute("POST", "/v1/moderations", "moderations"),
        WireRoute("POST", "/v1/rerank", "rerank"),
        *(WireRoute(method, pattern, name) for method, pattern, name in FILES),
    )

    def authenticate(self, request: Request, world: World) -> None:
        checks.check_key(request.bearer(), world)

    async def other(self, route: WireRoute, request: Request, world: World) -> Response:
        return _OPERATIONS[route.operation](request, world)

    def error(self, refused: Refused) -> Response:
        return openai_error(refused)

    def model_of(self, request: Request, body: JSONDict) -> str:
        self._has_none()

    def read(self, request: Request, body: JSONDict, world: World) -> Ask:
        self._has_none()

    def wants_stream(self, route: WireRoute, body: JSONDict) -> bool:
        self._has_none()

    def answer(self, ask: Ask, body: JSONDict, events: list[Event]) -> bytes:
        self._has_none()

    def stream(self, ask: Ask, body: JSONDict, events: list[Event]) -> NoReturn:
        self._has_none()

    def error_piece(self, refused: Refused) -> bytes:
        self._has_none()

    def _has_none(self) -> NoReturn:
        raise AssertionError("There is no conversation among these routes.")


_OPERATIONS: Final[dict[str, Callable[[Request, World], Response]]] = {
    "models": _models,
    "model": _model,
    "embeddings": _embeddings,
    "images": generations,
    "image_edits": edits,
    "speech": speech,
    "transcriptions": transcriptions,
    "translations": translations,
    "moderations": _moderations,
    "rerank": _rerank,
    **{name: handler for (_, _, name), handler in FILES.items()},
}

WIRES: Final = (MediaWire(),)
