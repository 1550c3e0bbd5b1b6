"""Routing tests as data: what must hold of the routes, written down once and asked again at every
change.

    tests:
      - tenant: acme              # its slug
        model: fast
        needs: [functions, vision]
        prompt_tokens: 2000       # optional, as are the next three
        max_output: 500
        strategy: lowest-price
        goes_to: [anthropic, openai/gpt-5]   # whoever may come first is among these
        never_to: [deepseek]                 # and nobody of these is tried at all
        costs_at_most_usd: 0.02              # at worst, wherever it ends
      - tenant: acme
        model: secret-model
        refused: unknown_model    # or a refusal's code, such as no_vision

The plan is that of a calm day: nothing rests, nobody is busy.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Final

import msgspec
import yaml
from django.conf import settings
from django.db import transaction

from controlplane.kit.errors import FaultKind
from providers.errors import ProviderError
from providers.routing.cooldown import Cooldowns
from providers.routing.loader import load_table
from providers.routing.loads import Loads
from providers.routing.needs import BITS, FEWEST_BYTES_PER_TOKEN, MOST_BYTES_PER_TOKEN, Needs
from providers.routing.plan import Plan, Standing, plan
from providers.routing.strategies import Turns, expected_nanos
from providers.routing.table import RouteTable, Target
from tenants import scope
from tenants.members.models import Tenant

log = logging.getLogger(__name__)

_is_held_back: ContextVar[bool] = ContextVar("is_held_back", default=False)

MOST_BYTES: Final = 1024 * 1024
UNKNOWN_MODEL: Final = "unknown_model"


class BadExpectations(ProviderError):
    """The file cannot be read as routing tests."""

    kind = FaultKind.BAD_REQUEST
    code = "bad_routing_tests"


class ExpectationsBroken(ProviderError):
    """What was about to be saved sends requests where the routing tests forbid it."""

    kind = FaultKind.CONFLICT
    code = "routing_tests_broken"


class Expectation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    tenant: str
    model: str
    needs: tuple[str, ...] = ()
    prompt_tokens: int = 0
    max_output: int = 0
    strategy: str = ""
    goes_to: tuple[str, ...] = ()
    never_to: tuple[str, ...] = ()
    costs_at_most_usd: float | None = None
    refused: str = ""

    def __str__(self) -> str:
        needs = f" with {', '.join(self.needs)}" if self.needs else ""
        return f"{self.tenant} asking {self.model}{needs}"


class _File(msgspec.Struct, forbid_unknown_fields=True):
    tests: tuple[Expectation, ...]


def read(path: Path) -> tuple[Expectation, ...]:
    """Raises BadExpectations in one sentence."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadExpectations(f"{path} cannot be read: {error.strerror}.") from None
    if len(data) > MOST_BYTES:
        raise BadExpectations(f"{path} holds more than {MOST_BYTES} bytes.")
    try:
        found = msgspec.convert(yaml.safe_load(data), _File)
    except (yaml.YAMLError, msgspec.ValidationError, RecursionError) as error:
        raise BadExpectations(f"{path}: {error}") from None
    for each in found.tests:
        unknown = set(each.needs) - BITS.keys()
        if unknown:
            raise BadExpectations(
                f"{path}: there is no need {min(unknown)!r}; there are {', '.join(BITS)}."
            )
    return found.tests


def broken(tests: Iterable[Expectation]) -> list[str]:
    """One sentence for each that does not hold. Reads the tables anew, in any scope."""
    tables: dict[str, RouteTable | None] = {}
    found: list[str] = []
    for each in tests:
        if each.tenant not in tables:
            tables[each.tenant] = _table(each.tenant)
        routes = tables[each.tenant]
        if routes is None:
            found.append(f"{each}: there is no tenant {each.tenant!r}.")
        else:
            found += [f"{each}: {wrong}" for wrong in _wrong(each, routes)]
    return found


def guard() -> None:
    """For whoever changes routes, at the end of the transaction: raises ExpectationsBroken where
    the operator's tests are to block, logs where they are to warn. Without tests it does
    nothing."""
    if not settings.ROUTING_TESTS_FILE or _is_held_back.get():
        return
    wrong = broken(read(Path(settings.ROUTING_TESTS_FILE)))
    if not wrong:
        return
    if settings.ROUTING_TESTS_ON_SAVE == "block":
        raise ExpectationsBroken(
            f"This would break {len(wrong)} of the routing tests. The first: {wrong[0]}"
        )
    log.warning("A change breaks %d of the routing tests. The first: %s", len(wrong), wrong[0])


@contextmanager
def at_the_end() -> Iterator[None]:
    """For many changes that make sense together only: their own guards wait for this one's."""
    token = _is_held_back.set(True)
    try:
        yield
    finally:
        _is_held_back.reset(token)
    guard()


@contextmanager
def guarded() -> Iterator[None]:
    """Around a change whose own action knows nothing of routes: all of it or nothing."""
    if not settings.ROUTING_TESTS_FILE:
        yield
        return
    with transaction.atomic(), at_the_end():
        yield


def _table(slug: str) -> RouteTable | None:
    with scope.platform("routing tests"):
        tenant = Tenant.objects.filter(slug=slug).first()
    return load_table(tenant.id) if tenant is not None else None


def _wrong(each: Expectation, routes: RouteTable) -> list[str]:
    made, firsts = _plans(each, routes)
    if not made.is_known or not made.candidates:
        codes = sorted({entry.code for entry in made.rejected}) or [UNKNOWN_MODEL]
        if not made.is_known:
            codes = [UNKNOWN_MODEL]
        if each.refused in codes:
            return []
        return [f"it is refused ({', '.join(codes)})."]
    if each.refused:
        return [f"it goes to {_name(made.targets[0])}, and should be refused."]
    wrong: list[str] = []
    if each.goes_to:
        astray = [target for target in firsts if not _is_among(target, each.goes_to)]
        if astray:
            wrong.append(f"it goes to {_name(astray[0])}, not to {' or '.join(each.goes_to)}.")
    for target in made.targets:
        if _is_among(target, each.never_to):
            wrong.append(f"it may go to {_name(target)}.")
    if each.costs_at_most_usd is not None:
        for target in made.targets:
            nanos = expected_nanos(target, made.needs)
            if nanos is None:
                wrong.append(f"what {_name(target)} costs is not known.")
            elif nanos > each.costs_at_most_usd * 1e9:
                wrong.append(f"at {_name(target)} it may cost {nanos / 1e9:.4f} dollars.")
    return wrong


def _plans(each: Expectation, routes: RouteTable) -> tuple[Plan, list[Target]]:
    """The plan, and who comes first while equals take their turns."""
    needs = Needs(
        bits=sum(BITS[name] for name in set(each.needs)),
        # As if read from a body of so many tokens, at the same margins.
        fewest_tokens=each.prompt_tokens * FEWEST_BYTES_PER_TOKEN // MOST_BYTES_PER_TOKEN,
        most_tokens=each.prompt_tokens,
        max_output=each.max_output,
    )
    calm = Standing(
        cooldowns=Cooldowns(),
        turns=Turns(),
        loads=Loads(lambda: 0.0),
        draw=lambda _: 0,
        now=0.0,
    )

    def once() -> Plan:
        return plan(
            each.model, routes, lambda _: True, calm, needs=needs, asked_strategy=each.strategy
        )

    made = once()
    others = [once() for _ in range(len(made.candidates) - 1)]
    return made, [turn.candidates[0].target for turn in (made, *others) if turn.candidates]


def _name(target: Target) -> str:
    return f"{target.endpoint.slug}/{target.spec.id}"


def _is_among(target: Target, names: tuple[str, ...]) -> bool:
    return target.endpoint.slug in names or _name(target) in names
