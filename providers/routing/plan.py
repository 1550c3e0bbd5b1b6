"""Where a request may go, in order, and why not elsewhere. Pure: the clock, the draw and what the
process knows of its targets are handed in.

resolve (names) -> refuse (needs, rests) -> order (strategy, conversation) -> credentials

A refusal needs a known fact. What is unknown of a model refuses nothing: the vendor will say.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Final
from zlib import crc32

import msgspec

from providers.credentials.pick import for_member
from providers.credentials.resolution import with_own_key
from providers.routing import needs as need_bits
from providers.routing.cooldown import Cooldowns, Rest
from providers.routing.needs import Needs
from providers.routing.quota import is_used_up, used_up_last, weight_of
from providers.routing.resolve import Allows, nearest_names, resolve
from providers.routing.strategies import (
    TAKES_TURNS,
    Loads,
    Turns,
    keep_together,
    measured,
    order,
    rendezvous,
)
from providers.routing.table import CredentialRef, Endpoint, RouteTable, Target

__all__ = ["Allows", "Candidate", "Plan", "Rejected", "Standing", "nearest_names", "plan"]

NOTHING_KNOWN: Final = Needs()
# For so many targets the turns among their credentials are worked out.
_PICKED: Final = 3


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """Empty credentials: the endpoint needs none."""

    target: Target
    credentials: tuple[CredentialRef, ...] = ()


class Rejected(msgspec.Struct, frozen=True):
    """`code` is stable. `limit` and `asked` are its figures: tokens, bytes, images, or for a rest
    the epoch seconds of its end."""

    target: Target
    code: str
    limit: float = 0
    asked: float = 0
    detail: str = ""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """`is_known` False: no such name, or not for this key."""

    name: str
    is_known: bool
    strategy: str = ""
    needs: Needs = NOTHING_KNOWN
    candidates: tuple[Candidate, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    # Put last, not out: they rest, but nothing else is left.
    is_last_resort: bool = False
    # The answer's headers may name provider and model.
    shows_route: bool = False

    @property
    def targets(self) -> tuple[Target, ...]:
        return tuple(candidate.target for candidate in self.candidates)

    def first_free(self) -> float | None:
        """When the first of the resting comes back, in epoch seconds. None = none rests."""
        ends = [entry.limit for entry in self.rejected if entry.code == "resting"]
        return min(ends) if ends else None


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan reads besides the table. `now` in epoch seconds."""

    cooldowns: Cooldowns
    turns: Turns
    loads: Loads
    draw: Callable[[int], int]
    now: float


def plan(
    name: str,
    table: RouteTable,
    allows: Allows,
    standing: Standing,
    *,
    needs: Needs = NOTHING_KNOWN,
    asked_strategy: str = "",
    kind: str = "chat",
    member_id: uuid.UUID | None = None,
    has_own_key: bool = False,
    is_real: bool = True,
) -> Plan:
    """`kind` empty = models of any kind. `member_id` is whose key asks: a person's own login serves
    nobody else. `has_own_key`: the caller brings the provider's key, which goes to one registration
    or nowhere. `is_real` False explains: it takes nobody's turn."""
    found = resolve(name, table, allows)
    if has_own_key:
        found, refused = _for_own_key(found)
        if refused:
            return Plan(name=name, is_known=True, rejected=refused)
    else:
        found = for_member(found, member_id)
    if not found:
        return Plan(name=name, is_known=False)
    session = needs.session if table.policy.is_sticky else ""
    strategy = asked_strategy or table.strategies.get(name) or table.policy.strategy
    suited, rejected = _suited(found, needs, kind)
    rested, resting = _rested(suited, standing)
    is_last_resort = False
    if not rested and resting:
        # The last usable target is never put out, unless its quota is used up until a known time.
        rested = [target for target, rest in sorted(resting, key=_end) if not rest.is_shut]
        resting = [(target, rest) for target, rest in resting if rest.is_shut]
        is_last_resort = bool(rested)
    rejected += [
        Rejected(target, "resting", rest.until, standing.now, rest.outcome)
        for target, rest in resting
    ]
    if len(rested) > 1 and not is_last_resort:
        rested = order(
            rested,
            strategy,
            name=name,
            needs=needs,
            turns=standing.turns,
            loads=standing.loads,
            draw=standing.draw,
            is_real=is_real,
        )
        if session and strategy in TAKES_TURNS:
            rested = keep_together(rested, session)
        rested = _roomy_first(rested, needs.most_tokens)
        if table.knows_quotas:
            rested = used_up_last(rested, standing.now)
        if needs.holder[0]:
            # Health has been looked at: an answer that we keep ourselves anybody can go on from.
            rested.sort(key=lambda target: target.endpoint.provider_id != needs.holder[0])
    return Plan(
        name=name,
        is_known=True,
        strategy=strategy,
        needs=needs,
        candidates=_holder_first(
            _candidates(rested, standing, is_real, is_last_resort, session, strategy),
            needs.holder,
        ),
        rejected=tuple(rejected),
        is_last_resort=is_last_resort,
        shows_route=table.policy.shows_route,
    )


def _for_own_key(
    targets: tuple[Target, ...],
) -> tuple[tuple[Target, ...], tuple[Rejected, ...]]:
    """A key is for one provider: any other would learn it. So where several could be meant, nobody
    is asked."""
    found = with_own_key(targets)
    if not found:
        return (), tuple(Rejected(target, "takes_no_own_key") for target in targets)
    if len({target.endpoint.provider_id for target in found}) > 1:
        return (), tuple(
            Rejected(target, "own_key_ambiguous", detail=f"{target.endpoint.slug}/{target.name}")
            for target in found
        )
    return found, ()


def _end(entry: tuple[Target, Rest]) -> float:
    return entry[1].until


def _suited(
    targets: Iterable[Target], needs: Needs, kind: str
) -> tuple[list[Target], list[Rejected]]:
    suited: list[Target] = []
    rejected: list[Rejected] = []
    # Without thinking an answer is worse, not wrong: it decides only where there is a choice.
    bits = needs.bits & ~need_bits.REASONING
    fewest, output = needs.fewest_tokens, needs.max_output
    size, images = needs.size, needs.images
    for target in targets:
        spec = target.spec
        if kind and target.kind != kind:
            rejected.append(Rejected(target, "wrong_kind", detail=target.kind))
        elif target.endpoint.is_locked_out:
            rejected.append(Rejected(target, "no_credential"))
        elif missing := target.lacks & bits:
            rejected.append(Rejected(target, _code(missing)))
        elif 0 < spec.context_window < fewest:
            rejected.append(Rejected(target, "context_too_small", spec.context_window, fewest))
        elif 0 < spec.max_output_tokens < output:
            rejected.append(Rejected(target, "output_too_small", spec.max_output_tokens, output))
        elif 0 < target.endpoint.max_request_bytes < size:
            most = target.endpoint.max_request_bytes
            rejected.append(Rejected(target, "request_too_large", most, size))
        elif 0 < target.endpoint.max_images_per_request < images:
            most = target.endpoint.max_images_per_request
            rejected.append(Rejected(target, "too_many_images", most, images))
        else:
            suited.append(target)
    if needs.bits & need_bits.REASONING:
        thinking = [target for target in suited if not target.lacks & need_bits.REASONING]
        if thinking and len(thinking) < len(suited):
            rejected += [
                Rejected(target, "no_reasoning")
                for target in suited
                if target.lacks & need_bits.REASONING
            ]
            suited = thinking
    return suited, rejected


def _code(missing: int) -> str:
    return next(f"no_{name}" for name, bit in need_bits.BITS.items() if missing & bit)


def _rested(
    targets: Sequence[Target], standing: Standing
) -> tuple[list[Target], list[tuple[Target, Rest]]]:
    cooldowns, now = standing.cooldowns, standing.now
    if not cooldowns.rests:
        return list(targets), []
    rested: list[Target] = []
    resting: list[tuple[Target, Rest]] = []
    for target in targets:
        endpoint = target.endpoint
        if cooldowns.is_quiet(endpoint.provider_id):
            rested.append(target)
            continue
        first: Rest | None = None
        for credential_id in [ref.id for ref in endpoint.credentials] or [""]:
            rest = cooldowns.resting(endpoint.provider_id, credential_id, target.spec.id, now)
            if rest is None:
                rested.append(target)
                break
            # Of several credentials the one that comes back first, or need not be waited for.
            if first is None or (rest.is_shut, rest.until) < (first.is_shut, first.until):
                first = rest
        else:
            assert first is not None
            resting.append((target, first))
    return rested, resting


def _roomy_first(targets: list[Target], most_tokens: int) -> list[Target]:
    """Those whose window surely suffices before those where it may not."""
    if not any(0 < target.spec.context_window < most_tokens for target in targets):
        return targets
    return sorted(targets, key=lambda target: 0 < target.spec.context_window < most_tokens)


def _candidates(
    targets: Sequence[Target],
    standing: Standing,
    is_real: bool,
    is_last_resort: bool,
    session: str,
    strategy: str,
) -> tuple[Candidate, ...]:
    cooldowns = standing.cooldowns
    made: list[Candidate] = []
    for place, target in enumerate(targets):
        refs = target.endpoint.credentials
        # Later targets are seldom reached: their credentials stand by priority, and only the first
        # target's turn is taken.
        if len(refs) > 1 and (
            place < _PICKED or not cooldowns.is_quiet(target.endpoint.provider_id)
        ):
            refs = _ordered(
                target, standing, is_real and place == 0, is_last_resort, session, strategy
            )
        made.append(Candidate(target, refs))
    return tuple(made)


def _holder_first(
    candidates: tuple[Candidate, ...], holder: tuple[str, str]
) -> tuple[Candidate, ...]:
    """The credential that holds what is gone on from, where it may be used now."""
    if not holder[0] or not candidates:
        return candidates
    first, *others = candidates
    if first.target.endpoint.provider_id != holder[0]:
        return candidates
    refs = sorted(first.credentials, key=lambda ref: ref.id != holder[1])
    return (Candidate(first.target, tuple(refs)), *others)


def _ordered(
    target: Target,
    standing: Standing,
    is_real: bool,
    is_last_resort: bool,
    session: str,
    strategy: str,
) -> tuple[CredentialRef, ...]:
    """Usable credentials, by priority; equals as the strategy has it, which where it says nothing
    means turns by weight. A conversation keeps its own, if it would keep its target."""
    endpoint = target.endpoint
    refs = list(endpoint.credentials)
    if not standing.cooldowns.is_quiet(endpoint.provider_id):
        rests = {
            ref.id: standing.cooldowns.resting(
                endpoint.provider_id, ref.id, target.spec.id, standing.now
            )
            for ref in refs
        }
        if is_last_resort:
            refs = [ref for ref in refs if (rest := rests[ref.id]) and not rest.is_shut]
        else:
            refs = [ref for ref in refs if rests[ref.id] is None]
    if len(refs) < 2:
        return tuple(refs)
    if strategy != "fill-first":
        first = _equals(refs)
        refs = _taking_turns(refs, first, endpoint, standing.turns, is_real, session)
        if not session or strategy not in TAKES_TURNS:
            refs = measured(refs, first, strategy, standing.loads, standing.draw)
    if endpoint.has_weighted_credentials:
        refs.sort(key=lambda ref: is_used_up(ref, standing.now))
    return tuple(refs)


def _equals(refs: Sequence[CredentialRef]) -> int:
    """How many stand where the first one stands."""
    best = (refs[0].step, refs[0].priority)
    return sum((ref.step, ref.priority) == best for ref in refs)


def _taking_turns(
    refs: list[CredentialRef],
    first: int,
    endpoint: Endpoint,
    turns: Turns,
    is_real: bool,
    session: str,
) -> list[CredentialRef]:
    name = endpoint.provider_id
    tier, others = refs[:first], refs[first:]
    if endpoint.has_weighted_credentials:
        by_id = {ref.id: ref for ref in tier}
        weights = {ref.id: weight_of(ref) for ref in tier if ref.weight > 0}
        weights = weights or dict.fromkeys(by_id, 1)
        if session:
            tier.sort(key=lambda ref: rendezvous(session, ref.id, weights.get(ref.id, 0)))
        else:
            tier = [by_id[known] for known in turns.weigh(name, weights, is_real=is_real)]
    else:
        # Not hash(): that differs between processes.
        turn = (
            crc32(session.encode("utf-8", "surrogatepass"))
            if session
            else turns.next(name, is_real=is_real)
        )
        start = turn % first
        tier = [*tier[start:], *tier[:start]]
    return tier + others
