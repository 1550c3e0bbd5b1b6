"""GitHub: the device flow that says its errors under status 200, and who the account is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from controlplane.kit.json import JSONDict
from providers.simulator.http import Request, Response, json_response
from providers.simulator.logins import device, tokens
from providers.simulator.logins.approval import device_page
from providers.simulator.logins.asking import (
    DEVICE_GRANT,
    FORM,
    Declined,
    Fields,
    Play,
    base_url,
    fields,
)
from providers.simulator.logins.device import DeviceRules, Poll
from providers.simulator.logins.state import Family, logins_of
from providers.simulator.logins.tokens import BadRefresh
from providers.simulator.world import World

VENDOR: Final = "github"
_RULES: Final = DeviceRules(VENDOR, "/github/login/device")
_EXPIRING_SECONDS: Final = 28_800
_REFRESH_SECONDS: Final = 15_897_600
# The eleventh sign-in of a person with an OAuth app pushes the oldest out.
_MAX_SIGN_INS: Final = 10


@dataclass(frozen=True, slots=True)
class App:
    name: str
    # ghu_ for GitHub Apps, gho_ for OAuth apps.
    prefix: str
    # Whether copilot_internal knows it.
    is_copilot: bool = True
    expires: bool = False
    has_device_flow: bool = True


APPS: Final[dict[str, App]] = {
    "Iv1.b507a08c87ecfe98": App("GitHub for VS Code", "ghu_"),
    "Ov23li8tweQw6odWQebz": App("opencode", "gho_", is_copilot=False),
    "Iv23liSimulatedExpiry": App("Simulated app with expiring tokens", "ghu_", expires=True),
    "Iv23liSimulatedBrowser": App("Simulated app", "ghu_", has_device_flow=False),
}

_ERRORS: Final = {
    Poll.PENDING: ("authorization_pending", "The authorization request is still pending."),
    Poll.SLOW_DOWN: ("slow_down", "Too many requests have been made in the same timeframe."),
    Poll.DENIED: ("access_denied", "The authorization request was denied."),
    Poll.EXPIRED: ("expired_token", "This 'device_code' has expired."),
    Poll.UNKNOWN: ("incorrect_device_code", "The device_code provided is not valid."),
}


def _answer(request: Request, answer: JSONDict) -> Response:
    """JSON only for those who ask for it; the status is 200 whatever it says."""
    if "application/json" in request.headers.get("accept", ""):
        return json_response(answer, cache_control="no-store")
    return Response(200, urlencode(answer).encode(), {"content-type": f"{FORM}; charset=utf-8"})


def _error(request: Request, error: str, description: str, **more: object) -> Response:
    return _answer(request, {"error": error, "error_description": description, **more})


def _sent(request: Request) -> tuple[Fields, App]:
    sent = fields(request, lambda error, text: _error(request, error, text), "form", "json")
    app = APPS.get(sent.get("client_id", ""))
    if app is None:
        response = _error(
            request, "incorrect_client_credentials", "The client_id passed is incorrect."
        )
        raise Declined(response, "client_id", sent.get("client_id", "missing"))
    return sent, app


def start(request: Request, world: World) -> Response:
    sent, app = _sent(request)
    if not app.has_device_flow:
        response = _error(request, "device_flow_disabled", "Device Flow is off for this app.")
        raise Declined(response, "client_id", "device flow is off")
    attempt = device.start(
        world,
        _RULES,
        client_id=sent["client_id"],
        client_name=app.name,
        scope=sent.get("scope", ""),
    )
    return _answer(
        request,
        {
            "device_code": attempt.id,
            "user_code": attempt.user_code,
            "verification_uri": base_url(request) + _RULES.page,
            "expires_in": _RULES.lifetime_seconds - 1,
            "interval": _RULES.interval_seconds,
        },
    )


def token(request: Request, world: World) -> Response:
    sent, app = _sent(request)
    grant = sent.get("grant_type", "")
    if grant == DEVICE_GRANT:
        return _polled(request, world, sent, app)
    if grant == "refresh_token":
        return _refreshed(request, world, sent, app)
    response = _error(request, "unsupported_grant_type", "The grant type is not supported.")
    raise Declined(response, "grant_type", grant or "missing")


def _polled(request: Request, world: World, sent: Fields, app: App) -> Response:
    code, client_id = sent.get("device_code", ""), sent["client_id"]
    answer, attempt = device.poll(world, VENDOR, code, client_id)
    if answer is not Poll.APPROVED:
        error, description = _ERRORS[answer]
        more: JSONDict = {}
        if answer is Poll.SLOW_DOWN:
            assert attempt is not None
            more = {"interval": int(attempt.interval_seconds)}
        return _error(request, error, description, **more)
    assert attempt is not None
    assert attempt.account is not None
    # User tokens of GitHub Apps have no scopes of their own.
    scope = "" if app.prefix == "ghu_" else attempt.scope
    family = tokens.begin_family(world, VENDOR, attempt.account, client_id, scope)
    if app.prefix == "gho_":
        _push_out_oldest(world, family)
    return _answer(request, _issued(world, family, app))


def _push_out_oldest(world: World, newest: Family) -> None:
    whose = (VENDOR, newest.account, newest.client_id, newest.scope)
    alive = [
        family
        for family in logins_of(world).families
        if family.is_alive
        and (family.vendor, family.account, family.client_id, family.scope) == whose
    ]
    for family in alive[:-_MAX_SIGN_INS]:
        family.end("pushed out by newer sign-ins")


def _issued(world: World, family: Family, app: App) -> JSONDict:
    seconds = _EXPIRING_SECONDS if app.expires else None
    access = tokens.add_access(
        world, family, app.prefix + world.token("github_access", 36), seconds
    )
    answer: JSONDict = {
        "access_token": access,
        "token_type": "bearer",
        "scope": family.scope.replace(" ", ","),
    }
    if app.expires:
        refresh = "ghr_" + world.token("github_refresh", 76)
        tokens.add_refresh(world, family, refresh, _REFRESH_SECONDS)
        answer |= {
            "expires_in": seconds,
            "refresh_token": refresh,
            "refresh_token_expires_in": _REFRESH_SECONDS,
        }
    return answer


def _refreshed(request: Request, world: World, sent: Fields, app: App) -> Response:
    family = tokens.spend(
        world, VENDOR, sent.get("refresh_token", ""), sent["client_id"], is_single_use=True
    )
    if isinstance(family, BadRefresh):
        return _error(request, "bad_refresh_token", "The refresh token is incorrect or expired.")
    # Both old tokens stop at once.
    tokens.revoke_access(world, family)
    return _answer(request, _issued(world, family, app))


# --- api.github.com --------------------------------------------------------------------------


def signed_in(request: Request, world: World) -> Family:
    """Who asks api.github.com: `Bearer` or `token` and the GitHub token. Raises Declined."""
    if not request.headers.get("user-agent"):
        raise Declined(api_error(403, "Requests need a User-Agent header."), "user_agent")
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    value = value.strip() if scheme.lower() in ("bearer", "token") else ""
    family = tokens.family_of(world, VENDOR, value)
    if family is None:
        raise Declined(api_error(401, "Bad credentials"))
    return family


def api_error(status: int, message: str, **more: object) -> Response:
    return json_response({"message": message, "status": str(status), **more}, status)


def user(request: Request, world: World) -> Response:
    account = signed_in(request, world).account
    return json_response(
        {
            "login": account.name,
            "id": account.number,
            "name": account.full_name,
            # People may hide it.
            "email": None if account.plan == "free" else account.email,
            "type": "User",
        }
    )


ROUTES: Final[tuple[tuple[str, str, Play], ...]] = (
    ("POST", "/github/login/device/code", start),
    ("POST", "/github/login/oauth/access_token", token),
    ("GET", "/github-api/user", user),
)
PAGES: Final[tuple[tuple[str, str, Play], ...]] = (
    ("GET", _RULES.page, device_page(VENDOR)),
    ("POST", _RULES.page, device_page(VENDOR)),
)
