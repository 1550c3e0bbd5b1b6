"""A new registration in the console: filled in from the catalog, and what is refused stands at its
field."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.test import Client

from providers.admin_pages.new import ENDPOINT, NewProviderForm
from providers.catalog.loader import catalog
from providers.catalog.models import Provider
from providers.catalog.services import register
from providers.credentials.models import Credential
from providers.credentials.sources import unsealed
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.audit.models import AuditEvent
from tenants.members.models import Tenant, User
from tests.controlplane.console.registry import (
    ADD,
    CANARY,
    CUSTOM,
    filled,
    url,
)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _platform() -> Iterator[None]:
    with scope.platform("test"), acting_as("command", None, "tests"):
        yield


@pytest.fixture
def console(staff: User) -> Client:
    client = Client(REMOTE_ADDR="192.0.2.5")
    client.force_login(staff)
    return client


def test_a_provider_of_the_catalog_is_registered_with_its_key_in_one_step(
    console: Client, staff: User
) -> None:
    assert b"?type=openai" in console.get(ADD).content
    found = console.get(ADD + "?find=open+ai").context["groups"]
    assert {entry.id for group in found for entry in group.entries} >= {"openai", "azure"}
    page = console.get(ADD + "?type=openai")
    assert page.context["form"]["slug"].value() == "openai"
    assert b"https://api.openai.com/v1" in page.content
    made = console.post(ADD + "?type=openai", filled(page, secret=f" {CANARY}\n"))
    provider = Provider.objects.get()
    assert made.headers["Location"] == url("change", provider)
    assert (provider.catalog_id, provider.name, provider.base_url) == ("openai", "OpenAI", "")
    credential = Credential.objects.get()
    assert unsealed(credential).reveal() == CANARY
    events = AuditEvent.objects.filter(actor_label=staff.email).values_list("action", "address")
    assert sorted(events) == [
        ("credential.stored", "192.0.2.5"),
        ("provider.registered", "192.0.2.5"),
    ]
    # A second one of the kind is offered a name that is free.
    assert console.get(ADD + "?type=openai").context["form"]["slug"].value() == "openai-2"


def test_a_provider_of_ones_own_may_belong_to_a_tenant(console: Client, tenant: Tenant) -> None:
    form = {"slug": "vllm", **CUSTOM, "auth_type": "none", "owner": "acme"}
    assert console.post(ADD + "?type=custom", form).status_code == 302
    provider = Provider.objects.get()
    assert (provider.tenant_id, provider.auth_type) == (tenant.pk, "none")


@pytest.mark.parametrize(
    ("kind", "changes", "field", "told"),
    [
        ("custom", {"protocol": ""}, "protocol", "This field is required"),
        ("custom", {"base_url": ""}, "base_url", "This field is required"),
        ("custom", {"base_url": "ftp://a.example.com"}, "base_url", "write it like https://"),
        ("custom", {"base_url": "https://u:p@a.example.com"}, "base_url", "name or password"),
        (
            "custom",
            {"base_url": "https://169.254.169.254/v1", "owner": "acme"},
            "base_url",
            "private or reserved",
        ),
        ("custom", {"slug": "Not a slug"}, "slug", "lower-case letters"),
        ("custom", {"slug": "taken"}, "slug", "There is a registration"),
        ("custom", {"auth_type": "none"}, "auth_type", "none would be sent"),
        ("ollama", {"auth_type": ""}, "auth_type", "none would be sent"),
        ("custom", {"owner": "nobody"}, "owner", "no tenant"),
        ("custom", {"secret": "two\nlines"}, "secret", "one line of visible ASCII"),
        ("azure", {ENDPOINT + "resource": ""}, ENDPOINT + "resource", "This field is required"),
        (
            "azure",
            {ENDPOINT + "resource": "evil.example/#"},
            ENDPOINT + "resource",
            "another way",
        ),
        ("cloudflare", {}, "__all__", "Workers"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_is_refused_stands_at_its_field_and_nothing_is_made(
    console: Client, tenant: Tenant, kind: str, changes: dict[str, str], field: str, told: str
) -> None:
    register(slug="taken", **CUSTOM)
    good = {"slug": "fresh", "auth_type": "api_key", "secret": CANARY}
    if kind == "custom":
        good |= CUSTOM
    if kind == "azure":
        good |= {ENDPOINT + "resource": "acme", "auth_type": ""}
    answer = console.post(f"{ADD}?type={kind}", {**good, **changes})
    assert answer.status_code == 200
    form = answer.context["form"]
    assert list(form.errors) == [field]
    assert told in " ".join(form.errors[field])
    assert CANARY not in answer.content.decode()
    assert [row.slug for row in Provider.objects.all()] == ["taken"]
    assert not Credential.objects.exists()


def test_every_provider_of_the_catalog_has_a_form() -> None:
    for file in catalog().values():
        form = NewProviderForm(file=file)
        shown = [field.name for shown in form.shown_sections() for field in shown.fields]
        assert sorted(shown) == sorted(form.fields), file.id
        assert {ENDPOINT + name for name in file.auth.identifiers} <= set(shown)
        assert form["slug"].value() == file.id


def test_an_unknown_type_leads_back_to_the_shelf(console: Client) -> None:
    page = console.get(ADD + "?type=nonsense")
    assert "The catalog has no “nonsense”" in page.content.decode()
    assert "nothing like" in console.get(ADD + "?find=xyzzy").content.decode()
