"""GitHub Copilot: a short-lived token made from GitHub's, models to switch on, and quotas."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from controlplane.kit.json import InvalidJSON, JSONDict
from providers.simulator.http import Request, Response, json_response
from providers.simulator.logins import github, tokens
from providers.simulator.logins.accounts import Account
from providers.simulator.logins.asking import Declined, Play, base_url
from providers.simulator.logins.github import APPS, api_error, signed_in
from providers.simulator.logins.state import Family, logins_of
from providers.simulator.world import World

VENDOR: Final = "copilot"
_LIFETIME_SECONDS: Final = 1800
_REFRESH_IN_SECONDS: Final = 1500
_EXCHANGED: Final = "vscode-chat"
_DIRECT: Final = "copilot-developer-cli"
_NO_SEAT: Final = (
    "not authorized to use this Copilot feature, it requires an enterprise or organization policy "
    "to be enabled"
)
# Name under .invalid, so that no client falls back to the real service with it.
_PROXY: Final = "proxy.copilot.invalid"
_SKU: Final = {
    "pro": ("yearly_subscriber_quota", "individual_pro"),
    "exhausted": ("yearly_subscriber_quota", "individual_pro"),
    "free": ("free_limited_copilot", "individual"),
    "business": ("copilot_for_business_seat_quota", "business"),
}

# --- the exchange ----------------------------------------------------------------------------


def exchange(request: Request, world: World) -> Response:
    family = signed_in(request, world)
    if not APPS[family.client_id].is_copilot:
        raise Declined(api_error(404, "Not Found"), "client_id", "token of another app")
    plan = family.account.plan
    if plan in ("none", "suspended"):
        title = "Not subscribed" if plan == "none" else "Access suspended"
        raise Declined(
            api_error(
                403,
                "Resource not accessible by integration",
                can_signup_for_limited=plan == "none",
                error_details={
                    "url": "https://github.com/features/copilot",
                    "message": f"No access to Copilot found for {family.account.name}.",
                    "title": title,
                },
            )
        )
    sku = _SKU[plan][0]
    expires_at = int(world.now().timestamp()) + _LIFETIME_SECONDS
    value = (
        f"tid={world.token('copilot', 32)};exp={expires_at};sku={sku};"
        f"proxy-ep={_PROXY};chat=1:{world.token('signature', 64)}"
    )
    copilot = tokens.begin_family(world, VENDOR, family.account, family.client_id, "", {"sku": sku})
    tokens.add_access(world, copilot, value, _LIFETIME_SECONDS)
    api = f"{base_url(request)}/copilot"
    return json_response(
        {
            "token": value,
            "expires_at": expires_at,
            "refresh_in": _REFRESH_IN_SECONDS,
            "sku": sku,
            "chat_enabled": True,
            "individual": plan != "business",
            "endpoints": {"api": api, "proxy": api, "telemetry": api, "origin-tracker": api},
            "limited_user_quotas": None,
            "limited_user_reset_date": None,
        }
    )


def graphql(request: Request, world: World) -> Response:
    """Only the question where the API lives, as the command line asks it."""
    family = signed_in(request, world)
    try:
        body = request.json()
    except InvalidJSON:
        raise Declined(api_error(400, "Problems parsing JSON"), "json") from None
    query = body.get("query") if isinstance(body, dict) else None
    if not isinstance(query, str) or "copilotEndpoints" not in query:
        raise Declined(api_error(422, "Only viewer.copilotEndpoints is played."), "graphql")
    viewer = {
        "login": family.account.name,
        "copilotEndpoints": {"api": f"{base_url(request)}/copilot"},
    }
    return json_response({"data": {"viewer": viewer}})


# --- quotas ----------------------------------------------------------------------------------


def next_month(now: datetime) -> datetime:
    year, month = (now.year + 1, 1) if now.month == 12 else (now.year, now.month + 1)
    return datetime(year, month, 1, tzinfo=UTC)


def quota(request: Request, world: World) -> Response:
    family = signed_in(request, world)
    account = family.account
    if not APPS[family.client_id].is_copilot:
        raise Declined(api_error(404, "Not Found"), "client_id", "token of another app")
    if account.plan in ("none", "suspended"):
        raise Declined(api_error(403, "No access to Copilot found."))
    now = world.now()
    resets_at = next_month(now)
    sku, plan = _SKU[account.plan]
    answer: JSONDict = {"login": account.name, "access_type_sku": sku, "copilot_plan": plan}
    if account.plan == "free":
        return json_response(
            answer
            | {
                "monthly_quotas": {"chat": 500, "completions": 4000},
                "limited_user_quotas": {"chat": 410, "completions": 3990},
                "limited_user_reset_date": f"{resets_at:%Y-%m-%d}",
            }
        )
    return json_response(
        answer
        | {
            "chat_enabled": True,
            "token_based_billing": True,
            "quota_reset_date": f"{resets_at:%Y-%m-%d}",
            "quota_reset_date_utc": f"{resets_at:%Y-%m-%dT%H:%M:%S.000Z}",
            "quota_snapshots": _snapshots(account, now),
            **({"organization_login_list": ["example-org"]} if plan == "business" else {}),
        }
    )


def _snapshots(account: Account, now: datetime) -> JSONDict:
    """Of a company's seat only the company knows the numbers."""
    if account.plan == "business":
        return {}
    left = -1 if account.plan == "exhausted" else 469.5
    return {
        "premium_interactions": {
            "quota_id": "premium_interactions",
            "entitlement": 1500,
            "remaining": left,
            "quota_remaining": left,
            "percent_remaining": round(left / 15, 1),
            "unlimited": False,
            "overage_count": 0,
            "overage_permitted": False,
            "has_quota": left > 0,
            "quota_reset_at": 0,
            "token_based_billing": True,
            "timestamp_utc": f"{now:%Y-%m-%dT%H:%M:%S.000Z}",
        },
        "chat": {
            "quota_id": "chat",
            "entitlement": -1,
            "remaining": 0,
            "percent_remaining": 100,
            "unlimited": True,
        },
        "completions": {
            "quota_id": "completions",
            "entitlement": 0,
            "remaining": 0,
            "percent_remaining": 0,
            "unlimited": False,
        },
    }


# --- the API's models ------------------------------------------------------------------------

_TERMS: Final = (
    "The terms of an example. [Read what its maker says](https://docs.example.test/terms)."
)
# Name -> type, endpoints, and the policy before anybody switched something on.
_MODELS: Final[dict[str, tuple[str, tuple[str, ...], str]]] = {
    "sim-gpt": ("chat", ("/chat/completions", "/responses"), ""),
    "sim-claude": ("chat", ("/v1/messages", "/chat/completions"), "disabled"),
    "sim-gemini": ("chat", ("/chat/completions",), "unconfigured"),
    "sim-embedding": ("embeddings", ("/embeddings",), ""),
}


def signed_in_api(request: Request, world: World) -> Family:
    """Who asks the Copilot API: an exchanged token from an editor, or GitHub's own from the
    command line. Raises Declined."""
    if not request.headers.get("editor-version"):
        raise Declined(
            _refusal(400, "bad_request", "missing Editor-Version header for IDE auth"),
            "editor_version",
        )
    integration = request.headers.get("copilot-integration-id", "")
    if integration not in (_EXCHANGED, _DIRECT):
        message = "token not authorized for this integration"
        raise Declined(_refusal(403, "forbidden", message), "integration_id", integration)
    bearer = request.bearer()
    exchanged = tokens.family_of(world, VENDOR, bearer)
    direct = tokens.family_of(world, github.VENDOR, bearer)
    if bearer.startswith(("ghp_", "github_pat_")) and direct is None:
        message = "Personal Access Tokens are not supported for this endpoint"
        raise Declined(_refusal(400, "bad_request", message))
    if exchanged is None and direct is None:
        raise Declined(_refusal(401, "unauthorized", "unauthorized: token expired"))
    if (exchanged is None) != (integration == _DIRECT):
        message = "token not authorized for this integration"
        raise Declined(_refusal(403, "forbidden", message), "integration_id", integration)
    found = exchanged or direct
    assert found is not None
    if found.account.plan in ("none", "suspended"):
        # Who exchanges a token hears it there.
        raise Declined(_refusal(403, "forbidden", _NO_SEAT))
    return found


def _refusal(status: int, code: str, message: str) -> Response:
    return json_response({"error": {"message": message, "code": code}}, status)


def _enabled(world: World, account: Account) -> set[str]:
    found: set[str] = logins_of(world).notes.setdefault(f"copilot/{account.name}", set())
    return found


def refuse_model(name: str, path: str, account: Account, world: World) -> Response | None:
    """What the API says where this model does not answer there for this account; None = it does."""
    if name not in _MODELS:
        return _refusal(400, "model_not_supported", "The requested model is not supported.")
    _, endpoints, policy = _MODELS[name]
    if policy and name not in _enabled(world, account):
        return _refusal(400, "model_not_supported", "The requested model is not supported.")
    if path not in endpoints:
        message = f'model "{name}" is not accessible via the {path} endpoint'
        return _refusal(400, "unsupported_api_for_model", message)
    if account.plan == "exhausted":
        return _refusal(402, "quota_exceeded", "You have no quota")
    return None


def models(request: Request, world: World) -> Response:
    account = signed_in_api(request, world).account
    return json_response(
        {
            "object": "list",
            "data": [_listed(name, name in _enabled(world, account)) for name in _MODELS],
        }
    )


def _listed(name: str, is_enabled: bool) -> JSONDict:
    kind, endpoints, policy = _MODELS[name]
    entry: JSONDict = {
        "id": name,
        "name": name,
        "object": "model",
        "vendor": "Simulator",
        "version": "1",
        "preview": False,
        "model_picker_enabled": kind == "chat",
        "supported_endpoints": list(endpoints),
        "capabilities": {
            "type": kind,
            "family": name,
            "tokenizer": "o200k_base",
            "limits": {
                "max_context_window_tokens": 200_000,
                "max_prompt_tokens": 128_000,
                "max_output_tokens": 16_000,
            },
            "supports": {
                "streaming": True,
                "tool_calls": kind == "chat",
                "parallel_tool_calls": kind == "chat",
                "vision": name != "sim-gemini",
            },
        },
    }
    if policy:
        state = "enabled" if is_enabled else policy
        entry["policy"] = {"state": state, "terms": _TERMS}
    return entry


def enable(request: Request, world: World) -> Response:
    account = signed_in_api(request, world).account
    name = request.params["model"]
    if name not in _MODELS:
        raise Declined(_refusal(404, "not_found", "no such model"), "model", name)
    try:
        body = request.json()
    except InvalidJSON:
        body = None
    state = body.get("state") if isinstance(body, dict) else None
    if state not in ("enabled", "disabled"):
        message = "state must be enabled or disabled"
        raise Declined(_refusal(400, "bad_request", message), "state", str(state))
    if account.plan == "business":
        raise Declined(_refusal(403, "forbidden", "The organization decides about this model."))
    if state == "enabled":
        _enabled(world, account).add(name)
    else:
        _enabled(world, account).discard(name)
    return json_response({"state": state})


ROUTES: Final[tuple[tuple[str, str, Play], ...]] = (
    ("GET", "/github-api/copilot_internal/v2/token", exchange),
    ("GET", "/github-api/copilot_internal/user", quota),
    ("POST", "/github-api/graphql", graphql),
    ("GET", "/copilot/models", models),
    ("POST", "/copilot/models/{model}/policy", enable),
)
PAGES: Final[tuple[tuple[str, str, Play], ...]] = ()
