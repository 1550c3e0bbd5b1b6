"""Reading what a login client sent, and refusing it in the vendor's words."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal
from urllib.parse import unquote_plus

from controlplane.kit.json import InvalidJSON
from providers.simulator.http import Request, Response, json_response
from providers.simulator.world import World

DEVICE_GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"
FORM: Final = "application/x-www-form-urlencoded"
# Nothing a login client sends is longer.
MAX_BODY: Final = 65_536

Body = Literal["form", "json"]
Fields = dict[str, str]
# What a route does; the routes in __init__ add outages and turn refusals into answers.
Play = Callable[[Request, World], Response]


class Declined(Exception):
    """The vendor says no with `response`. `rule` names the caller's mistake for
    /control/violations; empty = a refusal that is nobody's mistake."""

    def __init__(self, response: Response, rule: str = "", detail: str = "") -> None:
        super().__init__(detail or rule)
        self.response = response
        self.rule = rule
        self.detail = detail


class Forced(Exception):
    """This poll gets an outage, because somebody scripted it."""

    def __init__(self, options: dict[str, str]) -> None:
        super().__init__(str(options))
        self.options = options


# Makes the vendor's answer from an OAuth error code and a sentence.
Refuse = Callable[[str, str], Response]


def oauth_error(error: str, description: str) -> Response:
    """RFC 6749, 5.2."""
    headers = {"content-type": "application/json", "cache-control": "no-store"}
    status = 401 if error == "invalid_client" else 400
    response = json_response({"error": error, "error_description": description}, status)
    response.headers |= headers
    return response


def token_response(answer: Mapping[str, object]) -> Response:
    response = json_response(answer)
    response.headers |= {"cache-control": "no-store", "pragma": "no-cache"}
    return response


def fields(request: Request, refuse: Refuse, *accepted: Body) -> Fields:
    """The body's fields as text. Numbers and truths come as JSON writes them; nested values
    only count as present. Raises Declined for another content type, or for no such body."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.is_too_large or len(request.body) > MAX_BODY:
        raise Declined(refuse("invalid_request", "The body is too large."), "size")
    if kind == FORM and "form" in accepted:
        return request.form()
    if kind == "application/json" and "json" in accepted:
        try:
            body = request.json()
        except InvalidJSON as error:
            message = f"The body is not JSON: {error}"
            raise Declined(refuse("invalid_request", message), "json", message) from None
        if not isinstance(body, dict):
            message = "The body is not a JSON object."
            raise Declined(refuse("invalid_request", message), "json", message)
        return {name: _text(value) for name, value in body.items() if value is not None}
    names = {"form": FORM, "json": "application/json"}
    message = f"Send {' or '.join(names[body] for body in accepted)}, not {kind or 'nothing'}."
    raise Declined(refuse("invalid_request", message), "content_type", message)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return " ".join(item for item in value if isinstance(item, str))
    return str(value).lower() if isinstance(value, bool) else str(value)


def require(sent: Fields, refuse: Refuse, *names: str) -> None:
    for name in names:
        if not sent.get(name):
            message = f"The field {name} is missing."
            raise Declined(refuse("invalid_request", message), "field", message)


def basic(request: Request) -> tuple[str, str] | None:
    """Client id and secret of `Authorization: Basic …` (RFC 6749, 2.3.1), or None."""
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        text = base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
    name, _, secret = text.partition(":")
    return unquote_plus(name), unquote_plus(secret)


def base_url(request: Request) -> str:
    """Where this simulation answers, as the caller wrote it."""
    scheme = request.headers.get("x-forwarded-proto", "http")
    return f"{scheme}://{request.headers.get('host', 'localhost')}{request.prefix}"


def first(request: Request, name: str) -> str:
    """A query parameter, or an empty string."""
    return (request.query.get(name) or [""])[0]
