"""The simulation's own switchboard under /control: what arrived, what was wrong, what next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from typing import Any, Final

from controlplane.kit.json import InvalidJSON, JSONDict
from providers.simulator.access_keys import secrets_of
from providers.simulator.day import moment, read_day, script_options
from providers.simulator.faults import FAULTS, Scheduled, schedule_of
from providers.simulator.http import Request, Response, json_response
from providers.simulator.keys import KeyRule, key_status, rules_of
from providers.simulator.logins import control as logins
from providers.simulator.scenarios import SCENARIOS
from providers.simulator.world import World, masked

__all__ = ["handle", "key_status"]

_HELP: Final = {
    "GET /control/requests?vendor=&since=N&limit=N": "what arrived, secrets masked",
    "GET /control/violations?vendor=": "requests a vendor would have refused",
    "GET /control/scenarios": "what may stand after + in a model's name",
    "GET /control/clock": "the simulated time",
    "POST /control/clock": '{"at": "2026-01-01T00:00:00Z"} or {"advance_seconds": 60} or {}',
    "GET /control/faults": "what is scheduled",
    "POST /control/faults": (
        '{"script": "status=529", "share": 0.05, "vendor": "", "model": "", '
        '"in_seconds": 180, "for_seconds": 120}'
    ),
    "DELETE /control/faults": "end all scheduled faults",
    "GET /control/keys": "which keys have a window, masked",
    "POST /control/keys": '{"key": "…", "from": ISO time, "until": ISO time, "status": 401, '
    '"secret": "of an AWS access key"}',
    "POST /control/day": "plays a script, as `manage.py simulator script` does",
    **logins.HELP,
    "POST /control/reset": "forget everything and let the clock run",
}


async def handle(request: Request, world: World) -> Response:
    """Every /control path. Errors say what to send."""
    name = request.path.removeprefix("/control").strip("/")
    action = _ACTIONS.get((request.method, name))
    if action is None:
        return json_response({"error": "unknown path", "paths": _HELP}, 404)
    try:
        return json_response(action(request, world))
    except KeyError as error:
        return json_response({"error": f"{error} is missing", "paths": _HELP}, 400)
    except (ValueError, TypeError, OverflowError) as error:
        return json_response({"error": str(error), "paths": _HELP}, 400)


def _first(request: Request, name: str) -> str:
    return (request.query.get(name) or [""])[0]


def _body(request: Request) -> dict[str, Any]:
    try:
        value = request.json() if request.body else {}
    except InvalidJSON as error:
        raise ValueError(f"send JSON: {error}") from None
    if not isinstance(value, dict):
        raise TypeError("send a JSON object")
    return value


def _help(_request: Request, _world: World) -> JSONDict:
    return dict(_HELP)


def _requests(request: Request, world: World) -> JSONDict:
    vendor = _first(request, "vendor")
    since = int(_first(request, "since") or 0)
    limit = int(_first(request, "limit") or 1000)
    if limit < 1:
        raise ValueError("limit must be 1 or more")
    found = [r for r in world.requests if vendor in ("", r.vendor) and r.number > since]
    return {"requests": [record.shown() for record in found[-limit:]]}


def _violations(request: Request, world: World) -> JSONDict:
    vendor = _first(request, "vendor")
    return {"violations": [asdict(v) for v in world.violations if vendor in ("", v.vendor)]}


def _scenarios(_request: Request, _world: World) -> JSONDict:
    known = {name: scenario.summary for name, scenario in SCENARIOS.items()}
    return {"scenarios": known, "faults": FAULTS}


def _clock(_request: Request, world: World) -> JSONDict:
    return {"now": world.now(), "is_frozen": bool(world.frozen_at), "speed": world.speed}


def _set_clock(request: Request, world: World) -> JSONDict:
    body = _body(request)
    if "advance_seconds" in body:
        world.advance(float(body["advance_seconds"]))
    elif "at" in body:
        world.set_clock(moment(body["at"], "at"))
    else:
        world.set_clock(None)
    return {"now": world.now()}


def _faults(_request: Request, world: World) -> JSONDict:
    return {"faults": [asdict(entry) for entry in schedule_of(world).entries]}


def _add_fault(request: Request, world: World) -> JSONDict:
    body = _body(request)
    begins = world.now() + timedelta(seconds=float(body.get("in_seconds", 0)))
    lasts = body.get("for_seconds")
    share = float(body.get("share", 1.0))
    if not 0 <= share <= 1:
        raise ValueError("share must be between 0 and 1")
    schedule_of(world).entries.append(
        Scheduled(
            options=script_options(body["script"], "script"),
            share=share,
            vendor=str(body.get("vendor", "")),
            model=str(body.get("model", "")),
            begins_at=begins,
            ends_at=begins + timedelta(seconds=float(lasts)) if lasts is not None else None,
        )
    )
    return {"scheduled": len(schedule_of(world).entries)}


def _end_faults(_request: Request, world: World) -> JSONDict:
    schedule_of(world).entries.clear()
    return {"ok": True}


def _keys(_request: Request, world: World) -> JSONDict:
    now = world.now()
    shown = [
        {"key": masked(key), **asdict(rule), "works": rule.works(now)}
        for key, rule in rules_of(world).items()
    ]
    return {"keys": shown}


def _set_key(request: Request, world: World) -> JSONDict:
    """A key that works only between two moments, or is answered with a status."""
    body = _body(request)
    status = int(body.get("status", 401))
    if not 400 <= status <= 599:
        raise ValueError("status must be between 400 and 599")
    rules_of(world)[str(body["key"])] = KeyRule(
        begins_at=moment(body["from"], "from") if body.get("from") else None,
        ends_at=moment(body["until"], "until") if body.get("until") else None,
        status=status,
    )
    if "secret" in body:
        # The key is an AWS access key: its signatures are checked with this.
        secrets_of(world)[str(body["key"])] = str(body["secret"])
    return {"ok": True}


def _play(request: Request, world: World) -> JSONDict:
    day = read_day(_body(request))
    return {"begins_at": day.play(world), "scheduled": len(day.steps)}


def _reset(_request: Request, world: World) -> JSONDict:
    world.reset()
    return {"ok": True}


_ACTIONS: Final[dict[tuple[str, str], Callable[[Request, World], JSONDict]]] = {
    ("GET", ""): _help,
    ("GET", "requests"): _requests,
    ("GET", "violations"): _violations,
    ("GET", "scenarios"): _scenarios,
    ("GET", "clock"): _clock,
    ("POST", "clock"): _set_clock,
    ("GET", "faults"): _faults,
    ("POST", "faults"): _add_fault,
    ("DELETE", "faults"): _end_faults,
    ("GET", "keys"): _keys,
    ("POST", "keys"): _set_key,
    ("POST", "day"): _play,
    **logins.ACTIONS,
    ("POST", "reset"): _reset,
}
