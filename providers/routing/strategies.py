"""The order in which usable targets are tried. Pure but for the turns it is handed.

priority          by place in the pool and priority; equals take turns (the default)
weighted          by priority; equals take turns by weight, the place in a pool does not count
fill-first        by place in the pool and priority; equals in their fixed order
cheapest-capable  those known to do all that is needed first, the cheapest of them
lowest-price      the cheapest, unknown prices last
fastest           the shortest time to a first token lately, those not yet known first
least-busy        the fewest requests running
two-choices       two drawn at random, the less busy one first
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from itertools import groupby
from math import log
from typing import Final, Protocol, TypeVar

from providers.routing.needs import USUAL_OUTPUT_TOKENS, Needs
from providers.routing.table import CredentialRef, Target

T = TypeVar("T")

DEFAULT: Final = "priority"
STRATEGIES: Final = (
    "priority",
    "weighted",
    "fill-first",
    "cheapest-capable",
    "lowest-price",
    "fastest",
    "least-busy",
    "two-choices",
)
# Where equals take turns, a conversation keeps its own.
TAKES_TURNS: Final = frozenset({"priority", "weighted", "least-busy", "two-choices"})
MOST_TURNS: Final = 50_000


class Loads(Protocol):
    """What is known of targets and credentials now. Seconds of 0 = not known."""

    def running(self, target: Target) -> int: ...

    def running_by(self, credential_id: str) -> int: ...

    def first_token_seconds(self, target: Target) -> float: ...

    def first_token_seconds_by(self, credential_id: str) -> float: ...


class Turns:
    """Whose turn it is, by name. One per process, starting anywhere: each process is fair by
    itself, so all together are, without asking each other at every request."""

    __slots__ = ("_counts", "_start", "_weights")

    def __init__(self, start: int = 0) -> None:
        self._start = start
        self._counts: dict[str, int] = {}
        self._weights: dict[str, dict[str, float]] = {}

    def next(self, name: str, *, is_real: bool) -> int:
        """`is_real` False only looks (an explanation takes nobody's turn)."""
        count = self._counts.get(name, self._start)
        if is_real:
            if len(self._counts) >= MOST_TURNS and name not in self._counts:
                self._counts.clear()
            self._counts[name] = count + 1
        return count

    def weigh(self, name: str, weights: dict[str, int], *, is_real: bool) -> list[str]:
        """Smooth weighted turns: who is furthest behind its share comes first."""
        total = sum(weights.values())
        known = self._weights.get(name, {})
        behind = {key: known.get(key, 0.0) + weight for key, weight in weights.items()}
        order = sorted(behind, key=behind.__getitem__, reverse=True)
        if is_real and order:
            behind[order[0]] -= total
            if len(self._weights) >= MOST_TURNS and name not in self._weights:
                self._weights.clear()
            # Those that rest now keep their share: they come back without a burst.
            self._weights[name] = {**known, **behind}
        return order


def order(
    targets: Sequence[Target],
    strategy: str,
    *,
    name: str,
    needs: Needs,
    turns: Turns,
    loads: Loads,
    draw: Callable[[int], int],
    is_real: bool,
) -> list[Target]:
    """`targets` stand by pool place and priority. `draw(n)` gives a number below n."""
    match strategy:
        case "fill-first":
            return list(targets)
        case "weighted":
            return _weighted(targets, name, turns, is_real)
        case "cheapest-capable":
            wanted = needs.bits
            return sorted(
                targets,
                key=lambda target: (target.has & wanted != wanted, _price(target, needs)),
            )
        case "lowest-price":
            return sorted(targets, key=lambda target: _price(target, needs))
        case "fastest":
            return sorted(targets, key=loads.first_token_seconds)
        case "least-busy":
            return sorted(_rotated(targets, name, turns, is_real), key=loads.running)
        case "two-choices":
            return _two_choices(targets, loads, draw)
        case _:
            return _rotated(targets, name, turns, is_real)


def keep_together(targets: list[Target], session: str) -> list[Target]:
    """Equals of the first tier by a hash of conversation and target (rendezvous hashing): the
    same conversation finds the same target in every process, nothing has to be remembered, and
    when a target goes only its conversations move."""
    tier = _first_tier(targets)
    if tier < 2:
        return targets
    return sorted(targets[:tier], key=lambda target: _score(target, session)) + targets[tier:]


def expected_nanos(target: Target, needs: Needs) -> float | None:
    """What the request costs there at worst, as far as can be said. None = unknown price."""
    if target.input_nanos < 0:
        return None
    output = needs.max_output or target.spec.max_output_tokens or USUAL_OUTPUT_TOKENS
    return target.input_nanos * needs.most_tokens + max(target.output_nanos, 0.0) * output


def _price(target: Target, needs: Needs) -> float:
    if target.input_nanos < 0:
        return float("inf")
    output = needs.max_output or USUAL_OUTPUT_TOKENS
    return target.input_nanos * max(needs.most_tokens, 1) + target.output_nanos * output


def _first_tier(targets: Sequence[Target]) -> int:
    rank, priority = targets[0].rank, targets[0].endpoint.priority
    for place, target in enumerate(targets):
        if target.rank != rank or target.endpoint.priority != priority:
            return place
    return len(targets)


def _rotated(targets: Sequence[Target], name: str, turns: Turns, is_real: bool) -> list[Target]:
    turn = turns.next(name, is_real=is_real)
    first = _first_tier(targets)
    start = turn % first
    ordered = [*targets[start:first], *targets[:start]]
    while first < len(targets):
        rest = targets[first:]
        size = _first_tier(rest)
        start = turn % size
        ordered += [*rest[start:size], *rest[:start]]
        first += size
    return ordered


def _weighted(targets: Sequence[Target], name: str, turns: Turns, is_real: bool) -> list[Target]:
    ordered: list[Target] = []
    unused: list[Target] = []
    by_priority = sorted(targets, key=lambda target: -target.endpoint.priority)
    for number, (_, tier) in enumerate(groupby(by_priority, lambda t: t.endpoint.priority)):
        members = {f"{target.endpoint.provider_id}/{target.spec.id}": target for target in tier}
        weights = {key: target.endpoint.weight for key, target in members.items()}
        used = {key: weight for key, weight in weights.items() if weight > 0}
        # A weight of 0: only when nobody else can.
        unused += [members[key] for key in members if key not in used]
        for key in turns.weigh(f"{name} {number}", used, is_real=is_real and number == 0):
            ordered.append(members[key])
    return ordered + unused


def measured(
    refs: list[CredentialRef],
    first: int,
    strategy: str,
    loads: Loads,
    draw: Callable[[int], int],
) -> list[CredentialRef]:
    """Credentials of one registration by what `strategy` measures; the `first` are equals. Prices
    and abilities are the same for all of them."""
    equals, others = refs[:first], refs[first:]
    match strategy:
        case "fastest":
            equals.sort(key=lambda ref: loads.first_token_seconds_by(ref.id))
        case "least-busy":
            equals.sort(key=lambda ref: loads.running_by(ref.id))
        case "two-choices" if first > 1:
            equals = _two_of(equals, lambda ref: loads.running_by(ref.id), draw)
    return equals + others


def _two_choices(
    targets: Sequence[Target], loads: Loads, draw: Callable[[int], int]
) -> list[Target]:
    tier = _first_tier(targets)
    if tier < 2:
        return list(targets)
    return [*_two_of(targets[:tier], loads.running, draw), *targets[tier:]]


def _two_of(
    equals: Sequence[T], running: Callable[[T], int], draw: Callable[[int], int]
) -> list[T]:
    """Two of them by lot, the less busy first, and then the rest."""
    one, other = draw(len(equals)), draw(len(equals) - 1)
    other += other >= one
    chosen = sorted((one, other), key=lambda place: running(equals[place]))
    rest = [item for place, item in enumerate(equals) if place not in chosen]
    return [*(equals[place] for place in chosen), *rest]


def _score(target: Target, session: str) -> float:
    """The lowest wins; a target of twice the weight wins twice as often."""
    endpoint = target.endpoint
    return rendezvous(session, f"{endpoint.provider_id}\0{target.spec.id}", endpoint.weight)


def rendezvous(session: str, name: str, weight: float) -> float:
    """A conversation's score for a name: the lowest wins, in every process."""
    digest = blake2b(f"{session}\0{name}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    share = (int.from_bytes(digest) + 1) / (1 << 64)
    return -log(share) / max(weight, 0.001)
