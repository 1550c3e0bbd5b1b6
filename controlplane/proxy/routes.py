"""Every proxied path, once. Both lanes read this table; a test compares them with it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import unquote

Operation = Literal[
    "chat",
    "count_tokens",
    "models",
    "model",
    "pass",
    "stored",
    "files",
    "batches",
    "kept",
    "explain",
    "metrics",
]


@dataclass(frozen=True, slots=True)
class Route:
    """`dialect` answers everything about this path, errors included."""

    name: str
    method: str
    path: str
    dialect: str
    operation: Operation
    summary: str
    allow_query_key: bool = False
    # With `pass`: the vendor's endpoint, see providers.protocols.passthrough.
    endpoint: str = ""
    # Forms with files: larger bodies, and no JSON.
    is_upload: bool = False
    # Such a form goes to the disk first: it may be large, and is sent on as it is.
    is_spooled: bool = False


CHAT: Final = "openai-completions"
RESPONSES: Final = "openai-responses"
MESSAGES: Final = "anthropic-messages"
GEMINI: Final = "google-generative-ai"


def _passed(name: str, endpoint: str, summary: str, *, is_upload: bool = False) -> Route:
    """One of OpenAI's endpoints beside conversations."""
    return Route(
        name,
        "POST",
        f"/v1/{endpoint}",
        CHAT,
        "pass",
        summary,
        endpoint=endpoint,
        is_upload=is_upload,
    )


_FIXED: Final = (
    Route(
        "chat-completions",
        "POST",
        "/v1/chat/completions",
        CHAT,
        "chat",
        "Chat Completions (OpenAI)",
    ),
    Route("responses", "POST", "/v1/responses", RESPONSES, "chat", "Responses (OpenAI)"),
    Route("messages", "POST", "/v1/messages", MESSAGES, "chat", "Messages (Anthropic)"),
    Route(
        "count-tokens",
        "POST",
        "/v1/messages/count_tokens",
        MESSAGES,
        "count_tokens",
        "Count the tokens of a message (Anthropic)",
    ),
    Route(
        "models",
        "GET",
        "/v1/models",
        CHAT,
        "models",
        "Models you may use (OpenAI or Anthropic shape)",
    ),
    Route(
        "route-explain",
        "POST",
        "/v1/route/explain",
        CHAT,
        "explain",
        "Where a request would go, and why; nothing is sent",
    ),
    Route(
        "provider-metrics",
        "GET",
        "/v1/metrics/providers",
        CHAT,
        "metrics",
        "What your requests showed of each provider lately",
    ),
    Route(
        "gemini-models",
        "GET",
        "/v1beta/models",
        GEMINI,
        "models",
        "Models you may use (Gemini)",
        True,
    ),
    _passed("completions", "completions", "Legacy completions (OpenAI)"),
    _passed("embeddings", "embeddings", "Embeddings (OpenAI)"),
    _passed("image-generations", "images/generations", "Pictures from text (OpenAI)"),
    _passed("image-edits", "images/edits", "Pictures from pictures (OpenAI)", is_upload=True),
    _passed("speech", "audio/speech", "Speech from text (OpenAI)"),
    _passed("transcriptions", "audio/transcriptions", "Text from speech (OpenAI)", is_upload=True),
    _passed(
        "translations", "audio/translations", "English text from speech (OpenAI)", is_upload=True
    ),
    _passed("moderations", "moderations", "Moderation (OpenAI)"),
    _passed("rerank", "rerank", "Rerank documents (Cohere, Jina and compatible servers)"),
)
_MODEL: Final = Route("model", "GET", "/v1/models/{model}", CHAT, "model", "One model", False)
_GEMINI_MODEL: Final = Route(
    "gemini-model", "GET", "/v1beta/models/{model}", GEMINI, "model", "One model (Gemini)", True
)
_GENERATE: Final = Route(
    "generate-content",
    "POST",
    "/v1beta/models/{model}:generateContent",
    GEMINI,
    "chat",
    "Generate content (Gemini)",
    True,
)
_STREAM: Final = Route(
    "stream-generate-content",
    "POST",
    "/v1beta/models/{model}:streamGenerateContent",
    GEMINI,
    "chat",
    "Generate content as a stream (Gemini)",
    True,
)
_COUNT: Final = Route(
    "gemini-count-tokens",
    "POST",
    "/v1beta/models/{model}:countTokens",
    GEMINI,
    "count_tokens",
    "Count the tokens of contents (Gemini)",
    True,
)
_EMBED: Final = Route(
    "embed-content",
    "POST",
    "/v1beta/models/{model}:embedContent",
    GEMINI,
    "pass",
    "Embed one content (Gemini)",
    True,
    "embedContent",
)
_EMBED_MANY: Final = Route(
    "batch-embed-contents",
    "POST",
    "/v1beta/models/{model}:batchEmbedContents",
    GEMINI,
    "pass",
    "Embed several contents (Gemini)",
    True,
    "batchEmbedContents",
)


def _stored(name: str, method: str, tail: str, summary: str) -> Route:
    path = "/v1/responses/{response_id}" + tail
    return Route(name, method, path, RESPONSES, "stored", summary)


_STORED: Final = (
    _stored("stored-response", "GET", "", "A stored response (OpenAI)"),
    _stored("delete-response", "DELETE", "", "Forget a stored response (OpenAI)"),
    _stored("cancel-response", "POST", "/cancel", "Cancel a background response (OpenAI)"),
    _stored("response-input", "GET", "/input_items", "What a stored response answered (OpenAI)"),
)
_FILES: Final = (
    Route(
        "upload-file",
        "POST",
        "/v1/files",
        CHAT,
        "files",
        "Upload a file to a provider (OpenAI)",
        is_upload=True,
        is_spooled=True,
    ),
    Route("files", "GET", "/v1/files", CHAT, "kept", "Your files (OpenAI)"),
    Route("file", "GET", "/v1/files/{file_id}", CHAT, "files", "One file (OpenAI)"),
    Route("delete-file", "DELETE", "/v1/files/{file_id}", CHAT, "files", "Delete a file (OpenAI)"),
    Route(
        "file-content",
        "GET",
        "/v1/files/{file_id}/content",
        CHAT,
        "files",
        "What is in a file (OpenAI)",
    ),
    Route("create-batch", "POST", "/v1/batches", CHAT, "batches", "Start a batch (OpenAI)"),
    Route("batches", "GET", "/v1/batches", CHAT, "kept", "Your batches (OpenAI)"),
    Route("batch", "GET", "/v1/batches/{batch_id}", CHAT, "files", "One batch (OpenAI)"),
    Route(
        "cancel-batch",
        "POST",
        "/v1/batches/{batch_id}/cancel",
        CHAT,
        "files",
        "Cancel a batch (OpenAI)",
    ),
)
_FILE_PATH: Final = re.compile(r"/v1/(file|batche)s(?:/[^/]{1,600}(/content|/cancel)?)?\Z")
_STORED_PATH: Final = re.compile(r"/v1/responses/[^/]{1,600}(/cancel|/input_items)?\Z")
ROUTES: Final = (
    *_FIXED,
    *_STORED,
    *_FILES,
    _MODEL,
    _GEMINI_MODEL,
    _GENERATE,
    _STREAM,
    _COUNT,
    _EMBED,
    _EMBED_MANY,
)

_BY_PATH: Final = {(route.method, route.path): route for route in _FIXED}
_FIXED_PATHS: Final = frozenset(route.path for route in _FIXED)
_ACTIONS: Final = {
    "generateContent": _GENERATE,
    "streamGenerateContent": _STREAM,
    "countTokens": _COUNT,
    "embedContent": _EMBED,
    "batchEmbedContents": _EMBED_MANY,
}
# Drop-in prefixes: a client changes only its base URL.
_PREFIX: Final = re.compile(r"/(openai|anthropic|genai)(?=/)")
# Tenant APIs that live beside the proxy under /v1 and are Django's to answer.
_DJANGO: Final = re.compile(r"/v1/(providers|capabilities)(/|\Z)")
_PREFIX_DIALECT: Final = {"openai": CHAT, "anthropic": MESSAGES, "genai": GEMINI}


@dataclass(frozen=True, slots=True)
class Match:
    """`route` is None when the path is ours but method or path are unknown: `dialect` then
    says in whose words to answer, `allowed` names the methods that would do."""

    route: Route | None
    dialect: str
    model: str | None = None
    stream: bool | None = None
    allowed: tuple[str, ...] = ()


def match(method: str, path: str) -> Match | None:
    """None = not a proxied path: Django's."""
    found = _BY_PATH.get((method, path))
    if found is not None:
        return Match(found, found.dialect)
    dialect = CHAT
    if prefix := _PREFIX.match(path):
        dialect = _PREFIX_DIALECT[prefix.group(1)]
        path = path[prefix.end() :]
        # Clients of the drop-in prefixes bring their own version segment or none.
        if not path.startswith(("/v1/", "/v1beta/")):
            path = ("/v1beta" if dialect == GEMINI else "/v1") + path
        found = _BY_PATH.get((method, path))
        if found is not None:
            return Match(found, dialect if found.operation == "models" else found.dialect)
    elif not path.startswith(("/v1/", "/v1beta/")) or _DJANGO.match(path):
        return None
    if path in _FIXED_PATHS:
        allowed = tuple(route.method for route in _FIXED if route.path == path)
        route = next(route for route in _FIXED if route.path == path)
        # Dialects share this path: the prefix says whose client it is.
        is_shared = prefix is not None and path == "/v1/models"
        return Match(None, dialect if is_shared else route.dialect, allowed=allowed)
    if path.startswith("/v1beta/") or (path.startswith("/v1/models/") and _is_action(path)):
        return _match_gemini(method, path)
    if path.startswith("/v1/models/"):
        name = unquote(path.removeprefix("/v1/models/"))
        if method == "GET":
            return Match(_MODEL, dialect, model=name)
        return Match(None, dialect, allowed=("GET",))
    if stored := _STORED_PATH.match(path):
        return _among(_STORED, method, "/v1/responses/{response_id}" + (stored.group(1) or ""))
    if path.startswith(("/v1/files", "/v1/batches")) and (found_file := _FILE_PATH.match(path)):
        return _match_file(method, path, found_file)
    if path.startswith("/v1/messages"):
        dialect = MESSAGES
    return Match(None, dialect)


def _match_file(method: str, path: str, found: re.Match[str]) -> Match:
    if path.count("/") > 2:
        kind = "file" if found.group(1) == "file" else "batch"
        path = f"/v1/{found.group(1)}s/{{{kind}_id}}{found.group(2) or ''}"
    return _among(_FILES, method, path)


def _among(routes: tuple[Route, ...], method: str, path: str) -> Match:
    """One of those that share a path."""
    sharing = [route for route in routes if route.path == path]
    for route in sharing:
        if route.method == method:
            return Match(route, route.dialect)
    return Match(None, routes[0].dialect, allowed=tuple(route.method for route in sharing))


def _is_action(path: str) -> bool:
    return path.rpartition(":")[2] in _ACTIONS


def _match_gemini(method: str, path: str) -> Match:
    """Model names may hold slashes and colons: the action follows the LAST colon."""
    rest = path.partition("/models/")[2]
    name, colon, action = rest.rpartition(":")
    route = _ACTIONS.get(action) if colon else None
    if route is not None:
        if method != "POST":
            return Match(None, GEMINI, allowed=("POST",))
        return Match(route, GEMINI, model=unquote(name), stream=route is _STREAM)
    if rest and method == "GET":
        return Match(_GEMINI_MODEL, GEMINI, model=unquote(rest))
    if rest and not (colon and method == "POST"):
        return Match(None, GEMINI, allowed=("GET",))
    return Match(None, GEMINI)
