"""What outlasts a transaction: who may act, who waits, what is kept, what a dead process left."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.db import connection

from controlplane.kit import clock
from controlplane.kit.secret import Secret
from tenants import scope
from tenants.idempotency import claims
from tenants.idempotency.claims import LEASE, Asked, Claim
from tenants.idempotency.errors import IdempotencyKeyReused
from tenants.idempotency.models import RememberedAnswer
from tenants.idempotency.services import sweep
from tenants.members.models import Tenant

pytestmark = [pytest.mark.storage, pytest.mark.django_db]

DAY = timedelta(hours=24)
SECOND = timedelta(seconds=1)


def asked(
    tenant: Tenant, *, caller: str = "key-1", route: str = "chat", key: str = "k", body: str = "{}"
) -> Asked:
    return claims.asked(
        tenant_id=tenant.id, caller=caller, route=route, key=key, request=body.encode()
    )


def claim(wanted: Asked, now: datetime) -> Claim | Secret | None:
    return claims.claim(asked=wanted, now=now, kept_for=DAY)


def claimed(wanted: Asked, now: datetime) -> Claim:
    found = claim(wanted, now)
    assert isinstance(found, Claim)
    return found


def finish(made: Claim, text: str, now: datetime) -> bool:
    return claims.finish(claim=made, outcome=Secret(text), now=now, kept_for=DAY)


def test_one_acts_the_others_wait_and_are_told(tenant: Tenant) -> None:
    now = clock.now()
    made = claimed(asked(tenant), now)
    assert claim(asked(tenant), now) is None
    assert finish(made, "the outcome", now)
    found = claim(asked(tenant), now)
    assert isinstance(found, Secret)
    assert found.reveal() == "the outcome"
    # Once is once.
    assert not finish(made, "another", now)
    assert not claims.renew(claim=made, now=now)


def test_tenant_caller_route_and_key_make_the_difference(
    tenant: Tenant, other_tenant: Tenant
) -> None:
    now = clock.now()
    wanted = [
        asked(tenant),
        asked(other_tenant),
        asked(tenant, caller="key-2"),
        asked(tenant, route="embeddings"),
        asked(tenant, key="k2"),
        asked(tenant, route="chatk", key="-"),
    ]
    assert len({claimed(one, now).row_id for one in wanted}) == len(wanted)


@pytest.mark.parametrize("is_finished", [False, True])
def test_another_request_under_the_key_is_refused(tenant: Tenant, is_finished: bool) -> None:
    now = clock.now()
    made = claimed(asked(tenant), now)
    if is_finished:
        finish(made, "the outcome", now)
    with pytest.raises(IdempotencyKeyReused):
        claim(asked(tenant, body="[]"), now)


def test_what_was_released_begins_anew_with_any_request(tenant: Tenant) -> None:
    now = clock.now()
    claims.release(claim=claimed(asked(tenant), now))
    claimed(asked(tenant, body="[]"), now)


def test_the_claim_of_a_dead_process_is_taken_over_once(tenant: Tenant) -> None:
    now = clock.now()
    dead = claimed(asked(tenant), now)
    assert claims.renew(claim=dead, now=now + LEASE / 2)
    assert claim(asked(tenant), now + LEASE + SECOND) is None, "it was renewed"
    later = now + 2 * LEASE
    heir = claimed(asked(tenant), later)
    assert claim(asked(tenant), later) is None
    # It was not dead, only away: what it brings counts no more, and it takes nothing away.
    assert not claims.renew(claim=dead, now=later)
    assert not finish(dead, "too late", later)
    claims.release(claim=dead)
    assert finish(heir, "the outcome", later)
    # Still no other request.
    with pytest.raises(IdempotencyKeyReused):
        claim(asked(tenant, body="[]"), later)


def test_after_a_day_it_begins_anew_and_the_sweep_takes_what_is_over(tenant: Tenant) -> None:
    now = clock.now()
    finish(claimed(asked(tenant), now), "the outcome", now)
    assert isinstance(claim(asked(tenant), now + DAY - SECOND), Secret)
    claimed(asked(tenant, body="[]"), now + DAY + SECOND)
    assert sweep(now=now + DAY + 2 * SECOND) == 0
    assert sweep(now=now + 2 * DAY + 2 * SECOND) == 1


def test_rows_hold_neither_key_nor_request_nor_outcome_in_the_clear(tenant: Tenant) -> None:
    now = clock.now()
    made = claimed(asked(tenant, key="canary-key", body="canary-request"), now)
    finish(made, "canary-outcome", now)
    with connection.cursor() as cursor, scope.platform("test"):
        cursor.execute("SELECT * FROM tenants_rememberedanswer")
        columns = [
            bytes(value) for value in cursor.fetchone() if isinstance(value, bytes | memoryview)
        ]
    assert len(columns) >= 3
    assert b"canary" not in b"".join(columns)


def test_another_tenant_neither_ends_nor_takes_it(tenant: Tenant, other_tenant: Tenant) -> None:
    now = clock.now()
    made = claimed(asked(tenant), now)
    theirs = Claim(other_tenant.id, made.row_id, made.token)
    assert not finish(theirs, "stolen", now)
    assert not claims.renew(claim=theirs, now=now)
    claims.release(claim=theirs)
    with scope.tenant(tenant.id):
        row: RememberedAnswer = RememberedAnswer.objects.get()
    assert row.answer is None
    assert row.claim == made.token
