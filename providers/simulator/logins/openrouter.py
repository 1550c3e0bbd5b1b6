"""OpenRouter: a browser is sent back to the caller's own address, with a code for an API key."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from providers.simulator.http import Request, Response, json_response
from providers.simulator.logins import browser, tokens
from providers.simulator.logins.approval import authorize_page
from providers.simulator.logins.asking import Declined, Play, fields, first
from providers.simulator.logins.browser import BadCode, BrowserRules
from providers.simulator.logins.state import Attempt
from providers.simulator.world import World

VENDOR: Final = "openrouter"
# The vendor has no client ids: whoever asks is named by the address it wants to be called at.
_CLIENT: Final = "callback"


def _is_redirect(_client_id: str, uri: str, _base: str) -> bool:
    parts = urlsplit(uri)
    if parts.fragment or parts.username or not parts.hostname:
        return False
    is_here = parts.hostname in ("localhost", "127.0.0.1")
    return parts.scheme == "https" or (parts.scheme == "http" and is_here)


BROWSER: Final = BrowserRules(VENDOR, {_CLIENT: "An application"}, _is_redirect, needs_state=False)


def begin(request: Request, world: World, rules: BrowserRules) -> Attempt:
    """The vendor's own names for what OAuth calls otherwise."""
    callback = first(request, "callback_url")
    sent = dict(parse_qsl(request.query_string)) | {
        "client_id": _CLIENT,
        "redirect_uri": callback,
        "response_type": "code",
    }
    # A state of the caller travels inside its own address.
    sent.pop("state", None)
    asked = Request(
        request.method,
        request.path,
        request.headers,
        query_string=urlencode(sent),
        prefix=request.prefix,
    )
    attempt = browser.begin(asked, world, rules)
    attempt.client_name = urlsplit(callback).hostname or ""
    return attempt


def _error(status: int, message: str) -> Response:
    return json_response({"error": {"code": status, "message": message}}, status)


def key(request: Request, world: World) -> Response:
    sent = fields(request, lambda _, message: _error(400, message), "json")
    if sent.get("code_challenge_method", "S256") != "S256":
        message = "Invalid code_challenge_method"
        raise Declined(_error(400, message), "pkce", message)
    value = sent.get("code", "")
    attempt = browser.attempt_of(world, value)
    code = browser.redeem(
        world,
        VENDOR,
        value,
        client_id=_CLIENT,
        redirect_uri=attempt.redirect_uri if attempt else "",
        verifier=sent.get("code_verifier", ""),
    )
    if isinstance(code, BadCode):
        return _error(403, "Invalid code or code_verifier")
    family = code.family = tokens.begin_family(world, VENDOR, code.account, _CLIENT, "")
    made = "sk-or-v1-" + world.token("openrouter_key", 64)
    return json_response(
        {
            "key": tokens.add_access(world, family, made, None),
            "user_id": f"user_{code.account.number}",
        }
    )


ROUTES: Final[tuple[tuple[str, str, Play], ...]] = (("POST", "/openrouter/api/v1/auth/keys", key),)
PAGES: Final[tuple[tuple[str, str, Play], ...]] = (
    ("GET", "/openrouter/auth", authorize_page(BROWSER, begin)),
    ("POST", "/openrouter/auth", authorize_page(BROWSER, begin)),
)
