"""Claude Pro and Max: PKCE with a page that shows code#state, refresh, profile, usage."""

from __future__ import annotations

import hmac
import math
from datetime import UTC, datetime, timedelta
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
from providers.simulator.logins.browser import BadCode, BrowserRules, is_loopback
from providers.simulator.logins.state import Family, logins_of
from providers.simulator.logins.tokens import BadRefresh
from providers.simulator.world import World

VENDOR: Final = "claude"
_CLIENTS: Final = {"9d1c250a-e61b-44d9-88ed-5944d1962f5e": "Claude Code"}
_CODE_PAGE: Final = "/claude/oauth/code/callback"
_MANUAL: Final = (
    "https://platform.claude.com/oauth/code/callback",
    "https://console.anthropic.com/oauth/code/callback",
)
_SCOPES: Final = frozenset(
    (
        *("org:create_api_key", "user:profile", "user:inference"),
        *("user:sessions:claude_code", "user:mcp_servers", "user:file_upload"),
    )
)
_ACCESS_SECONDS: Final = 28_800
_BETA: Final = "oauth-2025-04-20"
# Unknown programs may ask for the usage this often in this time.
_USAGE_CALLS: Final = 2
_USAGE_SECONDS: Final = 300


def _is_redirect(_client_id: str, uri: str, base: str) -> bool:
    return uri in (*_MANUAL, base + _CODE_PAGE) or is_loopback(uri, "/callback")


BROWSER: Final = BrowserRules(VENDOR, _CLIENTS, _is_redirect, code_page=_CODE_PAGE)


def token(request: Request, world: World) -> Response:
    sent = fields(request, oauth_error, "json")
    require(sent, oauth_error, "grant_type", "client_id")
    client_id = sent["client_id"]
    if client_id not in _CLIENTS:
        raise Declined(oauth_error("invalid_client", "Unknown client."), "client_id", client_id)
    if sent["grant_type"] == "authorization_code":
        return _exchanged(world, sent, client_id)
    if sent["grant_type"] == "refresh_token":
        return _refreshed(world, sent, client_id)
    message = f"No grant {sent['grant_type']} here."
    raise Declined(oauth_error("unsupported_grant_type", message), "grant_type", message)


def _exchanged(world: World, sent: Fields, client_id: str) -> Response:
    require(sent, oauth_error, "code", "redirect_uri", "code_verifier", "state")
    code = browser.redeem(
        world,
        VENDOR,
        sent["code"],
        client_id=client_id,
        redirect_uri=sent["redirect_uri"],
        verifier=sent["code_verifier"],
    )
    if isinstance(code, BadCode):
        return oauth_error("invalid_grant", f"The code {code.value}.")
    if not hmac.compare_digest(code.attempt.state.encode(), sent["state"].encode()):
        message = "state is not the one of the authorize request"
        raise Declined(oauth_error("invalid_grant", f"The {message}."), "state", message)
    scope = " ".join(s for s in code.attempt.scope.split() if s in _SCOPES)
    code.family = tokens.begin_family(world, VENDOR, code.account, client_id, scope)
    account = code.account
    return token_response(
        _issued(world, code.family)
        | {
            "organization": {"uuid": account.uuid("org"), "name": _organization(code.family)},
            "account": {"uuid": account.uuid("claude"), "email_address": account.email},
        }
    )


def _refreshed(world: World, sent: Fields, client_id: str) -> Response:
    require(sent, oauth_error, "refresh_token")
    family = tokens.spend(world, VENDOR, sent["refresh_token"], client_id, is_single_use=True)
    if isinstance(family, BadRefresh):
        return oauth_error("invalid_grant", "Refresh token not found or invalid")
    return token_response(_issued(world, family))


def _issued(world: World, family: Family) -> JSONDict:
    access = "sk-ant-oat01-" + world.token("claude_access", 80)
    refresh = "sk-ant-ort01-" + world.token("claude_refresh", 80)
    return {
        "token_type": "Bearer",
        "access_token": tokens.add_access(world, family, access, _ACCESS_SECONDS),
        "refresh_token": tokens.add_refresh(world, family, refresh),
        "expires_in": _ACCESS_SECONDS,
        "scope": family.scope,
    }


def _organization(family: Family) -> str:
    if family.account.plan == "business":
        return "Example company"
    return f"{family.account.full_name}'s organization"


# --- api.anthropic.com -----------------------------------------------------------------------


def _error(status: int, kind: str, message: str) -> Response:
    return json_response({"type": "error", "error": {"type": kind, "message": message}}, status)


def _signed_in(request: Request, world: World) -> Family:
    if _BETA not in request.headers.get("anthropic-beta", ""):
        message = "OAuth authentication is currently not supported."
        raise Declined(_error(401, "authentication_error", message), "anthropic_beta", message)
    family = tokens.family_of(world, VENDOR, request.bearer())
    if family is None:
        message = "OAuth token has expired. Please obtain a new token or refresh your existing one."
        raise Declined(_error(401, "authentication_error", message))
    if "user:profile" not in family.scope.split():
        message = "OAuth token does not meet scope requirement user:profile"
        raise Declined(_error(403, "permission_error", message), "scope", message)
    if family.account.plan == "suspended":
        raise Declined(_error(403, "permission_error", "This account has been suspended."))
    return family


def profile(request: Request, world: World) -> Response:
    family = _signed_in(request, world)
    account = family.account
    return json_response(
        {
            "account": {
                "uuid": account.uuid("claude"),
                "email": account.email,
                "full_name": account.full_name,
                "has_claude_max": account.plan == "pro",
                "has_claude_pro": account.plan in ("pro", "exhausted"),
            },
            "organization": {
                "uuid": account.uuid("org"),
                "name": _organization(family),
                "organization_type": (
                    "claude_team" if account.plan == "business" else "claude_max"
                ),
                "rate_limit_tier": "default_claude_max_5x",
            },
        }
    )


def usage(request: Request, world: World) -> Response:
    family = _signed_in(request, world)
    now = world.now()
    calls: list[datetime] = logins_of(world).notes.setdefault(f"usage/{request.bearer()}", [])
    calls[:] = [at for at in calls if now - at < timedelta(seconds=_USAGE_SECONDS)]
    if len(calls) >= _USAGE_CALLS:
        left = math.ceil(_USAGE_SECONDS - (now - calls[0]).total_seconds())
        response = _error(429, "rate_limit_error", "Rate limited. Please try again later.")
        response.headers["retry-after"] = str(left)
        raise Declined(response, "usage_interval", "asked more often than every five minutes")
    calls.append(now)
    is_used_up = family.account.plan == "exhausted"
    window = 5 * 3600
    ends = datetime.fromtimestamp((now.timestamp() // window + 1) * window, UTC)
    resets_at = f"{ends:%Y-%m-%dT%H:%M:%S}.364238+00:00"
    session = 100.0 if is_used_up else 22.0
    return json_response(
        {
            "five_hour": {"utilization": session, "resets_at": resets_at},
            # Not used yet: no window has begun.
            "seven_day": {"utilization": 0.0, "resets_at": None},
            "seven_day_opus": None,
            "seven_day_sonnet": None,
            "extra_usage": {
                "is_enabled": False,
                "monthly_limit": None,
                "used_credits": None,
                "utilization": None,
            },
            "limits": [
                {"kind": "session", "percent": session, "resets_at": resets_at},
                {"kind": "weekly_all", "percent": 0, "resets_at": None},
            ],
        }
    )


# The usage is also below the base URL of the models.
ROUTES: Final[tuple[tuple[str, str, Play], ...]] = (
    ("POST", "/claude/v1/oauth/token", token),
    *(
        route
        for folder in ("/claude", "/anthropic")
        for route in (
            ("GET", folder + "/api/oauth/profile", profile),
            ("GET", folder + "/api/oauth/usage", usage),
        )
    ),
)
PAGES: Final[tuple[tuple[str, str, Play], ...]] = (
    ("GET", "/claude/oauth/authorize", authorize_page(BROWSER)),
    ("POST", "/claude/oauth/authorize", authorize_page(BROWSER)),
    ("GET", _CODE_PAGE, code_page(VENDOR)),
)
