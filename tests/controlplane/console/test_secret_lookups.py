"""Bar T4 for the console: no way to ask about secret columns by filter, search, order or
autocomplete; nothing is exported; and no page shows what a secret column holds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.contrib import admin
from django.core.exceptions import FieldDoesNotExist
from django.db.models import Model
from django.test import Client
from django.urls import reverse

from controlplane.console.pages import Page, ReadOnlyPage, is_secret
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.keys import services as keys
from tenants.keys.models import ApiKey
from tenants.members.models import Tenant, User
from tenants.vault.fields import SealedField, sealed_columns

pytestmark = pytest.mark.django_db


def pages() -> Iterator[Page]:
    yield from admin.site._registry.values()  # type: ignore[misc]  # ours: see the tenant matrix


def columns(model: type[Model]) -> Iterator[str]:
    for field in model._meta.get_fields():
        if getattr(field, "concrete", False):
            yield field.name


LOOKUPS = [
    (User, "password"),
    (User, "password__startswith"),
    (User, "sealed_factors__sealed"),
    (ApiKey, "digest"),
    (ApiKey, "digest__gt"),
    (ApiKey, "member__user__password__startswith"),
    (ApiKey, "rotated_from__digest__gt"),
]


@pytest.mark.parametrize(("model", "lookup"), LOOKUPS)
def test_asking_about_a_secret_is_refused(
    staff: User, client: Client, model: type[Model], lookup: str
) -> None:
    assert is_secret(model, lookup)
    client.force_login(staff)
    path = reverse(f"admin:tenants_{model._meta.model_name}_changelist")
    assert client.get(path, {lookup: "a"}).status_code == 400


def test_every_sealed_column_counts_as_secret() -> None:
    for column in sealed_columns():
        assert is_secret(column.model, column.field), column


def test_only_what_a_list_offers_can_be_asked_for(staff: User, client: Client) -> None:
    client.force_login(staff)
    wrong = []
    for page in pages():
        path = reverse(f"admin:{page.opts.app_label}_{page.opts.model_name}_changelist")
        offered = {entry for entry in page.list_filter if isinstance(entry, str)}
        for column in columns(page.model):
            answer = client.get(path, {f"{column}__isnull": "0"})
            if (answer.status_code == 400) == (column in offered):
                wrong.append((path, column, answer.status_code))
    assert not wrong


def test_no_page_lists_searches_sorts_or_completes_by_a_secret() -> None:
    for page in pages():
        named = [*page.search_fields, *page.list_display, *page.readonly_fields]
        named += [entry for entry in page.list_filter if isinstance(entry, str)]
        named += [*(page.ordering or ()), *page.autocomplete_fields]
        for name in named:
            lookup = str(name).lstrip("-=^@")
            assert not is_secret(page.model, lookup), (page, name)
        for name in page.list_display:
            method = getattr(page, str(name), None)
            order = getattr(method, "admin_order_field", None)
            assert order is None or not is_secret(page.model, str(order).lstrip("-"))


def test_ordering_by_a_column_that_is_not_shown_changes_nothing(
    staff: User, client: Client, tenant: Tenant
) -> None:
    client.force_login(staff)
    for order in ("password", "-password", "99", "-99", "digest", "1.password", "--1", "x"):
        answer = client.get(reverse("admin:tenants_user_changelist"), {"o": order})
        assert answer.status_code == 200
        sql = str(answer.context["cl"].queryset.query)
        assert "ORDER BY" in sql
        assert "password" not in sql.split("ORDER BY")[1]


def test_autocomplete_answers_names_and_nothing_else(
    staff: User, client: Client, tenant: Tenant
) -> None:
    client.force_login(staff)
    path = reverse("admin:autocomplete")
    asked = {"app_label": "tenants", "model_name": "apikey", "field_name": "tenant"}
    assert client.get(path, {**asked, "term": "acm"}).json()["results"] == [
        {"id": str(tenant.pk), "text": "acme"}
    ]
    for field in ("digest", "member", "rotated_from", "id", "nothing"):
        answer = client.get(path, {**asked, "field_name": field, "term": "a"})
        assert answer.status_code == 403, field


def test_searching_a_digest_or_a_password_finds_nothing(
    staff: User, client: Client, tenant: Tenant
) -> None:
    client.force_login(staff)
    with scope.platform("test"), acting_as("command", None, "tests"):
        key, _ = keys.create_key(tenant=tenant, label="one")
    for path, text in (
        ("tenants_apikey", bytes(key.digest).hex()),
        ("tenants_user", staff.password),
        ("tenants_user", staff.password[:12]),
    ):
        answer = client.get(reverse(f"admin:{path}_changelist"), {"q": text})
        assert answer.context["cl"].result_count == 0


def test_nothing_can_be_looked_up_by_another_column(
    staff: User, client: Client, tenant: Tenant
) -> None:
    client.force_login(staff)
    path = reverse("admin:tenants_user_change", args=[staff.pk])
    for field in ("password", "email", "id"):
        assert client.get(path, {"_to_field": field}).status_code in {200, 400}
    by_mail = reverse("admin:tenants_user_change", args=[staff.email])
    assert client.get(by_mail, {"_to_field": "email"}).status_code in {302, 400}


def test_no_page_shows_or_takes_a_secret_column() -> None:
    for page in pages():
        form = page.form
        for name in getattr(form, "base_fields", {}):
            try:
                field = page.model._meta.get_field(name)
            except FieldDoesNotExist:
                continue
            assert not isinstance(field, SealedField), (page, name)
            assert not is_secret(page.model, name), (page, name)


def test_a_trail_offers_no_action() -> None:
    trails = [page for page in pages() if isinstance(page, ReadOnlyPage)]
    assert trails
    for page in trails:
        assert page.get_actions(None) == {}  # type: ignore[arg-type]  # asks nothing of it


def test_pages_hold_no_digest_and_no_password(
    staff: User, client: Client, tenant: Tenant, user: User
) -> None:
    client.force_login(staff)
    with scope.platform("test"), acting_as("command", None, "tests"):
        key, token = keys.create_key(tenant=tenant, label="one")
    secrets = [
        token.reveal(),
        token.reveal()[-20:],
        bytes(key.digest).hex(),
        key.pepper_name,
        user.password,
        user.password.split("$")[-1],
    ]
    for path in (
        reverse("admin:tenants_apikey_changelist"),
        reverse("admin:tenants_apikey_change", args=[key.pk]),
        reverse("admin:tenants_user_changelist"),
        reverse("admin:tenants_user_change", args=[user.pk]),
        reverse("admin:tenants_tenant_change", args=[tenant.pk]),
        reverse("admin:tenants_auditevent_changelist"),
        reverse("admin:index"),
    ):
        page = client.get(path).content.decode()
        assert not [secret for secret in secrets if secret in page], path
