"""How each client dialect asks, and how it says that something went wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

JSON = dict[str, Any]


@dataclass(frozen=True)
class Dialect:
    """One dialect of our callers. `own_model` is served by a vendor that speaks it too."""

    name: str
    own_model: str
    body: Callable[[str, str, bool], JSON]
    path: Callable[[str, bool], str]
    # Raises AssertionError unless the value is an error in this dialect's exact shape.
    check_error: Callable[[JSON, int], None]

    def ask(self, model: str, text: str = "Hello", *, stream: bool = False) -> tuple[str, JSON]:
        return self.path(model, stream), self.body(model, text, stream)


def _chat(model: str, text: str, stream: bool) -> JSON:
    body: JSON = {"model": model, "messages": [{"role": "user", "content": text}]}
    return {**body, "stream": True} if stream else body


def _responses(model: str, text: str, stream: bool) -> JSON:
    body: JSON = {"model": model, "input": text}
    return {**body, "stream": True} if stream else body


def _messages(model: str, text: str, stream: bool) -> JSON:
    return {**_chat(model, text, stream), "max_tokens": 100}


def _gemini(model: str, text: str, stream: bool) -> JSON:
    return {"contents": [{"role": "user", "parts": [{"text": text}]}]}


def _gemini_path(model: str, stream: bool) -> str:
    action = "streamGenerateContent?alt=sse" if stream else "generateContent"
    return f"/v1beta/models/{model}:{action}"


def _openai_error(value: JSON, status: int) -> None:
    assert set(value) == {"error"}, value
    error = value["error"]
    assert set(error) >= {"message", "type", "param", "code"}, value
    assert isinstance(error["message"], str), value
    assert error["message"], value
    assert isinstance(error["type"], str), value
    assert error["type"], value


_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    502: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def _anthropic_error(value: JSON, status: int) -> None:
    assert set(value) >= {"type", "error"}, value
    assert value["type"] == "error", value
    assert value["error"]["message"], value
    expected = _ANTHROPIC_TYPES.get(status, "invalid_request_error")
    assert value["error"]["type"] == expected, (status, value)


_GOOGLE_STATUS = {
    400: {"INVALID_ARGUMENT", "FAILED_PRECONDITION"},
    401: {"UNAUTHENTICATED"},
    403: {"PERMISSION_DENIED"},
    404: {"NOT_FOUND"},
    429: {"RESOURCE_EXHAUSTED"},
    500: {"INTERNAL"},
    502: {"INTERNAL"},
    503: {"UNAVAILABLE"},
    504: {"DEADLINE_EXCEEDED"},
    529: {"UNAVAILABLE"},
}


def _google_error(value: JSON, status: int) -> None:
    assert set(value) == {"error"}, value
    error = value["error"]
    assert error["code"] == status, (status, value)
    assert error["message"], value
    if status in _GOOGLE_STATUS:
        assert error["status"] in _GOOGLE_STATUS[status], (status, value)
    else:
        assert error["status"].isupper(), value


CHAT = Dialect("chat", "sim-gpt", _chat, lambda *_: "/v1/chat/completions", _openai_error)
RESPONSES = Dialect(
    "responses", "sim-gpt-responses", _responses, lambda *_: "/v1/responses", _openai_error
)
MESSAGES = Dialect("messages", "sim-claude", _messages, lambda *_: "/v1/messages", _anthropic_error)
GEMINI = Dialect("gemini", "sim-gemini", _gemini, _gemini_path, _google_error)
DIALECTS = (CHAT, RESPONSES, MESSAGES, GEMINI)
BY_NAME = {dialect.name: dialect for dialect in DIALECTS}


def dialect_of_path(path: str) -> Dialect:
    """In whose words an error about this path is told."""
    if path.startswith(("/v1beta/", "/genai/")):
        return GEMINI
    if path.startswith(("/v1/messages", "/anthropic/")):
        return MESSAGES
    return CHAT
