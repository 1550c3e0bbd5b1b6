"""A scripted day: outages and key windows at their times, played against the world's clock."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import yaml

from providers.simulator.asked import script_of
from providers.simulator.faults import FAULTS, Scheduled, schedule_of
from providers.simulator.keys import KeyRule, rules_of
from providers.simulator.scenarios import SCENARIOS
from providers.simulator.world import World

_CLOCK: Final = re.compile(r"(\d{1,3}):([0-5]\d)(?::([0-5]\d))?\Z")
_DURATION: Final = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?\Z")
_DAY_FIELDS: Final = frozenset(("seed", "clock", "speed", "events"))
_EVENT_FIELDS: Final = frozenset(
    ("at", "for", "until", "fault", "share", "vendor", "model", "key", "status", "note")
)
_NUMBERS: Final = {
    "tag:yaml.org,2002:int": r"-?(?:0|[1-9][0-9]*)\Z",
    "tag:yaml.org,2002:float": r"-?[0-9]+\.[0-9]+\Z",
}
# No calendar arithmetic overflows within these.
_MAX_SECONDS: Final = 366 * 86_400.0


class BadDay(ValueError):
    """The script cannot be played; the message names the place and says what to write."""


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the script. `until_seconds` None = to the end."""

    at_seconds: float
    until_seconds: float | None
    # A fault with its options, or a key's window.
    options: dict[str, str]
    share: float = 1.0
    vendor: str = ""
    model: str = ""
    key: str = ""
    status: int = 401
    note: str = ""

    def sentence(self) -> str:
        if self.note:
            return self.note
        if self.key:
            return f"a key works ({self.status} outside)"
        script = "+".join(
            f"{name}={value}" if value else name for name, value in self.options.items()
        )
        where = " ".join(filter(None, [self.vendor, self.model])) or "every vendor"
        share = "" if self.share >= 1 else f"{self.share * 100:g} % "
        return f"{share}{script} at {where}"


@dataclass(frozen=True, slots=True)
class Day:
    steps: tuple[Step, ...]
    seed: str = ""
    starts_at: datetime | None = None
    speed: float = 1.0

    def play(self, world: World) -> datetime:
        """Starts the clock and schedules everything. Returns the moment it begins."""
        if self.seed:
            world.seed = self.seed
        if self.starts_at is not None or self.speed != 1:
            world.run_clock(self.starts_at, self.speed)
        begins_at = world.now()
        for step in self.steps:
            start = begins_at + timedelta(seconds=step.at_seconds)
            end = None
            if step.until_seconds is not None:
                end = begins_at + timedelta(seconds=step.until_seconds)
            if step.key:
                rules_of(world)[step.key] = KeyRule(start, end, step.status)
            else:
                schedule_of(world).entries.append(
                    Scheduled(step.options, step.share, step.vendor, step.model, start, end)
                )
        return begins_at


class _Loader(yaml.SafeLoader):
    """YAML without numbers to the base of sixty: 8:30 is half past eight."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, found) for tag, found in resolvers if tag not in _NUMBERS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _pattern in _NUMBERS.items():
    _Loader.add_implicit_resolver(_tag, re.compile(_pattern), list("-0123456789"))


def read_text(text: str) -> Day:
    """A script in YAML or JSON. Raises BadDay."""
    try:
        # A safe loader: it makes values, never objects.
        value = yaml.load(text, Loader=_Loader)  # noqa: S506
    except yaml.YAMLError as error:
        raise BadDay(f"not YAML: {error}") from None
    return read_day(value)


def read_day(value: object) -> Day:
    """A parsed script (from YAML or JSON). Raises BadDay."""
    day = _table(value, "the script")
    _known(day, _DAY_FIELDS, "")
    events = day.get("events")
    if not isinstance(events, list) or not events:
        raise BadDay("events: write a list with at least one event")
    steps = [_step(event, f"events[{number}]") for number, event in enumerate(events)]
    return Day(
        steps=tuple(sorted(steps, key=lambda step: step.at_seconds)),
        seed=str(day.get("seed") or ""),
        starts_at=moment(day["clock"], "clock") if day.get("clock") else None,
        speed=_number(day.get("speed", 1), "speed", 0.001, 100_000),
    )


def _step(value: object, place: str) -> Step:
    event = _table(value, place)
    _known(event, _EVENT_FIELDS, f"{place}.")
    at_seconds = offset(event.get("at", 0), f"{place}.at")
    until: float | None = None
    if "for" in event and "until" in event:
        raise BadDay(f"{place}: write `for` or `until`, not both")
    if "for" in event:
        until = at_seconds + offset(event["for"], f"{place}.for")
    elif "until" in event:
        until = offset(event["until"], f"{place}.until")
        if until <= at_seconds:
            raise BadDay(f"{place}.until: must be after `at`")
    if ("fault" in event) == ("key" in event):
        raise BadDay(f"{place}: write either `fault` or `key`")
    return Step(
        at_seconds=at_seconds,
        until_seconds=until,
        options=script_options(event["fault"], f"{place}.fault") if "fault" in event else {},
        share=_number(event.get("share", 1), f"{place}.share", 0, 1),
        vendor=str(event.get("vendor") or ""),
        model=str(event.get("model") or ""),
        key=str(event.get("key") or ""),
        status=int(_number(event.get("status", 401), f"{place}.status", 400, 599)),
        note=str(event.get("note") or ""),
    )


def script_options(value: object, place: str) -> dict[str, str]:
    """`status=529+after=2` as options. Raises BadDay for a name nobody knows."""
    if not isinstance(value, str) or not value:
        raise BadDay(f"{place}: write a script such as status=529")
    options = script_of("x+" + value).options
    for name in options:
        if name not in FAULTS and name not in SCENARIOS:
            raise BadDay(f"{place}: {name!r} is unknown; `manage.py simulator list` names all")
    return options


def offset(value: object, place: str) -> float:
    """Seconds from the start: 90, "3m", "1h30m", "00:03", "08:00:30"."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _number(value, place, 0, _MAX_SECONDS)
    text = str(value).strip()
    if found := _CLOCK.match(text):
        hours, minutes, seconds = (int(group or 0) for group in found.groups())
        return float(hours * 3600 + minutes * 60 + seconds)
    if text and (found := _DURATION.match(text)):
        hours, minutes = (int((group or "0")[:9]) for group in found.groups()[:2])
        total = hours * 3600 + minutes * 60 + float(found.group(3) or 0)
        return _number(total, place, 0, _MAX_SECONDS)
    raise BadDay(f"{place}: {value!r} is no time; write 90, 3m, 1h30m, 00:03 or 08:00:30")


def moment(value: object, place: str) -> datetime:
    """An ISO time; without a zone it is UTC. YAML may have read it already."""
    if isinstance(value, datetime):
        at = value
    else:
        try:
            at = datetime.fromisoformat(str(value))
        except ValueError:
            raise BadDay(f"{place}: {value!r} is no time; write 2026-01-31T08:00:00Z") from None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    if not 1971 <= at.year <= 9900:
        raise BadDay(f"{place}: write a year between 1971 and 9900")
    return at


def _table(value: object, place: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise BadDay(f"{place} must be an object")
    return value


def _known(value: Mapping[str, Any], names: frozenset[str], place: str) -> None:
    for name in value:
        if name not in names:
            raise BadDay(f"{place}{name} is unknown; known are {', '.join(sorted(names))}")


def _number(value: object, place: str, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BadDay(f"{place} must be a number")
    if not low <= value <= high:
        raise BadDay(f"{place} must be between {low:g} and {high:g}")
    return float(value)
