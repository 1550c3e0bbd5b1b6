"""Kilo: a device flow that speaks by status, and whose user code is the key to the poll."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from providers.simulator.http import Request, Response, json_response
from providers.simulator.logins import device, tokens
from providers.simulator.logins.approval import device_page
from providers.simulator.logins.asking import Declined, Play, base_url
from providers.simulator.logins.device import DeviceRules, Poll
from providers.simulator.logins.state import logins_of, plain
from providers.simulator.world import World

VENDOR: Final = "kilo"
_RULES: Final = DeviceRules(VENDOR, "/kilo/device", interval_seconds=3, lifetime_seconds=600)
_CLIENT: Final = "kilo"


def start(request: Request, world: World) -> Response:
    attempt = device.start(world, _RULES, client_id=_CLIENT, client_name="Kilo Code")
    page = f"{base_url(request)}{_RULES.page}?user_code={quote(attempt.user_code)}"
    return json_response(
        {
            "code": attempt.user_code,
            "verificationUrl": page,
            "expiresIn": _RULES.lifetime_seconds,
        }
    )


def poll(request: Request, world: World) -> Response:
    known = logins_of(world).user_codes.get(plain(request.params["code"]))
    answer, attempt = device.poll(world, VENDOR, known.id if known else "", _CLIENT)
    # This server knows no slow_down: who asks too fast only shows under /control/violations.
    if answer in (Poll.PENDING, Poll.SLOW_DOWN):
        return json_response({"status": "pending"}, 202)
    if answer is Poll.DENIED:
        return json_response({"status": "denied"}, 403)
    if answer is not Poll.APPROVED:
        return json_response({"status": "expired"}, 410)
    assert attempt is not None
    assert attempt.account is not None
    family = tokens.begin_family(world, VENDOR, attempt.account, _CLIENT, "")
    value = tokens.add_access(world, family, "kilo-" + world.token("kilo_access", 60), None)
    return json_response({"status": "approved", "token": value, "userEmail": attempt.account.email})


def profile(request: Request, world: World) -> Response:
    family = tokens.family_of(world, VENDOR, request.bearer())
    if family is None:
        raise Declined(json_response({"error": "Invalid token"}, 401))
    account = family.account
    organizations = (
        [{"id": account.uuid("org"), "name": "Example company", "role": "member"}]
        if account.plan == "business"
        else []
    )
    return json_response(
        {
            "user": {"id": account.uuid("kilo"), "email": account.email, "name": account.full_name},
            "organizations": organizations,
        }
    )


ROUTES: Final[tuple[tuple[str, str, Play], ...]] = (
    ("POST", "/kilo/api/device-auth/codes", start),
    ("GET", "/kilo/api/device-auth/codes/{code}", poll),
    ("GET", "/kilo/api/profile", profile),
)
PAGES: Final[tuple[tuple[str, str, Play], ...]] = (
    ("GET", _RULES.page, device_page(VENDOR)),
    ("POST", _RULES.page, device_page(VENDOR)),
)
