"""Google's installed-app flow, as the Gemini CLI and Antigravity use it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from controlplane.kit.json import JSONDict
from providers.simulator.http import Request, Response, json_response
from providers.simulator.logins import browser, tokens
from providers.simulator.logins.approval import authorize_page, code_page
from providers.simulator.logins.asking import (
    Declined,
    Fields,
    Play,
    fields,
    oauth_error,
    require,
    token_response,
)
from providers.simulator.logins.browser import BadCode, BadPage, BrowserRules, is_loopback
from providers.simulator.logins.state import Attempt, Code, Family, logins_of
from providers.simulator.logins.tokens import BadRefresh
from providers.simulator.world import World

VENDOR: Final = "google"
_MANUAL: Final = "https://codeassist.google.com/authcode"
_CODE_PAGE: Final = "/google/authcode"
_ACCESS_SECONDS: Final = 3599
_AUTH: Final = "https://www.googleapis.com/auth/"
CLOUD_SCOPE: Final = _AUTH + "cloud-platform"
_EMAIL_SCOPE: Final = _AUTH + "userinfo.email"


@dataclass(frozen=True, slots=True)
class _Client:
    name: str
    loopback_path: str
    has_code_page: bool
    scopes: tuple[str, ...]


_BASIC_SCOPES: Final = ("cloud-platform", "userinfo.email", "userinfo.profile")
_CLIENTS: Final[dict[str, _Client]] = {
    "681255809395-oo8ft2oprdrnp9e3aqf6av3hmdib135j.apps.googleusercontent.com": _Client(
        "Gemini CLI and Gemini Code Assist", "/oauth2callback", True, _BASIC_SCOPES
    ),
    "1071006060591-tmhssin2h21lcre235vtolojh4g403ep.apps.googleusercontent.com": _Client(
        "Antigravity",
        "/oauth-callback",
        False,
        (*_BASIC_SCOPES, "cclog", "experimentsandconfigs"),
    ),
}


def _is_redirect(client_id: str, uri: str, base: str) -> bool:
    client = _CLIENTS[client_id]
    if is_loopback(uri, client.loopback_path):
        return True
    return client.has_code_page and uri in (_MANUAL, base + _CODE_PAGE)


BROWSER: Final = BrowserRules(
    VENDOR,
    {client_id: client.name for client_id, client in _CLIENTS.items()},
    _is_redirect,
    code_page=_CODE_PAGE,
    needs_pkce=False,
    code_prefix="4/0A",
    kept=("access_type", "prompt"),
)


def begin(request: Request, world: World, rules: BrowserRules) -> Attempt:
    attempt = browser.begin(request, world, rules)
    known = {_AUTH + name for name in _CLIENTS[attempt.client_id].scopes} | {"openid"}
    if unknown := [scope for scope in attempt.scope.split() if scope not in known]:
        world.violation(VENDOR, "scope", " ".join(unknown))
        raise BadPage(f"Some requested scopes are invalid: {' '.join(unknown)}")
    if not attempt.scope:
        world.violation(VENDOR, "scope", "missing")
        raise BadPage("Missing required parameter: scope")
    if attempt.code_page and not attempt.challenge:
        world.violation(VENDOR, "pkce", "the code page needs a code_challenge")
        raise BadPage("Missing required parameter: code_challenge")
    return attempt


def token(request: Request, world: World) -> Response:
    sent = fields(request, oauth_error, "form")
    require(sent, oauth_error, "grant_type", "client_id")
    client_id, secret = sent["client_id"], sent.get("client_secret", "")
    if client_id not in _CLIENTS:
        raise Declined(
            oauth_error("invalid_client", "The OAuth client was not found."),
            "client_id",
            client_id,
        )
    # No secret of the vendor is known here: any will do that does not look wrong on purpose.
    if not secret or secret.startswith("wrong"):
        message = (
            "The provided client secret is invalid." if secret else "client_secret is missing."
        )
        raise Declined(oauth_error("invalid_client", message), "client_secret", message)
    if sent["grant_type"] == "authorization_code":
        return _exchanged(world, sent, client_id)
    if sent["grant_type"] == "refresh_token":
        return _refreshed(world, sent, client_id)
    message = f"Invalid grant_type: {sent['grant_type']}"
    raise Declined(oauth_error("unsupported_grant_type", message), "grant_type", message)


def _exchanged(world: World, sent: Fields, client_id: str) -> Response:
    require(sent, oauth_error, "code", "redirect_uri")
    code = browser.redeem(
        world,
        VENDOR,
        sent["code"],
        client_id=client_id,
        redirect_uri=sent["redirect_uri"],
        verifier=sent.get("code_verifier", ""),
    )
    if code is BadCode.REDIRECT:
        return oauth_error("redirect_uri_mismatch", "Bad Request")
    if isinstance(code, BadCode):
        return oauth_error("invalid_grant", f"The code {code.value}.")
    family = code.family = tokens.begin_family(
        world, VENDOR, code.account, client_id, code.attempt.scope
    )
    answer = _issued(world, family)
    if _gets_refresh(world, code):
        refresh = "1//0" + world.token("google_refresh", 90)
        answer["refresh_token"] = tokens.add_refresh(world, family, refresh)
    return token_response(answer)


def _gets_refresh(world: World, code: Code) -> bool:
    """Only offline, and after the first time only where consent was asked for again."""
    facts = code.attempt.facts
    consents: set[str] = logins_of(world).notes.setdefault("google/consents", set())
    whose = f"{code.account.name}/{code.attempt.client_id}"
    is_first = whose not in consents
    consents.add(whose)
    return facts.get("access_type") == "offline" and (
        is_first or "consent" in facts.get("prompt", "").split()
    )


def _refreshed(world: World, sent: Fields, client_id: str) -> Response:
    """The refresh token stays: none comes back."""
    require(sent, oauth_error, "refresh_token")
    family = tokens.spend(world, VENDOR, sent["refresh_token"], client_id, is_single_use=False)
    if isinstance(family, BadRefresh):
        return oauth_error("invalid_grant", "Token has been expired or revoked.")
    return token_response(_issued(world, family))


def _issued(world: World, family: Family) -> JSONDict:
    access = "ya29." + world.token("google_access", 120)
    return {
        "access_token": tokens.add_access(world, family, access, _ACCESS_SECONDS),
        "expires_in": _ACCESS_SECONDS,
        "scope": family.scope,
        "token_type": "Bearer",
    }


def revoke(request: Request, world: World) -> Response:
    sent = fields(request, oauth_error, "form")
    require(sent, oauth_error, "token")
    if not tokens.revoke(world, VENDOR, sent["token"]):
        return oauth_error("invalid_token", "Token expired or revoked")
    return json_response({})


# --- what an access token is good for --------------------------------------------------------


def api_error(status: int, code: str, message: str, **more: object) -> Response:
    error = {"code": status, "message": message, "status": code, **more}
    return json_response({"error": error}, status)


def signed_in(request: Request, world: World, scope: str) -> Family:
    """Who asks a Google service, with `scope`. Raises Declined."""
    family = tokens.family_of(world, VENDOR, request.bearer())
    if family is None:
        message = "Request had invalid authentication credentials."
        raise Declined(api_error(401, "UNAUTHENTICATED", message))
    if scope not in family.scope.split():
        message = "Request had insufficient authentication scopes."
        raise Declined(api_error(403, "PERMISSION_DENIED", message), "scope", scope)
    return family


def userinfo(request: Request, world: World) -> Response:
    account = signed_in(request, world, _EMAIL_SCOPE).account
    return json_response(
        {
            "id": str(account.number),
            "email": account.email,
            "verified_email": True,
            "name": account.full_name,
        }
    )


ROUTES: Final[tuple[tuple[str, str, Play], ...]] = (
    ("POST", "/google/token", token),
    ("POST", "/google/revoke", revoke),
    ("GET", "/google/oauth2/v2/userinfo", userinfo),
)
PAGES: Final[tuple[tuple[str, str, Play], ...]] = (
    ("GET", "/google/o/oauth2/v2/auth", authorize_page(BROWSER, begin)),
    ("POST", "/google/o/oauth2/v2/auth", authorize_page(BROWSER, begin)),
    ("GET", _CODE_PAGE, code_page(VENDOR)),
)
