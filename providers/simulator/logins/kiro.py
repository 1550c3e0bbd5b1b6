"""Kiro: the social device flow (milliseconds, pending under 200), refresh, profiles, limits."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from controlplane.kit.json import JSONDict
from providers.simulator.http import Request, Response, json_response
from providers.simulator.keys import key_status
from providers.simulator.logins import device, tokens
from providers.simulator.logins.accounts import ACCOUNTS, Account
from providers.simulator.logins.approval import device_page
from providers.simulator.logins.asking import Declined, Play, base_url, fields, first, require
from providers.simulator.logins.copilot import next_month
from providers.simulator.logins.device import DeviceRules, Poll
from providers.simulator.logins.state import Family
from providers.simulator.logins.tokens import BadRefresh
from providers.simulator.world import World

VENDOR: Final = "kiro"
_RULES: Final = DeviceRules(VENDOR, "/kiro/device", lifetime_seconds=300)
_CLIENTS: Final = {"kiro-cli": "Kiro CLI"}
_PROVIDERS: Final = ("Google", "Github")
_ACCESS_SECONDS: Final = 3600
_STATUS: Final = {
    Poll.PENDING: "authorization_pending",
    Poll.SLOW_DOWN: "slow_down",
    Poll.DENIED: "access_denied",
    Poll.EXPIRED: "expired_token",
}


def _refuse(error: str, message: str) -> Response:
    return json_response({"error": error, "message": message}, 400)


def _client(sent: dict[str, str]) -> str:
    require(sent, _refuse, "clientId")
    if sent["clientId"] not in _CLIENTS:
        raise Declined(_refuse("invalid_client", "Unknown client."), "client_id", sent["clientId"])
    return sent["clientId"]


def start(request: Request, world: World) -> Response:
    sent = fields(request, _refuse, "json")
    client_id = _client(sent)
    idp = sent.get("loginProvider", "")
    if idp not in _PROVIDERS:
        message = f"loginProvider must be one of {', '.join(_PROVIDERS)}."
        raise Declined(_refuse("invalid_request", message), "login_provider", idp)
    attempt = device.start(
        world,
        _RULES,
        client_id=client_id,
        client_name=_CLIENTS[client_id],
        facts={"idp": idp, "method": "social"},
    )
    page = base_url(request) + _RULES.page
    return json_response(
        {
            "deviceCode": attempt.id,
            "userCode": attempt.user_code,
            "verificationUri": page,
            "verificationUriComplete": f"{page}?user_code={quote(attempt.user_code)}",
            "expiresInMilliseconds": _RULES.lifetime_seconds * 1000,
            "intervalInMilliseconds": _RULES.interval_seconds * 1000,
        }
    )


def poll(request: Request, world: World) -> Response:
    sent = fields(request, _refuse, "json")
    client_id = _client(sent)
    require(sent, _refuse, "deviceCode")
    answer, attempt = device.poll(world, VENDOR, sent["deviceCode"], client_id)
    if answer is Poll.UNKNOWN:
        return _refuse("invalid_grant", "The device code is not known.")
    if answer is not Poll.APPROVED:
        return json_response({"status": _STATUS[answer]})
    assert attempt is not None
    assert attempt.account is not None
    family = tokens.begin_family(world, VENDOR, attempt.account, client_id, "", attempt.facts)
    refresh = "aorAAAAAG" + world.token("kiro_refresh", 200)
    tokens.add_refresh(world, family, refresh)
    return json_response(
        _issued(world, family) | {"refreshToken": refresh, "identityProvider": attempt.facts["idp"]}
    )


def refresh(request: Request, world: World) -> Response:
    """The refresh token stays: none comes back."""
    sent = fields(request, _refuse, "json")
    require(sent, _refuse, "refreshToken")
    family = tokens.spend(
        world, VENDOR, sent["refreshToken"], next(iter(_CLIENTS)), is_single_use=False
    )
    if isinstance(family, BadRefresh):
        return json_response({"message": "Invalid refresh token provided"}, 401)
    return json_response(_issued(world, family))


def _issued(world: World, family: Family) -> JSONDict:
    access = "aoaAAAAAG" + world.token("kiro_access", 200)
    tokens.add_access(world, family, access, _ACCESS_SECONDS)
    return {
        "accessToken": access,
        "profileArn": profile_arn(family.account),
        "expiresIn": _ACCESS_SECONDS,
    }


def profile_arn(account: Account) -> str:
    name = account.uuid("kiro").replace("-", "")[:12].upper()
    return f"arn:aws:codewhisperer:us-east-1:111122223333:profile/{name}"


# --- q.{region}.amazonaws.com ----------------------------------------------------------------


def _signed_in(request: Request, world: World) -> tuple[Account, str]:
    """Account and method (builder-id, idc, social, api_key). An expired bearer is a 403 here."""
    bearer = request.bearer()
    if request.headers.get("tokentype", "").upper() == "API_KEY":
        if key_status(bearer, world) == 0:
            return ACCOUNTS["cleo"], "api_key"
    elif family := tokens.family_of(world, VENDOR, bearer):
        return family.account, family.facts["method"]
    raise Declined(
        json_response(
            {
                "message": "The bearer token included in the request is invalid.",
                "reason": None,
            },
            403,
        )
    )


def _exception(status: int, name: str, message: str, reason: str | None = None) -> Response:
    response = json_response({"__type": name, "message": message, "reason": reason}, status)
    response.headers["x-amzn-errortype"] = name
    return response


def usage(request: Request, world: World) -> Response:
    account, method = _signed_in(request, world)
    if first(request, "origin") != "AI_EDITOR":
        raise Declined(_exception(400, "ValidationException", "origin must be AI_EDITOR"), "origin")
    arn = first(request, "profileArn")
    _check_profile(account, method, arn)
    if account.plan == "suspended":
        message = "Your User ID temporarily is suspended."
        raise Declined(_exception(403, "AccessDeniedException", message, "TEMPORARILY_SUSPENDED"))
    if account.plan == "none":
        message = "User is not authorized to make this call."
        raise Declined(_exception(403, "AccessDeniedException", message))
    answer = _usage(account, world)
    if first(request, "isEmailRequired") == "true":
        answer["userInfo"] = {
            "email": account.email,
            "userId": f"d-0000000000.{account.uuid('kiro')}",
        }
    return json_response(answer)


def _check_profile(account: Account, method: str, arn: str) -> None:
    """A Builder ID has no profile, a company's sign-in needs one, a social one may name its own."""
    if method == "builder-id" and arn:
        message = "User is not authorized to make this call."
        raise Declined(
            _exception(403, "AccessDeniedException", message), "profile_arn", "not for Builder ID"
        )
    if method == "idc" and not arn:
        message = "profileArn is required for this bearer token."
        raise Declined(_exception(400, "ValidationException", message), "profile_arn", message)
    if arn and arn != profile_arn(account):
        message = "User is not authorized to use this profile."
        raise Declined(_exception(403, "AccessDeniedException", message), "profile_arn", arn)


def _usage(account: Account, world: World) -> JSONDict:
    now = world.now()
    resets_at = next_month(now)
    is_free = account.plan == "free"
    limit = 50.0 if is_free else 1000.0
    used = limit if account.plan == "exhausted" else 12.25 if is_free else 312.4
    title, kind = ("KIRO FREE", "FREE") if is_free else ("KIRO PRO", "PRO")
    # Epoch seconds as a JSON float, as the service writes them.
    resets = resets_at.timestamp()
    breakdown: JSONDict = {
        "resourceType": "CREDIT",
        "displayName": "Credit",
        "displayNamePlural": "Credits",
        "unit": "INVOCATIONS",
        "currency": "USD",
        "currentUsage": int(used),
        "currentUsageWithPrecision": used,
        "usageLimit": int(limit),
        "usageLimitWithPrecision": limit,
        "currentOverages": 0,
        "overageRate": 0.04,
        "overageCap": 10_000,
        "nextDateReset": resets,
        "freeTrialInfo": {
            "freeTrialStatus": "EXPIRED",
            "freeTrialExpiry": now.timestamp() - 86_400.0,
            "currentUsageWithPrecision": 0.0,
            "usageLimitWithPrecision": 500.0,
        },
        "bonuses": [],
    }
    if account.plan == "pro":
        breakdown["bonuses"] = [
            {
                "bonusCode": "HELLO",
                "displayName": "Welcome",
                "status": "ACTIVE",
                "expiresAt": resets,
                "currentUsage": 5.0,
                "usageLimit": 50.0,
            }
        ]
    return {
        "daysUntilReset": (resets_at - now).days,
        "nextDateReset": resets,
        "subscriptionInfo": {
            "subscriptionTitle": title,
            "type": f"Q_DEVELOPER_STANDALONE_{kind}",
            "overageCapability": "OVERAGE_CAPABLE",
        },
        "overageConfiguration": {"overageStatus": "DISABLED"},
        "usageBreakdownList": [breakdown],
    }


def profiles(request: Request, world: World) -> Response:
    account, method = _signed_in(request, world)
    found = []
    if method in ("idc", "api_key") and account.plan != "none":
        found = [{"arn": profile_arn(account), "profileName": "Example company"}]
    return json_response({"profiles": found})


ROUTES: Final[tuple[tuple[str, str, Play], ...]] = (
    ("POST", "/kiro/oauth/device/authorization", start),
    ("POST", "/kiro/oauth/device/poll", poll),
    ("POST", "/kiro/refreshToken", refresh),
    ("GET", "/kiro/getUsageLimits", usage),
    ("POST", "/kiro/ListAvailableProfiles", profiles),
)
PAGES: Final[tuple[tuple[str, str, Play], ...]] = (
    ("GET", _RULES.page, device_page(VENDOR)),
    ("POST", _RULES.page, device_page(VENDOR)),
)
