"""Any order of enqueues, claims, ends, crashes and late returns: the rows follow a small model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    rule,
    run_state_machine_as_test,
)

from controlplane.kit.jobs import services
from controlplane.kit.jobs.errors import GiveUp
from controlplane.kit.jobs.models import Job
from controlplane.kit.jobs.registry import Handler
from controlplane.kit.jobs.services import Claim

from .conftest import LEASE, START

KEYS = ("a", "b", "c")
MAX_ATTEMPTS = 3


@dataclass(frozen=True)
class Expected:
    """What the model knows of one row."""

    key: str
    state: str
    due_at: datetime
    attempts: int = 0
    owner: str = ""
    lease_until: datetime | None = None
    finished_at: datetime | None = None

    def can_be_claimed(self, now: datetime) -> bool:
        if self.state == "waiting":
            return self.due_at <= now
        return self.is_expired(now) and self.attempts < MAX_ATTEMPTS

    def is_expired(self, now: datetime) -> bool:
        return self.state == "running" and self.lease_until is not None and self.lease_until <= now


class Jobs(RuleBasedStateMachine):
    claims = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        Job.objects.all().delete()
        self.now = START
        self.rows: dict[UUID, Expected] = {}
        self.finishes: dict[UUID, int] = {}

    def _is_owner(self, claim: Claim) -> bool:
        row = self.rows[claim.job_id]
        return row.state == "running" and row.owner == claim.owner

    def _ended(self, claim: Claim, accepted: bool, **changes: object) -> None:
        assert accepted == self._is_owner(claim)
        if accepted:
            row = replace(self.rows[claim.job_id], owner="", lease_until=None, **changes)  # type: ignore[arg-type]
            self.rows[claim.job_id] = row
            self.finishes[claim.job_id] = self.finishes.get(claim.job_id, 0) + (
                row.finished_at is not None
            )

    @rule(seconds=st.sampled_from([0, 1, 10, 59, 60, 61, 600]))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(key=st.sampled_from(KEYS), delay=st.sampled_from([0, 30]))
    def enqueue(self, key: str, delay: int) -> None:
        due_at = self.now + timedelta(seconds=delay)
        is_free = not any(row.key == key and row.finished_at is None for row in self.rows.values())
        assert services.enqueue(kind="test.note", key=key, args={}, due_at=due_at) == is_free
        if is_free:
            job = Job.objects.get(key=key, finished_at=None)
            self.rows[job.pk] = Expected(key, "waiting", due_at)

    @rule(target=claims, data=st.data())
    def claim(self, data: st.DataObject) -> Claim | None:
        if not self.rows:
            return None
        job_id = data.draw(st.sampled_from(sorted(self.rows)))
        row = self.rows[job_id]
        claim = services.claim(job_id=job_id, now=self.now)
        assert (claim is not None) == row.can_be_claimed(self.now)
        if claim is not None:
            assert claim.owner not in {other.owner for other in self.rows.values()}
            self.rows[job_id] = replace(
                row,
                state="running",
                attempts=row.attempts + 1,
                owner=claim.owner,
                lease_until=self.now + LEASE,
            )
        return claim

    # A claim is not consumed: whoever held one may come back any time, also twice.

    @rule(claim=claims)
    def finish(self, claim: Claim | None) -> None:
        if claim is not None:
            accepted = services.finish(claim=claim, now=self.now)
            self._ended(claim, accepted, state="done", finished_at=self.now)

    @rule(claim=claims)
    def give_up(self, claim: Claim | None) -> None:
        if claim is not None:
            accepted = services.give_up(claim=claim, error=GiveUp("enough"), now=self.now)
            self._ended(claim, accepted, state="given_up", finished_at=self.now)

    @rule(claim=claims, seconds=st.sampled_from([0, 5]))
    def run_again(self, claim: Claim | None, seconds: int) -> None:
        if claim is not None:
            due_at = self.now + timedelta(seconds=seconds)
            accepted = services.run_again(claim=claim, due_at=due_at)
            self._ended(claim, accepted, state="waiting", due_at=due_at, attempts=0)

    @rule(claim=claims)
    def fail(self, claim: Claim | None) -> None:
        if claim is None:
            return
        accepted = services.retry(claim=claim, error=RuntimeError(), now=self.now)
        if claim.attempts >= MAX_ATTEMPTS:
            self._ended(claim, accepted, state="given_up", finished_at=self.now)
        else:
            due_at = Job.objects.get(pk=claim.job_id).due_at
            self._ended(claim, accepted, state="waiting", due_at=due_at)
            if accepted:
                assert due_at > self.now

    @rule(claim=consumes(claims))
    def crash(self, claim: Claim | None) -> None:
        """Never heard of again: only the lease says so."""

    @rule()
    def sweep(self) -> None:
        exhausted = {
            job_id: row
            for job_id, row in self.rows.items()
            if row.is_expired(self.now) and row.attempts >= MAX_ATTEMPTS
        }
        assert services.give_up_exhausted(now=self.now) == len(exhausted)
        for job_id, row in exhausted.items():
            self.rows[job_id] = replace(
                row, state="given_up", finished_at=self.now, owner="", lease_until=None
            )
            self.finishes[job_id] = self.finishes.get(job_id, 0) + 1

    @invariant()
    def rows_are_as_expected(self) -> None:
        actual = {
            job.pk: Expected(
                job.key,
                job.state,
                job.due_at,
                job.attempts,
                job.lease_owner,
                job.lease_until,
                job.finished_at,
            )
            for job in Job.objects.all()
        }
        assert actual == self.rows

    @invariant()
    def nothing_finishes_twice(self) -> None:
        assert all(count <= 1 for count in self.finishes.values())

    @invariant()
    def what_may_be_claimed_is_offered(self) -> None:
        offered = Job.objects.next_ids(now=self.now, kinds=["test.note"], limit=1000)
        expected = [job_id for job_id, row in self.rows.items() if row.can_be_claimed(self.now)]
        assert sorted(offered) == sorted(expected)


@pytest.mark.storage
@pytest.mark.django_db
def test_any_order_of_events(handlers: dict[str, Handler]) -> None:
    assert handlers["test.note"].max_attempts == MAX_ATTEMPTS
    run_state_machine_as_test(
        Jobs,
        settings=settings(
            max_examples=60,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
