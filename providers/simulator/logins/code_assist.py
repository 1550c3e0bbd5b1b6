"""Cloud Code Assist: which tier and project a Google account has, setting one up, and quotas."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from controlplane.kit.json import InvalidJSON, JSONDict
from providers.simulator.http import Request, Response, json_response
from providers.simulator.logins.accounts import Account
from providers.simulator.logins.asking import Declined, Play, base_url
from providers.simulator.logins.google import CLOUD_SCOPE, api_error, signed_in
from providers.simulator.logins.state import LoginState, logins_of
from providers.simulator.world import World

# Setting up takes this long: two questions at the pace of five seconds.
_SETUP_SECONDS: Final = 10
_FREE: Final = {"id": "free-tier", "name": "Gemini Code Assist for individuals"}
_STANDARD: Final = {
    "id": "standard-tier",
    "name": "Gemini Code Assist Standard",
    "userDefinedCloudaicompanionProject": True,
}


@dataclass(slots=True)
class _Setup:
    """A running operation."""

    name: str
    account: str
    project: str
    ready_at: datetime


@dataclass(slots=True)
class _Places:
    """Which account has which tier and project, and the operations so far."""

    projects: dict[str, str]
    tiers: dict[str, JSONDict]
    setups: dict[str, _Setup]


def _places(state: LoginState) -> _Places:
    found: _Places | None = state.notes.get("code_assist")
    if found is None:
        # Who pays has been here before.
        names = ("ada", "eve")
        found = state.notes["code_assist"] = _Places(
            projects={name: f"simulated-project-{name}" for name in names},
            tiers=dict.fromkeys(names, _STANDARD),
            setups={},
        )
    return found


def _asked(request: Request, world: World) -> tuple[Account, JSONDict, _Places]:
    family = signed_in(request, world, CLOUD_SCOPE)
    try:
        body = request.json() if request.body else {}
    except InvalidJSON as error:
        raise _invalid(f"Invalid JSON payload received. {error}", "json") from None
    if not isinstance(body, dict):
        raise _invalid("Invalid JSON payload received.", "json")
    return family.account, body, _places(logins_of(world))


def _invalid(message: str, rule: str) -> Declined:
    return Declined(api_error(400, "INVALID_ARGUMENT", message), rule, message)


def _metadata(body: JSONDict) -> None:
    metadata = body.get("metadata")
    if not isinstance(metadata, dict) or not (metadata.get("ideType") or metadata.get("ide_type")):
        raise _invalid("metadata.ideType is required", "metadata")


def load(request: Request, world: World) -> Response:
    account, body, places = _asked(request, world)
    _metadata(body)
    if project := places.projects.get(account.name):
        return json_response(
            {
                "currentTier": places.tiers[account.name],
                "allowedTiers": [{**_STANDARD, "isDefault": True}],
                "cloudaicompanionProject": project,
            }
        )
    return json_response(
        {
            "currentTier": None,
            "allowedTiers": _allowed(account),
            "ineligibleTiers": _ineligible(account, base_url(request)),
        }
    )


def _allowed(account: Account) -> list[JSONDict]:
    if account.plan in ("none", "suspended"):
        return []
    if account.plan == "business":
        return [{**_STANDARD, "isDefault": True}]
    return [{**_FREE, "isDefault": True}, _STANDARD]


def _ineligible(account: Account, base: str) -> list[JSONDict]:
    reasons = {
        "business": ("DASHER_USER", "Workspace accounts need a Cloud project."),
        "none": ("UNSUPPORTED_LOCATION", "Your location is not supported."),
        "suspended": ("VALIDATION_REQUIRED", "Verify your account to continue."),
    }
    if account.plan not in reasons:
        return []
    code, message = reasons[account.plan]
    reason: JSONDict = {
        "reasonCode": code,
        "reasonMessage": message,
        "tierId": "free-tier",
        "tierName": _FREE["name"],
    }
    if code == "VALIDATION_REQUIRED":
        reason["validationUrl"] = f"{base}/google/authcode?error=validation_required"
    return [reason]


def onboard(request: Request, world: World) -> Response:
    account, body, places = _asked(request, world)
    _metadata(body)
    tier = body.get("tierId") or body.get("tier_id")
    project = body.get("cloudaicompanionProject")
    offered: dict[str, JSONDict] = {str(t["id"]): t for t in _allowed(account)}
    if tier not in offered:
        message = f"The account is not eligible for {tier}."
        raise Declined(api_error(403, "PERMISSION_DENIED", message), "tier", message)
    if tier == "free-tier" and project:
        raise Declined(
            api_error(412, "FAILED_PRECONDITION", "Precondition Failed"),
            "project",
            "the free tier brings its own project",
        )
    if tier != "free-tier" and (not isinstance(project, str) or not project or project.isdigit()):
        raise _invalid("cloudaicompanionProject must be a project id", "project")
    chosen = str(project or f"simulated-project-{account.name}")
    running = places.setups.get(account.name)
    if running is None or running.project != chosen:
        running = _Setup(
            name=f"operations/{world.token('operation', 24)}",
            account=account.name,
            project=chosen,
            ready_at=world.now() + timedelta(seconds=_SETUP_SECONDS),
        )
        places.setups[account.name] = running
        places.tiers[account.name] = offered[tier]
    return _operation(running, places, world)


def operation(request: Request, world: World) -> Response:
    account, _, places = _asked(request, world)
    running = places.setups.get(account.name)
    if running is None or running.name != request.params["name"]:
        raise Declined(
            api_error(404, "NOT_FOUND", "Requested entity was not found."),
            "operation",
            request.params["name"],
        )
    return _operation(running, places, world)


def _operation(running: _Setup, places: _Places, world: World) -> Response:
    if world.now() < running.ready_at:
        return json_response({"name": running.name, "done": False})
    places.projects[running.account] = running.project
    return json_response(
        {
            "name": running.name,
            "done": True,
            "response": {
                "cloudaicompanionProject": {"id": running.project, "name": running.project}
            },
        }
    )


# --- quotas ----------------------------------------------------------------------------------


def _with_project(request: Request, world: World) -> Account:
    account, body, places = _asked(request, world)
    if not places.projects.get(account.name):
        message = "The caller has not been set up for Code Assist."
        raise Declined(api_error(403, "PERMISSION_DENIED", message), "project", message)
    if body.get("project") != places.projects[account.name]:
        raise _invalid("project must be the one of the account", "project")
    return account


def _midnight(world: World) -> datetime:
    """When the day's quota is fresh: the next 07:00 UTC, midnight in California."""
    now = world.now()
    today = now.replace(hour=7, minute=0, second=0, microsecond=0)
    return today if now < today else today + timedelta(days=1)


def _left(account: Account) -> tuple[float, str]:
    return (0.0, "0") if account.plan == "exhausted" else (0.74, "740")


def quota(request: Request, world: World) -> Response:
    fraction, amount = _left(_with_project(request, world))
    resets_at = f"{_midnight(world):%Y-%m-%dT%H:%M:%SZ}"
    return json_response(
        {
            "buckets": [
                {
                    "modelId": model,
                    "tokenType": "REQUESTS",
                    "remainingAmount": amount,
                    "remainingFraction": fraction,
                    "resetTime": resets_at,
                }
                for model in ("sim-gemini", "sim-gemini-2.5", "sim-gemini-3")
            ]
        }
    )


def quota_summary(request: Request, world: World) -> Response:
    fraction, amount = _left(_with_project(request, world))
    resets_at = f"{_midnight(world):%Y-%m-%dT%H:%M:%SZ}"
    return json_response(
        {
            "groups": [
                {
                    "displayName": family,
                    "description": f"All {family} models",
                    "buckets": [
                        {
                            "bucketId": f"{family.lower()}-{window}",
                            "displayName": f"{family}, {window}",
                            "window": window,
                            "remainingFraction": fraction,
                            "remainingAmount": amount,
                            "disabled": False,
                            "resetTime": resets_at,
                        }
                        for window in ("5h", "weekly")
                    ],
                }
                for family in ("Gemini", "Claude")
            ]
        }
    )


_BASE: Final = "/code-assist/v1internal"
ROUTES: Final[tuple[tuple[str, str, Play], ...]] = (
    ("POST", f"{_BASE}:loadCodeAssist", load),
    ("POST", f"{_BASE}:onboardUser", onboard),
    ("GET", f"{_BASE}/{{name...}}", operation),
    ("POST", f"{_BASE}:retrieveUserQuota", quota),
    ("POST", f"{_BASE}:retrieveUserQuotaSummary", quota_summary),
)
PAGES: Final[tuple[tuple[str, str, Play], ...]] = ()
