"""The device flow behind every dialect: a code, a person, and a device that asks again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Final

from providers.simulator.asked import script_of
from providers.simulator.logins.asking import Forced
from providers.simulator.logins.state import Attempt, logins_of, plain
from providers.simulator.world import World

# No vowels, so that no words come out (RFC 8628, 6.1).
_LETTERS: Final = "BCDFGHJKLMNPQRSTVWXZ"
SLOW_DOWN_SECONDS: Final = 5
# Clocks of caller and server tick apart: a caller that waited its interval is never too early.
_GRACE: Final = timedelta(milliseconds=50)


class Poll(Enum):
    PENDING = "authorization_pending"
    SLOW_DOWN = "slow_down"
    APPROVED = "approved"
    DENIED = "access_denied"
    EXPIRED = "expired_token"
    # Never issued, issued to another client, or used up.
    UNKNOWN = "invalid_grant"


@dataclass(frozen=True, slots=True)
class DeviceRules:
    """How one vendor runs its device flow. `page` is where people type the code."""

    vendor: str
    page: str
    interval_seconds: int = 5
    lifetime_seconds: int = 900
    shape: tuple[int, int] = (4, 4)
    code_prefix: str = ""
    code_length: int = 40


def start(
    world: World,
    rules: DeviceRules,
    *,
    client_id: str,
    client_name: str,
    scope: str = "",
    facts: Mapping[str, str] | None = None,
) -> Attempt:
    now = world.now()
    attempt = Attempt(
        id=rules.code_prefix + world.token("device_code", rules.code_length),
        vendor=rules.vendor,
        kind="device",
        client_id=client_id,
        client_name=client_name,
        scope=scope,
        begun_at=now,
        expires_at=now + timedelta(seconds=rules.lifetime_seconds),
        user_code=_user_code(world, rules.shape),
        interval_seconds=rules.interval_seconds,
        facts=dict(facts or {}),
    )
    return logins_of(world).keep(attempt)


def _user_code(world: World, shape: tuple[int, int]) -> str:
    taken = logins_of(world).user_codes
    while True:
        number = int(world.token("user_code", 32), 16)
        letters = ""
        for _ in range(sum(shape)):
            number, letter = divmod(number, len(_LETTERS))
            letters += _LETTERS[letter]
        code = f"{letters[: shape[0]]}-{letters[shape[0] :]}"
        if plain(code) not in taken:
            return code


def poll(
    world: World, vendor: str, device_code: str, client_id: str, *, slow_down_to: int = 0
) -> tuple[Poll, Attempt | None]:
    """One question of a device. Approved is said once: the code is used up by it.

    Too early a question is `SLOW_DOWN` even when the person is done, and makes the interval
    longer for good. Raises Forced when an outage is scripted for this poll.
    """
    now = world.now()
    attempt = logins_of(world).attempts.get(device_code)
    if (
        attempt is None
        or attempt.kind != "device"
        or (attempt.vendor, attempt.client_id) != (vendor, client_id)
    ):
        world.violation(vendor, "device_code", "never issued to this client")
        return Poll.UNKNOWN, None
    if attempt.decision == "used":
        world.violation(vendor, "device_code", "was used already")
        return Poll.UNKNOWN, attempt
    attempt.polls += 1
    waited = now - (attempt.last_polled_at or attempt.begun_at)
    attempt.last_polled_at = now
    if attempt.script:
        return _scripted(attempt.script.pop(0), attempt), attempt
    if attempt.is_over(now):
        return Poll.EXPIRED, attempt
    if waited < timedelta(seconds=attempt.interval_seconds) - _GRACE:
        world.violation(
            vendor,
            "interval",
            f"asked after {waited.total_seconds():.2f} s of {attempt.interval_seconds:g} s",
        )
        _slow_down(attempt, slow_down_to)
        return Poll.SLOW_DOWN, attempt
    if attempt.decision == "approved":
        attempt.decision = "used"
        return Poll.APPROVED, attempt
    return (Poll.DENIED if attempt.decision == "denied" else Poll.PENDING), attempt


def _slow_down(attempt: Attempt, to_seconds: int) -> None:
    attempt.interval_seconds = max(attempt.interval_seconds + SLOW_DOWN_SECONDS, to_seconds)


def _scripted(answer: str, attempt: Attempt) -> Poll:
    name, _, value = answer.partition("=")
    if name == "slow_down":
        _slow_down(attempt, int(value or 0))
        return Poll.SLOW_DOWN
    if name == "pending":
        return Poll.PENDING
    raise Forced(script_of("x+" + answer).options)
