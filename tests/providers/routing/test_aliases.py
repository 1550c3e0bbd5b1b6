"""Aliases and the pools behind them as a service, and what a route table makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.exceptions import ValidationError

from providers.catalog.models import Provider
from providers.catalog.services import register
from providers.routing.aliases import (
    AliasTaken,
    BadPool,
    PoolEntry,
    change_alias,
    create_alias,
    enable_alias,
    pool_of,
    remove_alias,
)
from providers.routing.loader import load_table
from providers.routing.models import Alias, AliasTarget
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.audit.models import AuditEvent
from tenants.errors import StaleVersion
from tenants.members.models import Tenant
from tenants.revisions.services import current

pytestmark = [pytest.mark.storage, pytest.mark.django_db]


@pytest.fixture(autouse=True)
def operator(db: None) -> Iterator[None]:
    with acting_as("command", None, "tests"), scope.platform("tests"):
        yield


@pytest.fixture
def local(operator: None) -> Provider:
    return register(
        slug="local", protocol="openai-completions", base_url="http://127.0.0.1:1", auth_type="none"
    )


def test_one_alias_names_several_models_in_order(local: Provider, tenant: Tenant) -> None:
    from providers.catalog.services import add_model

    for name in ("a", "b", "c"):
        add_model(provider=local, upstream_id=name)
    alias = create_alias(
        name="fast", targets=[PoolEntry("b", local), PoolEntry("a"), PoolEntry("c", local)]
    )
    served = load_table(tenant.id).targets["fast"]
    assert [target.spec.id for target in served] == ["b", "a", "c"]
    change_alias(alias, targets=[PoolEntry("c", local)])
    assert [target.spec.id for target in load_table(tenant.id).targets["fast"]] == ["c"]
    assert enable_alias(alias, is_enabled=False)
    assert not enable_alias(alias, is_enabled=False)
    assert "fast" not in load_table(tenant.id).targets


def test_a_tenants_alias_may_stand_for_one_of_the_platforms(
    local: Provider, tenant: Tenant
) -> None:
    from providers.catalog.services import add_model

    add_model(provider=local, upstream_id="a")
    create_alias(name="fast", targets=[PoolEntry("a", local)])
    with scope.tenant(tenant.id):
        create_alias(name="ours", targets=[PoolEntry("fast")], tenant_id=tenant.id)
    table = load_table(tenant.id)
    assert [target.spec.id for target in table.targets["ours"]] == ["a"]
    with scope.tenant(tenant.id), pytest.raises(BadPool, match="pool of 'ours' names 'fast'"):
        create_alias(name="fast", targets=[PoolEntry("fast")], tenant_id=tenant.id)


def test_there_are_no_loops(local: Provider) -> None:
    create_alias(name="one", targets=[PoolEntry("a")])
    with pytest.raises(BadPool, match="'one' is an alias itself"):
        create_alias(name="two", targets=[PoolEntry("one")])
    with pytest.raises(BadPool, match="pool of 'one' names 'a'"):
        create_alias(name="a", targets=[PoolEntry("b")])
    # Its own name is the model's: an alias may keep a name and add others behind it.
    create_alias(name="b", targets=[PoolEntry("b"), PoolEntry("c")])
    other = create_alias(name="d", targets=[PoolEntry("one", local)])
    with pytest.raises(BadPool):
        change_alias(other, targets=[PoolEntry("b")])
    with pytest.raises(BadPool):
        change_alias(other, name="a")


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        ([], "at least one"),
        ([PoolEntry("a"), PoolEntry("a")], "twice"),
        ([PoolEntry(f"m{number}") for number in range(51)], "at most 50"),
    ],
)
def test_a_pool_that_could_not_serve_is_refused(targets: list[PoolEntry], said: str) -> None:
    with pytest.raises(BadPool, match=said):
        create_alias(name="fast", targets=targets)
    assert not Alias.objects.exists()


def test_names_are_taken_once_per_owner_and_must_be_names(tenant: Tenant) -> None:
    create_alias(name="fast", targets=[PoolEntry("a")])
    create_alias(name="fast", targets=[PoolEntry("a")], tenant_id=tenant.id)
    for owner in (None, tenant.id):
        with pytest.raises(AliasTaken):
            create_alias(name="fast", targets=[PoolEntry("a")], tenant_id=owner)
    other = create_alias(name="slow", targets=[PoolEntry("a")])
    with pytest.raises(AliasTaken):
        change_alias(other, name="fast")
    for bad in ("", " fast", "a\nb", "x" * 300):
        with pytest.raises(ValidationError):
            create_alias(name=bad, targets=[PoolEntry("a")])
    with pytest.raises(ValidationError):
        create_alias(name="other", targets=[PoolEntry("a\nb")])


def test_a_pool_names_no_registration_of_another_tenant(
    tenant: Tenant, other_tenant: Tenant
) -> None:
    theirs = register(
        slug="own",
        tenant_id=other_tenant.id,
        protocol="openai-completions",
        base_url="https://a.example.com",
    )
    for owner in (None, tenant.id):
        with pytest.raises(BadPool, match="no others"):
            create_alias(name="fast", targets=[PoolEntry("m", theirs)], tenant_id=owner)
    create_alias(name="fast", targets=[PoolEntry("m", theirs)], tenant_id=other_tenant.id)


def test_changes_are_recorded_heard_and_never_lost(local: Provider) -> None:
    alias = create_alias(name="fast", targets=[PoolEntry("a", local)])
    stale = Alias.objects.get()
    heard = [current()["routes"]]
    change_alias(alias, is_reported_as_alias=True)
    heard.append(current()["routes"])
    with pytest.raises(StaleVersion):
        change_alias(stale, name="other")
    assert [str(entry) for entry in pool_of(alias)] == ["local/a"]
    remove_alias(alias)
    heard.append(current()["routes"])
    assert heard == sorted(set(heard))
    assert not AliasTarget.objects.exists()
    events: list[Any] = list(AuditEvent.objects.order_by("sequence"))[1:]
    assert [event.action for event in events] == [
        "alias.created",
        "alias.changed",
        "alias.removed",
    ]
    assert events[1].after == {"is_reported_as_alias": True}
