"""What a request wants, what it was held for, and what became of it, as values. Pure.

Figures come from upstreams and are believed only within reason: what is no count at all is
unknown, what is negative counts as 0, what is absurd is cut off.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from tenants.quotas.policy import Amounts, Kind, Rule, Scope

MOST_TOKENS: Final = 10**12
# A million dollars for one request.
MOST_NANOS: Final = 10**15
_MOST_MS: Final = 2**31 - 1

COUNTS: Final = (
    *("input", "cache_read", "cache_write", "output", "reasoning"),
    *("audio_input", "audio_output", "image_input", "image_output"),
)


def count(value: Any, most: int = MOST_TOKENS) -> int | None:
    """A count between 0 and `most`; None for what is none."""
    if type(value) is int and 0 <= value <= most:
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return min(max(int(value), 0), most)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known when a request arrives. `input_tokens` is an estimate, `output_tokens` the
    most that may come. `nanos` prices a pair of them as the dearest target would; None from it,
    or in its place, means that nobody knows the price."""

    tenant_id: uuid.UUID
    model: str
    key_id: uuid.UUID | None = None
    member_id: uuid.UUID | None = None
    operation: str = ""
    client_protocol: str = ""
    is_stream: bool = False
    trace_id: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    nanos: Callable[[int, int], int | None] | None = None
    # The same at the tenant's own price, where one is agreed.
    charge: Callable[[int, int], int | None] | None = None


@dataclass(slots=True)
class TargetFacts:
    """Where an attempt goes."""

    provider: str
    model: str
    credential_id: str = ""
    credential_label: str = ""
    upstream_protocol: str = ""
    price_version: str = ""
    # Limits that no row holds: those that the registration itself names.
    own_rules: tuple[Rule, ...] = ()


@dataclass(slots=True)
class Outcome:
    """How a request, or an attempt of it, ended. None = nobody said. `estimated_output` is ours,
    from the size of what was produced. `cost_nanos` is the provider's price of the usage."""

    status: int = 200
    input: Any = None
    cache_read: Any = None
    cache_write: Any = None
    output: Any = None
    reasoning: Any = None
    audio_input: Any = None
    audio_output: Any = None
    image_input: Any = None
    image_output: Any = None
    cost_nanos: Any = None
    # By the tenant's own price list; None = the provider's price with the mark-up.
    charge_nanos: Any = None
    price_basis: str = ""
    currency_note: str = ""
    estimated_input: int | None = None
    estimated_output: int | None = None
    finish_reason: str = ""
    error_code: str = ""
    is_interrupted: bool = False
    first_byte_ms: float | None = None
    latency_ms: float = 0.0


class HeldTake(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A take, with what its settlement needs to know."""

    key: str
    reserved: int
    ends_at: int
    kind: Kind
    scope: Scope


class Held(msgspec.Struct):
    """All that somebody else needs to settle a hold whose process died."""

    request_id: str
    tenant_id: uuid.UUID
    taken_at: float
    model: str
    key_id: uuid.UUID | None = None
    member_id: uuid.UUID | None = None
    operation: str = ""
    client_protocol: str = ""
    is_stream: bool = False
    trace_id: str = ""
    # What it will use as far as anybody can tell: for the case that nobody ever says.
    expected_input: int = 0
    expected_output: int = 0
    expected_nanos: int = 0
    mark_up: int = 0
    takes: list[HeldTake] = msgspec.field(default_factory=list)


def marked_up(cost_nanos: int, mark_up: int) -> int:
    """What the tenant is charged. `mark_up` in hundredths of a per cent; half a nano-dollar goes
    to the even neighbour."""
    if not mark_up:
        return cost_nanos
    whole, rest = divmod(cost_nanos * (10_000 + mark_up), 10_000)
    if rest * 2 > 10_000 or (rest * 2 == 10_000 and whole % 2):
        whole += 1
    return whole


@dataclass(slots=True)
class Settled:
    """An outcome whose figures are sane: ready for the ledger and the counters."""

    counts: tuple[int | None, ...]
    is_reported: bool
    estimated_input: int
    estimated_output: int
    cost_nanos: int | None
    charge_nanos: int | None
    estimated_nanos: int
    amounts: Amounts


def settled(outcome: Outcome, held: Held, *, was_sent: bool = True) -> Settled:
    """What counts: the reported figures, else our estimates. An answer that failed without usage
    used nothing that anybody charges for."""
    counts = tuple(
        [
            None if value is None else count(value)
            for value in (
                *(outcome.input, outcome.cache_read, outcome.cache_write, outcome.output),
                *(outcome.reasoning, outcome.audio_input, outcome.audio_output),
                *(outcome.image_input, outcome.image_output),
            )
        ]
    )
    reported_input, cache_read, cache_write, output = counts[:4]
    is_reported = reported_input is not None or output is not None
    has_failed = outcome.status >= 400 and not outcome.is_interrupted
    if is_reported:
        estimated_input = estimated_output = 0
        used_input = (reported_input or 0) + (cache_read or 0) + (cache_write or 0)
        used_output = output or 0
    elif has_failed:
        estimated_input = estimated_output = used_input = used_output = 0
        counts = tuple(0 for _ in COUNTS)
        is_reported = True
    else:
        estimated_input = used_input = _estimate(outcome.estimated_input, held.expected_input)
        estimated_output = used_output = _estimate(outcome.estimated_output, held.expected_output)
    cost = count(outcome.cost_nanos, MOST_NANOS)
    if has_failed and cost is None:
        cost = 0
    estimated = 0
    if cost is None:
        estimated = _scaled(held, used_input, used_output)
    charge = count(outcome.charge_nanos, MOST_NANOS)
    if charge is None and cost is not None:
        charge = marked_up(cost, held.mark_up)
    amounts = Amounts(
        requests=1 if was_sent else 0,
        input_tokens=used_input,
        output_tokens=used_output,
        cost_nanos=estimated if cost is None else cost,
        charge_nanos=marked_up(estimated, held.mark_up) if charge is None else charge,
    )
    return Settled(
        counts=counts,
        is_reported=is_reported,
        estimated_input=estimated_input,
        estimated_output=estimated_output,
        cost_nanos=cost,
        charge_nanos=charge,
        estimated_nanos=estimated,
        amounts=amounts,
    )


def milliseconds(value: float | None) -> int | None:
    return None if value is None else count(value, _MOST_MS)


def _estimate(ours: int | None, expected: int) -> int:
    return count(expected if ours is None else ours) or 0


def _scaled(held: Held, used_input: int, used_output: int) -> int:
    """The expected cost, in the proportion of what was used: all that is left of the price."""
    expected = held.expected_input + held.expected_output
    if not expected:
        return min(held.expected_nanos, MOST_NANOS)
    return min(held.expected_nanos * (used_input + used_output) // expected, MOST_NANOS)
