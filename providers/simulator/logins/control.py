"""The logins' part of /control: who waits for approval, what was issued, and outages of polls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from controlplane.kit.json import InvalidJSON, JSONDict
from providers.simulator.faults import FAULTS
from providers.simulator.http import Request
from providers.simulator.logins import approval
from providers.simulator.logins.accounts import ACCOUNTS, account_of
from providers.simulator.logins.asking import base_url, first
from providers.simulator.logins.state import Attempt, Family, logins_of
from providers.simulator.world import World

HELP: Final = {
    "GET /control/logins?vendor=": "who waits for approval, and what was issued",
    "POST /control/logins/approve": '{"user_code": "…" or "login": "…", "account": "ada"}',
    "POST /control/logins/deny": '{"user_code": "…" or "login": "…"}',
    "POST /control/logins/script": (
        '{"user_code": "…", "answers": ["pending", "slow_down=20", "html=503", "drop"]}: '
        "what the next polls get"
    ),
    "POST /control/logins/revoke": '{"vendor": "github", "account": "ada"}: ends all sign-ins',
}


def _waiting(request: Request, world: World) -> JSONDict:
    vendor = first(request, "vendor")
    state, now = logins_of(world), world.now()
    return {
        "pending": [
            _shown(attempt)
            for attempt in state.attempts.values()
            if attempt.decision == "waiting"
            and not attempt.is_over(now)
            and vendor in ("", attempt.vendor)
        ],
        "sign_ins": [_issued(f) for f in state.families if vendor in ("", f.vendor)],
        "accounts": {name: account.summary for name, account in ACCOUNTS.items()},
    }


def _shown(attempt: Attempt) -> JSONDict:
    """A device code is a secret and stays one; an authorize page has nothing but its name."""
    shown: JSONDict = {
        "vendor": attempt.vendor,
        "kind": attempt.kind,
        "client": attempt.client_name,
        "scope": attempt.scope,
        "begun_at": attempt.begun_at,
        "expires_at": attempt.expires_at,
    }
    if attempt.kind == "browser":
        return {"login": attempt.id, **shown}
    return {
        "user_code": attempt.user_code,
        **shown,
        "interval_seconds": attempt.interval_seconds,
        "polls": attempt.polls,
    }


def _issued(family: Family) -> JSONDict:
    return {
        "vendor": family.vendor,
        "account": family.account.name,
        "client_id": family.client_id,
        "scope": family.scope,
        "begun_at": family.begun_at,
        "refreshes": family.refreshes,
        "is_alive": family.is_alive,
        "reason": family.reason,
    }


def _approve(request: Request, world: World) -> JSONDict:
    body = _body(request)
    attempt, account = _named(body, world), account_of(str(body.get("account", "")))
    place = approval.approve(world, attempt, account, base_url(request))
    return {"vendor": attempt.vendor, "account": account.name, "redirect": place}


def _deny(request: Request, world: World) -> JSONDict:
    attempt = _named(_body(request), world)
    return {"vendor": attempt.vendor, "redirect": approval.deny(world, attempt, base_url(request))}


def _script(request: Request, world: World) -> JSONDict:
    body = _body(request)
    attempt, answers = _named(body, world), body["answers"]
    if attempt.kind != "device":
        raise ValueError("only devices poll")
    if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
        raise TypeError("answers must be a list of texts")
    for answer in answers:
        name, _, value = answer.partition("=")
        if name not in ("pending", "slow_down", *FAULTS):
            raise ValueError(f"{name!r} is no answer; take pending, slow_down or a fault")
        if name == "slow_down" and value and not value.isdecimal():
            raise ValueError("slow_down takes whole seconds, as slow_down=20")
    attempt.script.extend(answers)
    return {"scripted": len(attempt.script)}


def _revoke(request: Request, world: World) -> JSONDict:
    body = _body(request)
    account = account_of(str(body["account"]))
    ended = 0
    for family in logins_of(world).families:
        if family.account is account and family.vendor == body["vendor"] and family.is_alive:
            family.end("revoked by its owner")
            ended += 1
    return {"ended": ended}


def _named(body: JSONDict, world: World) -> Attempt:
    if login := body.get("login"):
        attempt = logins_of(world).attempts.get(str(login))
        if attempt is None or attempt.kind != "browser":
            raise ValueError("no sign-in has this name; GET /control/logins lists them")
        return attempt
    return approval.typed(world, str(body["user_code"]))


def _body(request: Request) -> dict[str, Any]:
    try:
        value = request.json() if request.body else {}
    except InvalidJSON as error:
        raise ValueError(f"send JSON: {error}") from None
    if not isinstance(value, dict):
        raise TypeError("send a JSON object")
    return value


ACTIONS: Final[dict[tuple[str, str], Callable[[Request, World], JSONDict]]] = {
    ("GET", "logins"): _waiting,
    ("POST", "logins/approve"): _approve,
    ("POST", "logins/deny"): _deny,
    ("POST", "logins/script"): _script,
    ("POST", "logins/revoke"): _revoke,
}
