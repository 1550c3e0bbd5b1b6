"""Once per key: what is kept, for whom, and what never is."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest

from controlplane.kit import clock
from controlplane.kit.jobs.registry import find
from controlplane.kit.secret import Secret
from tenants import scope as scopes
from tenants.idempotency.errors import IdempotencyKeyReused
from tenants.idempotency.models import RememberedAnswer
from tenants.idempotency.services import KEPT_FOR, once, sweep
from tenants.members.models import Tenant
from tenants.vault.errors import CannotUnseal

pytestmark = [pytest.mark.storage, pytest.mark.django_db]


class Effect:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> Secret:
        self.count += 1
        return Secret(f"answer {self.count} ключ")


def ask(
    effect: Effect,
    tenant_id: UUID | None,
    *,
    caller: str = "user:1",
    key: str = "k",
    request: bytes = b"POST /x {}",
    later: timedelta = timedelta(0),
) -> tuple[str, bool]:
    at = scopes.tenant(tenant_id) if tenant_id is not None else scopes.platform("test")
    with at:
        answer, is_replayed = once(
            tenant_id=tenant_id,
            caller=caller,
            key=key,
            request=request,
            now=clock.now() + later,
            act=effect,
        )
    return answer.reveal(), is_replayed


@pytest.mark.parametrize("is_platform", [False, True])
def test_once(tenant: Tenant, is_platform: bool) -> None:
    effect = Effect()
    owner = None if is_platform else tenant.id
    assert ask(effect, owner) == ("answer 1 ключ", False)
    assert ask(effect, owner) == ("answer 1 ключ", True)
    assert effect.count == 1


def test_owner_caller_and_key_make_the_difference(tenant: Tenant, other_tenant: Tenant) -> None:
    effect = Effect()
    answers = [
        ask(effect, tenant.id),
        ask(effect, other_tenant.id),
        ask(effect, None),
        ask(effect, tenant.id, caller="user:2"),
        ask(effect, tenant.id, caller="user:1k", key=""),
        ask(effect, tenant.id, key="k2"),
    ]
    assert not any(is_replayed for _, is_replayed in answers)
    assert effect.count == len(answers)


def test_another_request_under_the_key_is_refused_and_has_no_effect(tenant: Tenant) -> None:
    effect = Effect()
    ask(effect, tenant.id)
    with pytest.raises(IdempotencyKeyReused):
        ask(effect, tenant.id, request=b"POST /y {}")
    assert effect.count == 1


def test_what_raises_leaves_nothing(tenant: Tenant) -> None:
    def fail() -> Secret:
        raise RuntimeError

    with scopes.tenant(tenant.id), pytest.raises(RuntimeError):
        once(tenant_id=tenant.id, caller="c", key="k", request=b"", now=clock.now(), act=fail)
    with scopes.platform("test"):
        assert not RememberedAnswer.objects.exists()


def test_rows_hold_no_key_no_request_and_a_sealed_answer_bound_to_them(tenant: Tenant) -> None:
    ask(Effect(), tenant.id, key="canary-key", request=b"canary-request")
    ask(Effect(), tenant.id, key="other")
    with scopes.tenant(tenant.id):
        first, second = RememberedAnswer.objects.order_by("pk")
        for row in (first, second):
            columns = b"".join(
                bytes(getattr(row, name)) for name in ("digest", "request_digest", "answer")
            )
            assert b"canary" not in columns
            assert b"answer" not in columns
        # Swapped between rows, it opens nowhere.
        RememberedAnswer.objects.filter(pk=first.pk).update(answer=second.answer)
    with pytest.raises(CannotUnseal):
        ask(Effect(), tenant.id, key="canary-key", request=b"canary-request")


def test_after_a_day_it_begins_anew_and_the_sweep_takes_what_is_over(tenant: Tenant) -> None:
    effect = Effect()
    ask(effect, tenant.id)
    assert ask(effect, tenant.id, later=KEPT_FOR - timedelta(seconds=5))[1] is True
    assert ask(effect, tenant.id, later=KEPT_FOR + timedelta(seconds=5))[1] is False
    ask(effect, None)
    now = clock.now()
    assert sweep(now=now) == 0
    assert sweep(now=now + KEPT_FOR + timedelta(seconds=1)) == 1
    assert sweep(now=now + 2 * KEPT_FOR + timedelta(seconds=10)) == 1


def test_the_sweep_is_a_recurring_job() -> None:
    job = find("idempotency.sweep")
    assert job.every is not None
    assert job.every <= timedelta(hours=1)


def test_a_tenants_remembered_answers_go_with_it(tenant: Tenant, other_tenant: Tenant) -> None:
    ask(Effect(), tenant.id)
    ask(Effect(), other_tenant.id)
    with scopes.platform("test"):
        tenant.delete()
        assert [row.tenant_id for row in RememberedAnswer.objects.all()] == [other_tenant.id]
