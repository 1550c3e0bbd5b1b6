"""What each vendor's login answers when it is broken or too busy, in that vendor's own form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from providers.simulator.http import Response, html_response, json_response
from providers.simulator.wire import Refused

_GOOGLE_STATUS: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_CLAUDE_TYPES: Final = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    529: "overloaded_error",
}


def answer(path: str, refused: Refused) -> Response:
    """The outage of whoever lives at `path`, which is still with its vendor's folder."""
    form = _FORMS.get(path) or _FORMS.get(path.split("/")[1], _oauth)
    response = form(refused)
    if refused.retry_after:
        response.headers["retry-after"] = refused.retry_after
    return response


def _oauth(refused: Refused) -> Response:
    """RFC 6749 has a word for servers that are down, and none for callers that are too many."""
    if refused.status >= 500:
        error = "temporarily_unavailable" if refused.status == 503 else "server_error"
    else:
        error = "slow_down" if refused.status == 429 else "invalid_request"
    body = {"error": error, "error_description": refused.message}
    return json_response(body, refused.status, cache_control="no-store")


def _github(refused: Refused) -> Response:
    """The site itself, not its API: a page, whatever the caller accepts."""
    title = "Unicorn!" if refused.status >= 500 else "Whoa there!"
    page = f"<!DOCTYPE html><html><head><title>{title} · GitHub</title></head><body>{title}</body>"
    return html_response(page + "</html>", refused.status)


def _github_api(refused: Refused) -> Response:
    body = {"message": refused.message, "status": str(refused.status)}
    if refused.status == 429:
        body["documentation_url"] = "https://docs.github.com/rest/overview/rate-limits"
    return json_response(body, refused.status)


def _aws_oidc(refused: Refused) -> Response:
    """SDKs read the exception's name from the header."""
    if refused.status >= 500:
        name, error = "InternalServerException", "server_error"
    elif refused.status == 429:
        name, error = "SlowDownException", "slow_down"
    else:
        name, error = "InvalidRequestException", "invalid_request"
    response = json_response({"error": error, "error_description": refused.message}, refused.status)
    response.headers["x-amzn-errortype"] = name
    return response


def _kiro(refused: Refused) -> Response:
    if refused.status >= 500:
        name = "InternalServerException"
    elif refused.status == 429:
        name = "ThrottlingException"
    else:
        name = "ValidationException"
    body = {"__type": name, "message": refused.message}
    response = json_response(body, refused.status)
    response.headers["x-amzn-errortype"] = name
    return response


def _codex(refused: Refused) -> Response:
    if refused.status >= 500:
        kind = "server_error"
    else:
        kind = "rate_limit_exceeded" if refused.status == 429 else "invalid_request_error"
    code = kind if refused.status == 429 else None
    error = {"message": refused.message, "type": kind, "param": None, "code": code}
    return json_response({"error": error}, refused.status)


def _claude(refused: Refused) -> Response:
    fallback = "api_error" if refused.status >= 500 else "invalid_request_error"
    kind = _CLAUDE_TYPES.get(refused.status, fallback)
    body = {"type": "error", "error": {"type": kind, "message": refused.message}}
    return json_response(body, refused.status)


def _google_oauth(refused: Refused) -> Response:
    error = "internal_failure" if refused.status >= 500 else "invalid_request"
    if refused.status == 429:
        error = "rate_limit_exceeded"
    return json_response({"error": error, "error_description": refused.message}, refused.status)


def _google_service(refused: Refused) -> Response:
    fallback = "INTERNAL" if refused.status >= 500 else "FAILED_PRECONDITION"
    status = _GOOGLE_STATUS.get(refused.status, fallback)
    error: dict[str, object] = {
        "code": refused.status,
        "message": refused.message,
        "status": status,
    }
    if refused.retry_after.isdecimal():
        kind = "type.googleapis.com/google.rpc.RetryInfo"
        error["details"] = [{"@type": kind, "retryDelay": f"{refused.retry_after}s"}]
    return json_response({"error": error}, refused.status)


def _message(refused: Refused) -> Response:
    """OpenRouter, and Copilot's own service."""
    error = {"code": refused.status, "message": refused.message}
    return json_response({"error": error}, refused.status)


def _kilo(refused: Refused) -> Response:
    return json_response({"error": refused.message}, refused.status)


# By path, or by folder; folders that are not here speak plain OAuth.
_FORMS: Final[dict[str, Callable[[Refused], Response]]] = {
    "github": _github,
    "github-api": _github_api,
    "copilot": _message,
    "aws-oidc": _aws_oidc,
    "kiro": _kiro,
    "codex": _codex,
    "claude": _claude,
    "anthropic": _claude,
    "google": _google_service,
    "/google/token": _google_oauth,
    "/google/revoke": _google_oauth,
    "code-assist": _google_service,
    "openrouter": _message,
    "kilo": _kilo,
}
