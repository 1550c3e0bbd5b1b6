"""Bar T2: tenant-owned rows raise where no scope is active, and show no other tenant's."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.admin import ModelAdmin, site
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, connections, models, transaction
from django.db.models import Count
from django.forms import modelform_factory
from django.test import RequestFactory

from tenants import row_security, scope
from tenants.errors import NoScope
from tenants.keys.models import ApiKey
from tenants.members.models import Membership, Tenant, User
from tenants.vault.models import DataKey
from tests.patience import LONG_SECONDS

pytestmark = [pytest.mark.storage, pytest.mark.django_db]


def make_key(tenant: Tenant, label: str, **fields: Any) -> ApiKey:
    key = ApiKey(
        tenant=tenant,
        label=label,
        public_id=uuid.uuid4().hex[:12],
        digest=uuid.uuid4().bytes * 2,
        pepper_name="test",
        **fields,
    )
    with scope.tenant(tenant.id):
        key.save(force_insert=True)
    return key


@pytest.fixture
def mine(tenant: Tenant) -> ApiKey:
    return make_key(tenant, "mine")


@pytest.fixture
def theirs(other_tenant: Tenant) -> ApiKey:
    return make_key(other_tenant, "theirs")


@pytest.fixture(autouse=True)
def _rows(mine: ApiKey, theirs: ApiKey) -> None:
    """Every test has a row on each side of the wall."""


# --- Without a scope -----------------------------------------------------------------------------

READS: dict[str, Callable[[ApiKey], Any]] = {
    "all": lambda key: list(ApiKey.objects.all()),
    "get": lambda key: ApiKey.objects.get(pk=key.pk),
    "filter.first": lambda key: ApiKey.objects.filter(label="mine").first(),
    "count": lambda key: ApiKey.objects.count(),
    "exists": lambda key: ApiKey.objects.filter(pk=key.pk).exists(),
    "aggregate": lambda key: ApiKey.objects.aggregate(n=Count("id")),
    "values": lambda key: list(ApiKey.objects.values("label")),
    "values_list": lambda key: list(ApiKey.objects.values_list("label", flat=True)),
    "in_bulk": lambda key: ApiKey.objects.in_bulk([key.pk]),
    "iterator": lambda key: list(ApiKey.objects.iterator()),
    "select_related": lambda key: list(ApiKey.objects.select_related("tenant", "member")),
    "dates": lambda key: list(ApiKey.objects.datetimes("created_at", "day")),
    "union": lambda key: list(ApiKey.objects.all().union(ApiKey.objects.all())),
    "subquery": lambda key: list(Tenant.objects.filter(pk__in=ApiKey.objects.values("tenant_id"))),
    "raw": lambda key: list(ApiKey.objects.raw("SELECT * FROM tenants_apikey")),
    "base manager": lambda key: list(ApiKey._base_manager.all()),
    "default manager": lambda key: list(ApiKey._default_manager.all()),
    "bare queryset": lambda key: list(models.QuerySet(model=ApiKey)),
    "join from another model": lambda key: list(User.objects.filter(memberships__role="owner")),
    "related manager": lambda key: list(User(email="x@y.test").memberships.all()),
    "refresh": lambda key: key.refresh_from_db(),
    "cursor": lambda key: connection.cursor().execute("SELECT label FROM tenants_apikey"),
}
WRITES: dict[str, Callable[[ApiKey], Any]] = {
    "save": lambda key: key.save(),
    "save_base": lambda key: key.save_base(raw=True),
    "delete": lambda key: key.delete(),
    "create": lambda key: Membership.objects.create(tenant=key.tenant, user_id=uuid.uuid4()),
    "get_or_create": lambda key: Membership.objects.get_or_create(
        tenant=key.tenant, user_id=uuid.uuid4()
    ),
    "bulk_create": lambda key: Membership.objects.bulk_create(
        [Membership(tenant=key.tenant, user_id=uuid.uuid4())]
    ),
    "bulk_update": lambda key: ApiKey.objects.bulk_update([key], ["label"]),
    "queryset update": lambda key: ApiKey.objects.update(label="changed"),
    "queryset delete": lambda key: ApiKey.objects.all().delete(),
    "cascade": lambda key: Tenant.objects.filter(pk=key.tenant_id).delete(),
    "cursor": lambda key: connection.cursor().execute("DELETE FROM tenants_apikey"),
}


@pytest.mark.parametrize("use", [*READS.values(), *WRITES.values()], ids=[*READS, *WRITES])
def test_without_a_scope_everything_raises(use: Callable[[ApiKey], Any], mine: ApiKey) -> None:
    with pytest.raises(NoScope), transaction.atomic():
        use(mine)
    with scope.platform("test"):
        assert ApiKey.objects.count() == 2


def test_a_queryset_can_be_built_early_and_asks_when_it_runs(
    tenant: Tenant, other_tenant: Tenant
) -> None:
    early = ApiKey.objects.order_by("label")
    form = modelform_factory(ApiKey, fields=["member"])  # builds querysets at import
    with scope.platform("test"):
        assert [key.label for key in early.all()] == ["mine", "theirs"]
        everything = ApiKey.objects.all()
    with scope.tenant(tenant.id):
        assert [key.label for key in early.all()] == ["mine"]
        assert [key.label for key in everything] == ["mine"], "built as platform, run as tenant"
        assert not form().fields["member"].queryset.exists()
    with scope.tenant(other_tenant.id):
        assert [key.label for key in early.all()] == ["theirs"]


# --- As a tenant ---------------------------------------------------------------------------------


@pytest.fixture
def inside(tenant: Tenant) -> Iterator[Tenant]:
    with scope.tenant(tenant.id):
        yield tenant


def test_reads_show_only_ones_own(inside: Tenant, mine: ApiKey, theirs: ApiKey) -> None:
    assert list(ApiKey.objects.all()) == [mine]
    assert list(ApiKey._base_manager.all()) == [mine]
    assert ApiKey.objects.count() == 1
    assert ApiKey.objects.aggregate(n=Count("id")) == {"n": 1}
    assert ApiKey.objects.in_bulk([mine.pk, theirs.pk]) == {mine.pk: mine}
    assert not ApiKey.objects.filter(pk=theirs.pk).exists()
    assert list(ApiKey.objects.exclude(label="mine")) == []
    assert list(ApiKey.objects.filter(label="mine") | ApiKey.objects.filter(label="theirs")) == [
        mine
    ]
    assert list(Tenant.objects.filter(pk__in=ApiKey.objects.values("tenant_id"))) == [inside]
    with pytest.raises(ApiKey.DoesNotExist):
        ApiKey.objects.get(pk=theirs.pk)
    with pytest.raises(ApiKey.DoesNotExist):
        theirs.refresh_from_db()
    with pytest.raises(NoScope):
        ApiKey.objects.raw("SELECT * FROM tenants_apikey")


def test_writes_reach_only_ones_own(inside: Tenant, mine: ApiKey, theirs: ApiKey) -> None:
    assert ApiKey.objects.update(label="changed") == 1
    assert ApiKey.objects.filter(pk__in=[mine.pk, theirs.pk]).update(label="again") == 1
    theirs.label = "stolen"
    ApiKey.objects.bulk_update([theirs], ["label"])
    assert ApiKey.objects.all().delete()[1] == {"tenants.ApiKey": 1}
    with scope.platform("test"):
        assert [key.label for key in ApiKey.objects.all()] == ["theirs"]


@pytest.mark.parametrize(
    "write",
    {
        "save": lambda key: key.save(),
        "save_base": lambda key: key.save_base(raw=True, force_insert=True),
        "delete": lambda key: key.delete(),
        "create": lambda key: Membership.objects.create(
            tenant_id=key.tenant_id, user_id=uuid.uuid4()
        ),
        "bulk_create": lambda key: ApiKey.objects.bulk_create([key]),
        "update_or_create": lambda key: Membership.objects.update_or_create(
            tenant_id=key.tenant_id, user_id=uuid.uuid4(), defaults={"role": "owner"}
        ),
    }.items(),
    ids=lambda pair: pair[0],
)
def test_anothers_row_cannot_be_written(
    write: tuple[str, Callable[[ApiKey], Any]], inside: Tenant, theirs: ApiKey
) -> None:
    with pytest.raises(NoScope), transaction.atomic():
        write[1](theirs)


def test_a_row_cannot_move_to_another_tenant(
    inside: Tenant, other_tenant: Tenant, mine: ApiKey
) -> None:
    with pytest.raises(NoScope):
        ApiKey.objects.update(tenant=other_tenant)
    with pytest.raises(NoScope):
        ApiKey.objects.update(tenant_id=other_tenant.id)
    mine.tenant = other_tenant
    with pytest.raises(NoScope):
        mine.save()
    with pytest.raises(NoScope), transaction.atomic():
        mine.save_base()
    with pytest.raises(NoScope), transaction.atomic():
        ApiKey.objects.bulk_update([mine], ["tenant"])


def test_an_upsert_cannot_meet_anothers_row(inside: Tenant, mine: ApiKey, theirs: ApiKey) -> None:
    copy = ApiKey(
        pk=theirs.pk, tenant=inside, label="stolen", public_id="x", digest=b"x", pepper_name="x"
    )
    with pytest.raises(NoScope), transaction.atomic():
        ApiKey.objects.bulk_create(
            [copy], update_conflicts=True, unique_fields=["id"], update_fields=["label"]
        )
    with pytest.raises(IntegrityError), transaction.atomic():
        ApiKey.objects.bulk_create([copy])


def test_related_rows_of_another_tenant_cannot_be_loaded(
    tenant: Tenant, other_tenant: Tenant, mine: ApiKey, user: User
) -> None:
    """A foreign key that points across (a bug elsewhere) shows nothing of the other side."""
    with scope.platform("test"):
        foreign = Membership.objects.create(tenant=other_tenant, user=user)
        ApiKey.objects.filter(pk=mine.pk).update(member=foreign)
    with scope.tenant(tenant.id):
        assert [m.tenant_id for m in user.memberships.all()] == [tenant.id]
        loaded = ApiKey.objects.get(pk=mine.pk)
        with pytest.raises(Membership.DoesNotExist):
            _ = loaded.member
        with pytest.raises(ValidationError):
            loaded.full_clean()
        try:
            joined = ApiKey.objects.select_related("member").get(pk=mine.pk)
        except NoScope:
            pass  # the join found the row, loading it was refused
        else:  # row-level security hid it from the join
            assert connection.vendor == "postgresql"
            assert joined.member is None


def test_the_console_lists_only_the_scopes_rows(inside: Tenant, mine: ApiKey) -> None:
    request = RequestFactory().get("/")
    assert list(ModelAdmin(ApiKey, site).get_queryset(request)) == [mine]


def test_deferred_columns_load_in_scope_only(inside: Tenant, other_tenant: Tenant) -> None:
    key = ApiKey.objects.only("id").get()
    assert key.label == "mine"
    bare = ApiKey.objects.only("id").get()
    with scope.tenant(other_tenant.id), pytest.raises(ApiKey.DoesNotExist):
        _ = bare.label


# --- Rows of the platform ------------------------------------------------------------------------


@pytest.fixture
def data_keys(tenant: Tenant, other_tenant: Tenant) -> dict[str, DataKey]:
    with scope.platform("test"):
        return {
            name: DataKey.objects.create(tenant=owner, wrapped=name.encode(), wrapped_by=name)
            for name, owner in (("platform", None), ("mine", tenant), ("theirs", other_tenant))
        }


def names() -> list[str]:
    return sorted(DataKey.objects.values_list("wrapped_by", flat=True))


def test_the_platforms_rows_show_to_the_platform_only(
    inside: Tenant, data_keys: dict[str, DataKey]
) -> None:
    assert names() == ["mine"]
    with pytest.raises(NoScope):
        data_keys["platform"].save()
    with pytest.raises(NoScope), transaction.atomic():
        DataKey.objects.create(tenant=None, wrapped=b"x", wrapped_by="x")
    with scope.platform("test"):
        assert names() == ["mine", "platform", "theirs"]


def test_rows_that_the_platform_shows_to_all_can_be_read_and_not_written(
    inside: Tenant, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setattr(DataKey, "shows_platform_rows", True)
    row_security.apply(connection)
    platform = request.getfixturevalue("data_keys")["platform"]
    assert names() == ["mine", "platform"]
    assert {key.wrapped_by for key in DataKey.objects.all()} == {"mine", "platform"}
    assert DataKey.objects.get(pk=platform.pk) == platform
    assert DataKey.objects.exclude(wrapped_by="mine").get() == platform
    # Writing reaches only one's own.
    assert DataKey.objects.update(seals_estimate=7) == 1
    assert DataKey.objects.filter(pk=platform.pk).update(seals_estimate=7) == 0
    assert DataKey.objects.filter(pk=platform.pk).delete()[0] == 0
    platform.seals_estimate = 7
    assert DataKey.objects.bulk_update([platform], ["seals_estimate"]) == 0
    for write in (platform.save, platform.delete):
        with pytest.raises(NoScope):
            write()
    with pytest.raises(NoScope):
        DataKey.objects.update(tenant=None)
    with pytest.raises(NoScope), transaction.atomic():
        platform.save_base(force_insert=True)
    assert DataKey.objects.all().delete()[0] == 1
    with scope.platform("test"):
        assert list(
            DataKey.objects.order_by("wrapped_by").values_list("wrapped_by", "seals_estimate")
        ) == [("platform", 0), ("theirs", 0)]


# --- The scope itself ----------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [None, "", "0190c2f0-0000-7000-8000-000000000000", 7])
def test_a_missing_id_never_widens_the_scope(wrong: Any) -> None:
    with pytest.raises(TypeError), scope.tenant(wrong):
        pytest.fail("entered")
    with pytest.raises(ValueError), scope.platform(""):
        pytest.fail("entered")
    assert scope.current() is None


def test_scopes_nest_and_end_with_an_exception(tenant: Tenant, other_tenant: Tenant) -> None:
    with scope.tenant(tenant.id):
        with pytest.raises(ZeroDivisionError), scope.platform("test"):
            _ = 1 / 0
        with scope.tenant(other_tenant.id):
            assert [key.label for key in ApiKey.objects.all()] == ["theirs"]
        assert [key.label for key in ApiKey.objects.all()] == ["mine"]
    assert scope.current() is None


def test_a_thread_starts_without_a_scope(inside: Tenant) -> None:
    seen: list[Any] = []

    def look() -> None:
        seen.append(scope.current())
        try:
            ApiKey.objects.count()
        except NoScope as error:
            seen.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=look)
    thread.start()
    thread.join(LONG_SECONDS)
    assert seen[0] is None
    assert isinstance(seen[1], NoScope)


@pytest.mark.django_db(transaction=True)  # the database thread is another than the fixtures'
async def test_two_hundred_interleaved_tasks_see_only_their_own() -> None:
    """Part of bar T3: tasks of two tenants take turns on one loop and one database thread."""
    tenants = [
        await Tenant.objects.acreate(slug=f"turn-{name}", name=name) for name in ("one", "two")
    ]
    for tenant in tenants:
        await sync_to_async(make_key)(tenant, tenant.slug)
    turn = asyncio.Event()
    wrong: list[Any] = []

    async def task(tenant: Tenant) -> None:
        with scope.tenant(tenant.id):
            await turn.wait()
            for _ in range(3):
                labels = [key.label async for key in ApiKey.objects.all()]
                await asyncio.sleep(0)
                hopped = await sync_to_async(lambda: list(ApiKey.objects.values_list("label")))()
                inside = scope.current()
                if labels != [tenant.slug] or hopped != [(tenant.slug,)]:
                    wrong.append((tenant.slug, labels, hopped))
                if inside is None or inside.tenant_id != tenant.id:
                    wrong.append((tenant.slug, inside))

    tasks = [asyncio.create_task(task(tenants[n % 2])) for n in range(200)]
    turn.set()
    await asyncio.gather(*tasks)
    await sync_to_async(connections.close_all)()
    assert wrong == []
    assert scope.current() is None
    assert contextvars.copy_context().run(scope.current) is None
