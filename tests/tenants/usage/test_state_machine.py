"""Any order of begin, try, settle, leave, crash, late end and refund keeps every promise."""

from __future__ import annotations

import time
import uuid
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from tenants import scope
from tenants.audit.actor import acting_as
from tenants.errors import NotFound, StateConflict
from tenants.members.models import Tenant
from tenants.quotas.models import Counter, Limit
from tenants.quotas.policy import Amounts
from tenants.quotas.snapshot import rule_of
from tenants.usage import leases
from tenants.usage.corrections import correct
from tenants.usage.group import Begin, Group, Settle
from tenants.usage.models import Hold, UsageEvent
from tenants.usage.outcome import Held, HeldTake, Outcome, TargetFacts
from tenants.usage.verify import verify
from tenants.usage.writing import Part

pytestmark = [pytest.mark.storage, pytest.mark.django_db(transaction=True)]

COUNTS = st.one_of(st.none(), st.integers(-5, 60), st.just(float("nan")), st.just(10**20))


class Metered(RuleBasedStateMachine):
    """Two processes, a tenant with three limits, and whatever may happen."""

    open_requests = Bundle("open_requests")
    lost_requests = Bundle("lost_requests")
    tenant: Tenant
    limits: list[Limit]

    def __init__(self) -> None:
        super().__init__()
        with scope.platform("tests"):
            self.tenant = Tenant.objects.create(slug=f"t-{uuid.uuid4().hex[:12]}", name="T")
            self.limits = [
                Limit.objects.create(
                    tenant=self.tenant, scope_kind="tenant", kind=kind, period=period, amount=amount
                )
                for kind, period, amount in (
                    ("tokens", "total", 400),
                    ("parallel", "none", 3),
                    ("money", "total", 5_000),
                )
            ]
        self.rules = [rule_of(limit, "UTC") for limit in self.limits]
        self.groups = [Group(), Group()]
        # The first process is alive for ever, the second says nothing: its holds may be taken.
        leases.renew(self.groups[0].process_id, "first", lease_seconds=10**6)
        self.running = 0
        self.admitted: list[str] = []

    @rule(
        target=open_requests,
        process=st.integers(0, 1),
        tokens=st.lists(st.integers(0, 90), min_size=1, max_size=4),
    )
    def begin(self, process: int, tokens: list[int]) -> Any:
        """Some requests in one group."""
        begins = []
        for count in tokens:
            amounts = Amounts(1, count, 0, 10 * count, 10 * count)
            takes = [one.take("", amounts, time.time()) for one in self.rules]
            held = Held(
                request_id=uuid.uuid4().hex,
                tenant_id=self.tenant.id,
                taken_at=time.time(),
                model="m",
                expected_input=count,
                expected_nanos=10 * count,
                takes=[
                    HeldTake(take.key, take.amount, take.ends_at, one.kind, one.scope)
                    for take, one in zip(takes, self.rules, strict=True)
                ],
            )
            begins.append(Begin(uuid.uuid4(), held, takes))
        self.groups[process].execute(list(begins))
        granted = []
        for begin in begins:
            assert begin.error is None
            assert begin.decision is not None
            if begin.decision.refused is None:
                granted.append((process, begin.hold_id, begin.held))
                self.running += 1
        assert self.running <= 3, "more at the same time than allowed"
        return multiple(*granted)

    @rule(
        request=consumes(open_requests), given=COUNTS, made=COUNTS, cost=COUNTS, again=st.booleans()
    )
    def settle(self, request: Any, given: Any, made: Any, cost: Any, again: bool) -> None:
        process, hold_id, held = request
        for _ in range(2 if again else 1):
            outcome = Outcome(input=given, output=made, cost_nanos=cost)
            part = Part(outcome, TargetFacts(provider="acme", model="m"), held.takes)
            operation = Settle(hold_id, held, [part])
            self.groups[process].execute([operation])
            assert operation.error is None
        self.running -= 1
        self.admitted.append(held.request_id)

    @rule(request=consumes(open_requests))
    def leave_unsent(self, request: Any) -> None:
        process, hold_id, held = request
        self.groups[process].execute([Settle(hold_id, held)])
        self.running -= 1

    @rule(
        target=lost_requests,
        requests=st.lists(consumes(open_requests), max_size=4),
    )
    def crash(self, requests: list[Any]) -> Any:
        """The second process is silent: what it holds is settled by somebody else. The first's
        requests go on, which is why they are settled here at once."""
        lost = []
        for process, hold_id, held in requests:
            if process == 1:
                lost.append((process, hold_id, held))
            else:
                self.groups[0].execute([Settle(hold_id, held)])
                self.running -= 1
        return multiple(*lost)

    @rule()
    def somebody_looks_after_the_dead(self) -> None:
        with scope.platform("tests"):
            before = Hold.objects.count()
            leases.settle_abandoned(now=time.time())
            self.running -= before - Hold.objects.count()

    @rule(request=consumes(lost_requests), given=COUNTS)
    def end_after_all(self, request: Any, given: Any) -> None:
        process, hold_id, held = request
        with scope.platform("tests"):
            was_there = Hold.objects.filter(pk=hold_id).exists()
        part = Part(Outcome(input=given, output=1, cost_nanos=5), None, held.takes)
        self.groups[process].execute([Settle(hold_id, held, [part])])
        if was_there:
            self.running -= 1

    @rule(share=st.integers(-120, 120), which=st.integers(0, 50))
    def refund(self, share: int, which: int) -> None:
        if not self.admitted:
            return
        request_id = self.admitted[which % len(self.admitted)]
        with scope.tenant(self.tenant.id), acting_as("command", None, "tests"):
            try:
                correct(
                    tenant=self.tenant, request_id=request_id, charge_nanos=share, reason="refund"
                )
            except (NotFound, StateConflict):
                return

    @invariant()
    def everything_adds_up(self) -> None:
        with scope.platform("tests"):
            assert Hold.objects.filter(tenant_id=self.tenant.id).count() <= 3
            assert verify().findings == []
            for event in UsageEvent.objects.filter(tenant_id=self.tenant.id, entry="usage"):
                for name in ("input", "output", "cost_nanos", "charge_nanos"):
                    value = getattr(event, name)
                    assert value is None or value >= 0
            mine = [one.id.hex for one in self.limits]
            for counter in Counter.objects.all():
                if counter.key.partition(":")[0] in mine:
                    assert counter.reserved >= 0
                    assert counter.settled >= 0

    def teardown(self) -> None:
        with scope.platform("tests"):
            leases.settle_abandoned(now=time.time() + 10**7)
            assert not Hold.objects.exists()
            for counter in Counter.objects.all():
                assert counter.reserved == 0


def machine(examples: int, steps: int) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]  # untyped
        Metered,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_any_order_of_events_keeps_every_promise() -> None:
    machine(examples=6, steps=12)


@pytest.mark.soak
def test_any_order_of_many_events_keeps_every_promise() -> None:
    machine(examples=200, steps=50)
