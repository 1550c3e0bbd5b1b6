"""What a limit counts, in which window, and whether there is room. Pure: no clock, no storage.

A rule names a counter by a key: its own id, the subject it counts for, and a bucket of time. A
calendar window has one bucket. A rolling window is the sum of PARTS + 1 narrow buckets, the oldest
of which counts whole although only a part of it is still inside: never too little.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

PARTS: Final = 12
# Beyond every sane figure, well within 64 bits also after many additions.
MOST: Final = 10**18
# Subjects whose counters a rule remembers by name.
_MOST_KNOWN: Final = 10_000
# Later than any bucket ends, for those that never do.
NEVER: Final = 2**33


class Scope(StrEnum):
    """Whose requests a limit counts."""

    PLATFORM = "platform"
    TENANT = "tenant"
    MEMBER = "member"
    KEY = "key"
    MODEL = "model"
    PROVIDER = "provider"
    CREDENTIAL = "credential"


# Known when a request arrives; the others only when a target is tried.
EARLY: Final = (Scope.PLATFORM, Scope.TENANT, Scope.MEMBER, Scope.KEY, Scope.MODEL)
LATE: Final = (Scope.PROVIDER, Scope.CREDENTIAL, Scope.MODEL)
# What these spend is what the providers charge us; the others spend what the tenant is charged.
AT_COST: Final = frozenset({Scope.PLATFORM, Scope.PROVIDER, Scope.CREDENTIAL})
# Each value of the scope has a counter of its own.
EACH: Final = "*"


class Kind(StrEnum):
    REQUESTS = "requests"
    TOKENS = "tokens"
    INPUT_TOKENS = "input_tokens"
    OUTPUT_TOKENS = "output_tokens"
    MONEY = "money"
    PARALLEL = "parallel"
    REQUEST_TOKENS = "request_tokens"
    REQUEST_MONEY = "request_money"


class Period(StrEnum):
    NONE = "none"
    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    TOTAL = "total"


class Window(StrEnum):
    CALENDAR = "calendar"
    ROLLING = "rolling"
    FISCAL = "fiscal"


# These have no period: they look at what runs now, or at one request.
WITHOUT_PERIOD: Final = frozenset({Kind.PARALLEL, Kind.REQUEST_TOKENS, Kind.REQUEST_MONEY})
PER_REQUEST: Final = frozenset({Kind.REQUEST_TOKENS, Kind.REQUEST_MONEY})
IN_NANOS: Final = frozenset({Kind.MONEY, Kind.REQUEST_MONEY})
_SECONDS: Final = {
    Period.MINUTE: 60,
    Period.HOUR: 3_600,
    Period.DAY: 86_400,
    Period.WEEK: 604_800,
    Period.MONTH: 30 * 86_400,
}


class Amounts(msgspec.Struct, frozen=True, gc=False):
    """What one request takes, or took. `cost_nanos` is the provider's price, `charge_nanos` the
    tenant's."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_nanos: int = 0
    charge_nanos: int = 0

    def plus(self, other: Amounts, *, requests: bool = True) -> Amounts:
        return Amounts(
            requests=self.requests + (other.requests if requests else 0),
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cost_nanos=self.cost_nanos + other.cost_nanos,
            charge_nanos=self.charge_nanos + other.charge_nanos,
        )

    def of(self, kind: Kind, scope: Scope) -> int:
        return self.spread()[PLACES[kind, scope]]

    def spread(self) -> tuple[int, ...]:
        """One figure for each of PLACES."""
        given, made = self.input_tokens, self.output_tokens
        return (self.requests, given + made, given, made, self.cost_nanos, self.charge_nanos, 0)


def _place(kind: Kind, scope: Scope) -> int:
    match kind:
        case Kind.REQUESTS:
            return 0
        case Kind.TOKENS | Kind.REQUEST_TOKENS:
            return 1
        case Kind.INPUT_TOKENS:
            return 2
        case Kind.OUTPUT_TOKENS:
            return 3
        case Kind.MONEY | Kind.REQUEST_MONEY:
            return 4 if scope in AT_COST else 5
        case Kind.PARALLEL:
            return 6


# Which of an amount's figures a limit of this kind and scope counts: asked for every limit of
# every request.
PLACES: Final = {(kind, scope): _place(kind, scope) for kind in Kind for scope in Scope}


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a rule counts at a moment: the bucket, all buckets it sums, and when it is new."""

    bucket: str
    buckets: tuple[str, ...]
    starts_at: int
    resets_at: int
    # From then on the next slot holds.
    until: int
    # From then on nobody asks for this bucket any more.
    ends_at: int


class Take(msgspec.Struct, frozen=True, gc=False):
    """One counter's part of one request. `reads` are all counters whose sum the cap bounds."""

    key: str
    reads: tuple[str, ...]
    amount: int
    cap: int
    is_enforced: bool
    ends_at: int


class Decision(msgspec.Struct, frozen=True, gc=False):
    """`used` is what each take met, before it. `refused` is the index of the take without room."""

    used: tuple[int, ...]
    refused: int | None = None


class Rule:
    """A limit, ready to be asked. Remembers its current slot, which changes seldom."""

    __slots__ = (
        "_known",
        "_slot",
        "amount",
        "fiscal_day",
        "id",
        "is_enforced",
        "kind",
        "period",
        "place",
        "scope",
        "scope_value",
        "time_zone",
        "window",
    )

    def __init__(
        self,
        *,
        rule_id: str,
        scope: Scope,
        scope_value: str,
        kind: Kind,
        period: Period,
        window: Window,
        amount: int,
        is_enforced: bool,
        time_zone: str = "UTC",
        fiscal_day: int = 1,
    ) -> None:
        self.id = rule_id
        self.scope = scope
        self.scope_value = scope_value
        self.kind = kind
        self.period = period
        self.window = window
        self.amount = amount
        self.is_enforced = is_enforced
        self.time_zone = time_zone
        self.fiscal_day = fiscal_day
        self.place = PLACES[kind, scope]
        self._slot: Slot | None = None
        # The counters of a slot, by whom they count for.
        self._known: dict[str, tuple[Slot, str, tuple[str, ...]]] = {}

    def slot(self, now: float) -> Slot:
        slot = self._slot
        if slot is None or not slot.starts_at <= now < slot.until:
            slot = self._slot = slot_at(
                self.period, self.window, now, self.time_zone, self.fiscal_day
            )
        return slot

    def key(self, subject: str, bucket: str) -> str:
        return f"{self.id}:{subject}:{bucket}"

    def take(self, subject: str, amounts: Amounts, now: float) -> Take:
        slot = self.slot(now)
        subject = subject if self.scope_value == EACH else ""
        known = self._known.get(subject)
        if known is None or known[0] is not slot:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            key = self.key(subject, slot.bucket)
            reads = tuple(self.key(subject, bucket) for bucket in slot.buckets)
            known = self._known[subject] = (slot, key, reads)
        amount = 1 if self.kind is Kind.PARALLEL else amounts.spread()[self.place]
        return Take(known[1], known[2], amount, self.amount, self.is_enforced, slot.ends_at)


def slot_at(
    period: Period, window: Window, now: float, time_zone: str = "UTC", fiscal_day: int = 1
) -> Slot:
    if period is Period.NONE:
        return Slot("now", ("now",), 0, 0, NEVER, NEVER)
    if period is Period.TOTAL:
        return Slot("all", ("all",), 0, NEVER, NEVER, NEVER)
    if window is Window.ROLLING:
        width = _SECONDS[period] // PARTS
        index = int(now // width)
        buckets = tuple(f"r{number}" for number in range(index - PARTS, index + 1))
        start = index * width
        return Slot(
            buckets[-1], buckets, start, start + width, start + width, start + (PARTS + 1) * width
        )
    start, end = bounds(period, now, time_zone, fiscal_day if window is Window.FISCAL else 1)
    return Slot(str(start), (str(start),), start, end, end, end)


def bounds(period: Period, now: float, time_zone: str, first_day: int = 1) -> tuple[int, int]:
    """The calendar period that holds `now`, in epoch seconds: from its start up to its end."""
    if period in (Period.MINUTE, Period.HOUR):
        width = _SECONDS[period]
        start = int(now // width) * width
        return start, start + width
    zone = _zone(time_zone)
    local = datetime.fromtimestamp(now, UTC).astimezone(zone)
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    match period:
        case Period.DAY:
            first, after = midnight, midnight + timedelta(days=1)
        case Period.WEEK:
            first = midnight - timedelta(days=midnight.weekday())
            after = first + timedelta(days=7)
        case Period.MONTH:
            # Every month has a 28th, so that every fiscal month begins.
            day = min(max(first_day, 1), 28)
            first = midnight.replace(day=day)
            if midnight < first:
                first = _month_before(first)
            after = (first.replace(day=1) + timedelta(days=32)).replace(day=day)
        case _:
            raise ValueError(f"{period} is no calendar period.")
    return int(first.timestamp()), int(after.timestamp())


def _month_before(moment: datetime) -> datetime:
    return (moment.replace(day=1) - timedelta(days=1)).replace(day=moment.day)


@lru_cache(maxsize=512)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def decide(used: Mapping[str, int], takes: Sequence[Take]) -> Decision:
    """Check all; taking them all is the caller's next step, in the same atomic one."""
    seen: list[int] = []
    refused: int | None = None
    for index, take in enumerate(takes):
        found = (
            used.get(take.key, 0)
            if len(take.reads) == 1
            else sum(used.get(key, 0) for key in take.reads)
        )
        seen.append(found)
        if take.is_enforced and refused is None and not has_room(found, take.amount, take.cap):
            refused = index
    return Decision(tuple(seen), refused)


def has_room(used: int, amount: int, cap: int) -> bool:
    """Who takes nothing beforehand still needs something to be left."""
    return used + amount <= cap and (amount > 0 or used < cap)


def crossed(used: int, cap: int, thresholds: Sequence[int]) -> list[int]:
    """The soft thresholds (per cent) that `used` has reached. A limit of 0 has none."""
    return [percent for percent in thresholds if cap > 0 and used * 100 >= cap * percent]
