"""OpenAI Codex: a device flow of its own (403 or 404 while pending), PKCE, refresh, usage."""

from __future__ import annotations

from typing import Final

from controlplane.kit.json import JSONDict
from providers.simulator.http import Request, Response, json_response
from providers.simulator.logins import browser, device, tokens
from providers.simulator.logins.approval import authorize_page, device_page
from providers.simulator.logins.asking import (
    Declined,
    Fields,
    Play,
    base_url,
    fields,
    require,
    token_response,
)
from providers.simulator.logins.browser import BadCode, BrowserRules, challenge_of, is_loopback
from providers.simulator.logins.device import DeviceRules, Poll
from providers.simulator.logins.state import Family, logins_of
from providers.simulator.logins.tokens import BadRefresh
from providers.simulator.world import World

VENDOR: Final = "codex"
_CLIENTS: Final = {"app_EMoamEEZ73f0CkXaXp7hrann": "Codex"}
# The issuer is /codex, the page of the vendor {issuer}/codex/device.
_RULES: Final = DeviceRules(VENDOR, "/codex/codex/device", shape=(4, 5), code_prefix="deviceauth_")
_DEVICE_REDIRECT: Final = "https://auth.openai.com/deviceauth/callback"
_ACCESS_SECONDS: Final = 864_000
_DEFAULT_SCOPE: Final = "openid profile email offline_access"
_PLANS: Final = {
    "pro": "pro",
    "exhausted": "plus",
    "suspended": "plus",
    "free": "free",
    "none": "free",
    "business": "business",
}


def _is_redirect(_client_id: str, uri: str, _base: str) -> bool:
    return is_loopback(uri, "/auth/callback", 1455, 1457)


BROWSER: Final = BrowserRules(VENDOR, _CLIENTS, _is_redirect, code_prefix="ac_")


def _refuse(code: str, message: str, status: int = 400) -> Response:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return json_response({"error": error}, status, cache_control="no-store")


def _client(sent: Fields) -> str:
    require(sent, _refuse, "client_id")
    if sent["client_id"] not in _CLIENTS:
        raise Declined(
            _refuse("invalid_client", "Unknown client.", 401), "client_id", sent["client_id"]
        )
    return sent["client_id"]


# --- device ----------------------------------------------------------------------------------


def user_code(request: Request, world: World) -> Response:
    client_id = _client(fields(request, _refuse, "json"))
    attempt = device.start(
        world,
        _RULES,
        client_id=client_id,
        client_name=_CLIENTS[client_id],
        scope=_DEFAULT_SCOPE,
    )
    return json_response(
        {
            "device_auth_id": attempt.id,
            "user_code": attempt.user_code,
            # A text, as the vendor sends it.
            "interval": str(_RULES.interval_seconds),
            "expires_at": attempt.expires_at,
        }
    )


def poll(request: Request, world: World) -> Response:
    sent = fields(request, _refuse, "json")
    require(sent, _refuse, "device_auth_id", "user_code")
    known = logins_of(world).attempts.get(sent["device_auth_id"])
    if known is None or known.user_code != sent["user_code"]:
        raise Declined(_not_found(), "device_code", "never issued with this user code")
    answer, attempt = device.poll(world, VENDOR, known.id, next(iter(_CLIENTS)))
    if attempt is None or answer is Poll.UNKNOWN:
        return _not_found()
    if answer is Poll.PENDING:
        # Both statuses are seen for the same thing.
        status = 403 if attempt.polls % 2 else 404
        return _refuse("deviceauth_authorization_pending", "Not approved yet.", status)
    if answer is not Poll.APPROVED:
        return _refuse(answer.value, "The device sign-in goes no further.", 403)
    # The server makes the verifier here, and hands it out with the code.
    verifier = world.token("verifier", 64)
    attempt.challenge = challenge_of(verifier)
    attempt.redirect_uri = _DEVICE_REDIRECT
    attempt.code_prefix = "ac_"
    return json_response(
        {
            "authorization_code": browser.issue_code(world, attempt),
            "code_verifier": verifier,
            "code_challenge": attempt.challenge,
        }
    )


def _not_found() -> Response:
    return _refuse("deviceauth_not_found", "This device sign-in is not known.")


# --- tokens ----------------------------------------------------------------------------------


def token(request: Request, world: World) -> Response:
    sent = fields(request, _refuse, "form", "json")
    client_id = _client(sent)
    grant = sent.get("grant_type", "")
    if grant == "authorization_code":
        return _exchanged(request, world, sent, client_id)
    if grant == "refresh_token":
        return _refreshed(world, sent, client_id)
    raise Declined(
        _refuse("unsupported_grant_type", f"No grant {grant!r} here."), "grant_type", grant
    )


def _exchanged(request: Request, world: World, sent: Fields, client_id: str) -> Response:
    require(sent, _refuse, "code", "redirect_uri", "code_verifier")
    redirect_uri = sent["redirect_uri"]
    if redirect_uri == f"{base_url(request)}/codex/deviceauth/callback":
        redirect_uri = _DEVICE_REDIRECT
    code = browser.redeem(
        world,
        VENDOR,
        sent["code"],
        client_id=client_id,
        redirect_uri=redirect_uri,
        verifier=sent["code_verifier"],
    )
    if isinstance(code, BadCode):
        return _refuse("invalid_grant", f"The authorization code {code.value}.")
    code.family = tokens.begin_family(world, VENDOR, code.account, client_id, code.attempt.scope)
    return token_response(_issued(world, code.family))


def _refreshed(world: World, sent: Fields, client_id: str) -> Response:
    require(sent, _refuse, "refresh_token")
    family = tokens.spend(world, VENDOR, sent["refresh_token"], client_id, is_single_use=True)
    match family:
        case BadRefresh.REUSED:
            message = "Your refresh token has already been used to generate a new access token."
            return _refuse("refresh_token_reused", message, 401)
        case BadRefresh.EXPIRED:
            return _refuse("refresh_token_expired", "Your refresh token has expired.", 401)
        case BadRefresh.DEAD | BadRefresh.UNKNOWN:
            message = "Your session has ended. Sign in again."
            return _refuse("refresh_token_invalidated", message, 401)
    return token_response(_issued(world, family))


def _issued(world: World, family: Family) -> JSONDict:
    account, now = family.account, int(world.now().timestamp())
    shared: JSONDict = {
        "iss": "https://auth.openai.com",
        "sub": f"auth0|{account.number}",
        "iat": now,
        "https://api.openai.com/auth": {
            "chatgpt_account_id": account.uuid("codex"),
            "chatgpt_plan_type": _PLANS[account.plan],
            "chatgpt_user_id": f"user-{account.number}",
            "user_id": f"user-{account.number}",
            "organizations": [{"id": f"org-{account.number}", "title": "Personal"}],
        },
    }
    access = tokens.jwt(
        world,
        {
            **shared,
            "aud": ["https://api.openai.com/v1"],
            "exp": now + _ACCESS_SECONDS,
            "scp": family.scope.split(),
            "https://api.openai.com/profile": {"email": account.email, "email_verified": True},
        },
    )
    answer: JSONDict = {
        "id_token": tokens.jwt(
            world,
            {**shared, "aud": [family.client_id], "exp": now + 3600, "email": account.email},
        ),
        "access_token": tokens.add_access(world, family, access, _ACCESS_SECONDS),
        "token_type": "Bearer",
        "expires_in": _ACCESS_SECONDS,
        "scope": family.scope,
    }
    if "offline_access" in family.scope.split():
        refresh = "rt_" + world.token("codex_refresh", 60)
        answer["refresh_token"] = tokens.add_refresh(world, family, refresh)
    return answer


def revoke(request: Request, world: World) -> Response:
    sent = fields(request, _refuse, "form", "json")
    require(sent, _refuse, "token")
    tokens.revoke(world, VENDOR, sent["token"])
    return json_response({})


# --- chatgpt.com/backend-api -----------------------------------------------------------------


def usage(request: Request, world: World) -> Response:
    family = tokens.family_of(world, VENDOR, request.bearer())
    if family is None:
        raise Declined(_refuse("token_expired", "Provided authentication token is expired.", 401))
    account = family.account
    if request.headers.get("chatgpt-account-id") != account.uuid("codex"):
        message = "The header ChatGPT-Account-Id must name the account of the token."
        raise Declined(_refuse("invalid_account", message, 401), "account_id", message)
    if account.plan == "suspended":
        raise Declined(_refuse("account_deactivated", "Your account was deactivated.", 401))
    now = int(world.now().timestamp())
    is_used_up = account.plan == "exhausted"
    return json_response(
        {
            "plan_type": _PLANS[account.plan],
            "rate_limit": {
                "allowed": not is_used_up,
                "limit_reached": is_used_up,
                "primary_window": _window(now, 18_000, 100 if is_used_up else 42),
                "secondary_window": _window(now, 604_800, 88 if is_used_up else 7),
            },
            "credits": {"has_credits": False, "unlimited": False, "balance": "0"},
        }
    )


def _window(now: int, seconds: int, used_percent: int) -> JSONDict:
    left = seconds - now % seconds
    return {
        "used_percent": used_percent,
        "limit_window_seconds": seconds,
        "reset_after_seconds": left,
        "reset_at": now + left,
    }


ROUTES: Final[tuple[tuple[str, str, Play], ...]] = (
    ("POST", "/codex/api/accounts/deviceauth/usercode", user_code),
    ("POST", "/codex/api/accounts/deviceauth/token", poll),
    ("POST", "/codex/oauth/token", token),
    ("POST", "/codex/oauth/revoke", revoke),
    # Below the base URL of the models, as the vendor has it, and as a whole address.
    ("GET", "/codex/wham/usage", usage),
    ("GET", "/codex/backend-api/wham/usage", usage),
)
PAGES: Final[tuple[tuple[str, str, Play], ...]] = (
    ("GET", _RULES.page, device_page(VENDOR)),
    ("POST", _RULES.page, device_page(VENDOR)),
    ("GET", "/codex/oauth/authorize", authorize_page(BROWSER)),
    ("POST", "/codex/oauth/authorize", authorize_page(BROWSER)),
)
