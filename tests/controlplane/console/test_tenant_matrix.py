"""Bar T1 for the console: every registered view × every method × everybody who is not platform
staff. A view without a row fails; only staff get in; foreign and missing rows answer alike."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import URLPattern, URLResolver, reverse
from django.urls.resolvers import get_resolver

from controlplane.console.pages import Page
from tenants import scope
from tenants.alerts.kinds import AlertKind
from tenants.alerts.models import Alert, AlertDelivery, AlertReceiver
from tenants.alerts.receivers import create_receiver
from tenants.alerts.services import alert
from tenants.audit.actor import acting_as
from tenants.audit.models import AuditEvent
from tenants.keys import services as keys
from tenants.keys.models import ApiKey
from tenants.members.invitations import invite
from tenants.members.models import Invitation, Membership, Tenant, User
from tenants.quotas.services import change_policy, create_limit
from tenants.usage.models import UsageEvent
from tests.ledger import spend

pytestmark = pytest.mark.django_db

FORM = "application/x-www-form-urlencoded"
METHODS = ("get", "head", "options", "post", "put", "patch", "delete", "trace")

# The site's own views. Open ones say why: everything else is for platform staff.
SITE = {
    "index",
    "search",
    "password_change",
    "password_change_done",
    "autocomplete",
    "jsi18n",
    "view_on_site",
    "app_list",
    "logout",
}
OPEN = {"login": "leads to the sign-in page", "catch_all": "adds a slash, or 404"}
# What each page has besides Django's five; a new view of a page adds its name here.
ROW_VIEWS = {"change", "history", "delete"}
LIST_VIEWS = {"changelist", "add"}
EXTRA_LIST_VIEWS = {"tenants_usageevent": {"spending", "statement"}}
EXTRA_ROW_VIEWS = {
    "tenants_apikey": {"rotate", "revoke_one"},
    "tenants_user": {"one_time_password"},
    "tenants_invitation": {"withdraw"},
    "tenants_limit": {"remove"},
    "tenants_alertreceiver": {"test", "rotate", "remove"},
}
PAGES = {
    *("tenants_tenant", "tenants_user", "tenants_apikey", "tenants_auditevent"),
    *("tenants_invitation", "tenants_limit", "tenants_usageevent"),
    *("tenants_alert", "tenants_alertreceiver", "tenants_usagepolicy"),
}


def admin_patterns() -> Iterator[URLPattern]:
    def walk(patterns: list[URLPattern | URLResolver]) -> Iterator[URLPattern]:
        for pattern in patterns:
            if isinstance(pattern, URLResolver):
                yield from walk(pattern.url_patterns)
            else:
                yield pattern

    resolver = next(
        entry
        for entry in get_resolver().url_patterns
        if isinstance(entry, URLResolver) and entry.namespace == "admin"
    )
    yield from walk(resolver.url_patterns)


def of_this_matrix(name: str) -> bool:
    """Pages of other layers have a matrix of their own beside their tests."""
    return name.startswith("tenants_") or name in {*SITE, *OPEN} or not name


def expected_names() -> set[str]:
    rows = {f"{page}_{view}" for page in PAGES for view in ROW_VIEWS | LIST_VIEWS}
    more = [*EXTRA_LIST_VIEWS.items(), *EXTRA_ROW_VIEWS.items()]
    return rows | {f"{page}_{view}" for page, views in more for view in views}


def test_every_view_of_the_console_has_a_row() -> None:
    found = {pattern.name or "" for pattern in admin_patterns()}
    unknown = {name for name in found if of_this_matrix(name)} - {"", *SITE, *OPEN}
    assert unknown == expected_names()


def test_every_page_is_built_on_ours() -> None:
    for model, page in admin.site._registry.items():
        assert isinstance(page, Page), model


@pytest.fixture
def rows(tenant: Tenant, user: User) -> dict[str, str]:
    """A row of each page, all of `tenant`."""
    with scope.platform("test"), acting_as("command", None, "tests"):
        key, _ = keys.create_key(tenant=tenant, label="theirs")
        invitation, _ = invite(tenant=tenant, email="theirs@acme.test", role="viewer")
        event = AuditEvent.objects.order_by("-sequence").first()
        assert event is not None
        limit = create_limit(
            tenant=tenant,
            is_platform_set=True,
            scope_kind="tenant",
            kind="money",
            period="month",
            amount=10,
        )
        receiver, _ = create_receiver(
            tenant=tenant, label="theirs", channel="webhook", address="https://theirs.test/hook"
        )
        alert(AlertKind.QUOTA, tenant_id=tenant.id, key="theirs", title="theirs", text="theirs")
        spend(tenant, 5)
        policy = change_policy(tenant=tenant, version=1, mark_up=1500)
        return {
            "tenants_usagepolicy": str(policy.pk),
            "tenants_limit": str(limit.pk),
            "tenants_alert": str(Alert.objects.get().pk),
            "tenants_alertreceiver": str(receiver.pk),
            "tenants_usageevent": str(UsageEvent.objects.get().pk),
            "tenants_tenant": str(tenant.pk),
            "tenants_user": str(user.pk),
            "tenants_apikey": str(key.pk),
            "tenants_auditevent": str(event.pk),
            "tenants_invitation": str(invitation.pk),
        }


def paths(rows: dict[str, str]) -> Iterator[tuple[str, str]]:
    for name in sorted(SITE):
        match name:
            case "app_list":
                yield name, reverse("admin:app_list", args=["tenants"])
            case "view_on_site":
                yield name, reverse("admin:view_on_site", args=[1, 1])
            case "autocomplete":
                query = "?app_label=tenants&model_name=apikey&field_name=tenant&term=a"
                yield name, reverse("admin:autocomplete") + query
            case _:
                yield name, reverse(f"admin:{name}")
    for page, row in rows.items():
        for view in sorted(LIST_VIEWS | EXTRA_LIST_VIEWS.get(page, set())):
            yield f"{page}_{view}", reverse(f"admin:{page}_{view}")
        for view in sorted(ROW_VIEWS | EXTRA_ROW_VIEWS.get(page, set())):
            yield f"{page}_{view}", reverse(f"admin:{page}_{view}", args=[row])


@pytest.fixture(params=["owner", "admin", "member", "viewer", "other tenant's admin", "anonymous"])
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


def test_nobody_but_platform_staff_gets_in(outsider: Client, rows: dict[str, str]) -> None:
    before = everything()
    is_anonymous = "_auth_user_id" not in outsider.session
    wrong = []
    for name, path in paths(rows):
        for method in METHODS:
            answer = outsider.generic(method.upper(), path, b"confirmed=yes", FORM)
            location = answer.headers.get("Location", "")
            # Who is not signed in has nothing to leave: logout leads to the front door.
            door = reverse("admin:index") if name == "logout" else reverse("admin:login")
            is_sent_away = answer.status_code == 302 and location.startswith(door)
            is_refused = is_sent_away if is_anonymous else answer.status_code == 403
            if not is_refused or b"theirs" in answer.content or b"Acme" in answer.content:
                wrong.append((method, name, answer.status_code, location))
    assert not wrong
    assert everything() == before


def test_foreign_and_missing_rows_answer_alike(outsider: Client, rows: dict[str, str]) -> None:
    for page, row in rows.items():
        for view in ROW_VIEWS | EXTRA_ROW_VIEWS.get(page, set()):
            for method in ("GET", "POST"):
                there = outsider.generic(method, reverse(f"admin:{page}_{view}", args=[row]))
                missing = uuid.uuid4()
                away = outsider.generic(method, reverse(f"admin:{page}_{view}", args=[missing]))
                assert there.status_code == away.status_code
                assert there.content == away.content or b"csrfmiddlewaretoken" in there.content


@pytest.mark.storage
def test_platform_staff_get_in_everywhere(staff: User, rows: dict[str, str]) -> None:
    client = Client()
    client.force_login(staff)
    refused = []
    for name, path in paths(rows):
        answer = client.get(path)
        # Some pages are not offered (a trail has no form to add to it): 403, 404, 405.
        trails = ("auditevent_add", "usageevent_add", "alert_add", "_delete")
        not_offered = name.endswith(trails) or name in {
            "search",
            "view_on_site",
            "logout",
        }
        if answer.status_code not in ({200, 302} if not not_offered else {403, 404, 405}):
            refused.append((name, answer.status_code))
    assert not refused


@pytest.mark.storage
def test_staff_without_a_session_scope_cannot_leak_into_the_next_request(
    staff: User, rows: dict[str, str]
) -> None:
    client = Client()
    client.force_login(staff)
    client.get(reverse("admin:tenants_apikey_changelist"))
    assert scope.current() is None


def everything() -> list[object]:
    with scope.platform("test"):
        return [
            list(model._base_manager.order_by("pk").values())
            for model in (
                *(Tenant, Membership, ApiKey, AuditEvent, Invitation),
                *(Alert, AlertDelivery, AlertReceiver),
            )
        ] + [list(User.objects.order_by("pk").values("pk", "email", "password", "is_active"))]
