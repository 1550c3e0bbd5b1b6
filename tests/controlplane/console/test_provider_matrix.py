"""Bar T1 for the registry's pages: every view × every method × everybody who is not platform staff.
A view without a row fails; only staff get in; foreign and missing rows answer alike."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from django.test import Client
from django.urls import reverse

from providers.catalog.models import (
    ModelMapping,
    Provider,
    ProviderModel,
    ProviderShare,
    RegistryPolicy,
)
from providers.catalog.policy import own_policy, set_policy
from providers.credentials.models import Credential
from providers.health.models import ProviderCheck
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.members.models import Membership, Tenant, User
from tests.controlplane.console.registry import CANARY, furnish
from tests.controlplane.console.test_tenant_matrix import FORM, METHODS, admin_patterns

pytestmark = pytest.mark.django_db

ROW_VIEWS = {"change", "history", "delete"}
LIST_VIEWS = {"changelist", "add"}
# What each page has besides Django's five; a new view of a page adds its name here.
EXTRA_ROW_VIEWS: dict[str, set[str]] = {
    "providers_provider": {
        *("settings", "sharing", "test", "refresh", "enable", "disable", "remove"),
        *("switch_models", "default_mappings"),
    },
    "providers_credential": {"test", "enable", "disable", "remove"},
    "providers_providermodel": {"remove"},
    "providers_modelmapping": {"remove"},
    "providers_registrypolicy": set(),
}
EXTRA_LIST_VIEWS = {"providers_provider": {"capabilities"}}
PAGES = tuple(EXTRA_ROW_VIEWS)


def row_views(page: str) -> list[str]:
    return sorted(ROW_VIEWS | EXTRA_ROW_VIEWS[page])


def list_views(page: str) -> list[str]:
    return sorted(LIST_VIEWS | EXTRA_LIST_VIEWS.get(page, set()))


def test_every_view_of_the_registry_has_a_row() -> None:
    found = {pattern.name or "" for pattern in admin_patterns()}
    of_pages = {name for name in found if name.rpartition("_")[0].startswith(PAGES)}
    of_pages |= {name for name in found if name.startswith(tuple(f"{page}_" for page in PAGES))}
    assert of_pages == {
        f"{page}_{view}" for page in PAGES for view in (*row_views(page), *list_views(page))
    }


@pytest.fixture
def rows(tenant: Tenant) -> dict[str, str]:
    """A row of each page, all of `tenant`."""
    made = furnish("theirs", tenant)
    with scope.platform("test"), acting_as("command", None, "tests"):
        policy = set_policy(own_policy(tenant.pk), allows_own_keys=True)
    return {
        "providers_provider": str(made.provider.pk),
        "providers_credential": str(made.credential.pk),
        "providers_providermodel": str(made.model.pk),
        "providers_modelmapping": str(made.mapping.pk),
        "providers_registrypolicy": str(policy.pk),
    }


def paths(rows: dict[str, str]) -> Iterator[tuple[str, str]]:
    for page, row in rows.items():
        for view in list_views(page):
            query = ""
            if view == "add":
                query = "?type=custom" if page == PAGES[0] else f"?provider={rows[PAGES[0]]}"
            yield f"{page}_{view}", reverse(f"admin:{page}_{view}") + query
        for view in row_views(page):
            yield f"{page}_{view}", reverse(f"admin:{page}_{view}", args=[row])


@pytest.fixture(params=["owner", "viewer", "other tenant's admin", "anonymous"])
def outsider(request: pytest.FixtureRequest, tenant: Tenant, other_tenant: Tenant) -> Client:
    """Everybody whom the console must keep out: also the tenant's own people."""
    client = Client()
    if request.param == "anonymous":
        return client
    person = User.objects.create_user("outsider@a.test", "correct horse battery")
    is_other = request.param == "other tenant's admin"
    home = other_tenant if is_other else tenant
    with scope.tenant(home.id):
        Membership.objects.create(
            tenant=home, user=person, role="admin" if is_other else request.param
        )
    client.force_login(person)
    return client


def everything() -> list[object]:
    models = (
        *(Provider, Credential, ProviderModel, ModelMapping, ProviderShare, ProviderCheck),
        RegistryPolicy,
    )
    with scope.platform("test"):
        return [list(model._base_manager.order_by("pk").values()) for model in models]


def test_nobody_but_platform_staff_gets_in(outsider: Client, rows: dict[str, str]) -> None:
    before = everything()
    is_anonymous = "_auth_user_id" not in outsider.session
    wrong = []
    for name, path in paths(rows):
        for method in METHODS:
            answer = outsider.generic(method.upper(), path, b"confirmed=yes&to=off", FORM)
            is_sent_away = answer.headers.get("Location", "").startswith(reverse("admin:login"))
            is_refused = is_sent_away if is_anonymous else answer.status_code == 403
            if not is_refused or b"theirs" in answer.content:
                wrong.append((method, name, answer.status_code))
    assert not wrong
    assert everything() == before


def test_foreign_and_missing_rows_answer_alike(outsider: Client, rows: dict[str, str]) -> None:
    for page, row in rows.items():
        for view in row_views(page):
            for method in ("GET", "POST"):
                there, away = (
                    outsider.generic(method, reverse(f"admin:{page}_{view}", args=[pk]))
                    for pk in (row, uuid.uuid4())
                )
                assert there.status_code == away.status_code
                assert there.content == away.content or b"csrfmiddlewaretoken" in there.content


@pytest.mark.storage
def test_platform_staff_get_in_everywhere_and_looking_changes_nothing(
    staff: User, rows: dict[str, str]
) -> None:
    client = Client()
    client.force_login(staff)
    before = everything()
    for name, path in paths(rows):
        answer = client.get(path)
        # Rows go by a page of their own that says what goes with them.
        allowed = {403} if name.endswith("_delete") else {200, 302}
        assert answer.status_code in allowed, name
        assert CANARY.encode() not in answer.content, name
    assert everything() == before


def test_what_is_not_there_is_not_found(staff: User, rows: dict[str, str]) -> None:
    client = Client()
    client.force_login(staff)
    for page in rows:
        for view in EXTRA_ROW_VIEWS[page]:
            for method in ("GET", "POST"):
                missing = reverse(f"admin:{page}_{view}", args=[uuid.uuid4()])
                assert client.generic(method, missing).status_code == 404, (page, view)


def test_a_change_without_the_csrf_token_is_refused(staff: User, rows: dict[str, str]) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(staff)
    before = everything()
    for name, path in paths(rows):
        answer = client.post(path, {"confirmed": "yes", "to": "off"})
        assert answer.status_code == 403, name
    assert everything() == before
