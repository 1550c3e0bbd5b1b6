"""The registry's lists, filters, matrix and cards, and who may see what."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse

from controlplane.kit import clock
from providers.admin_pages.registrations import ProviderPage
from providers.catalog.models import Provider, ProviderModel
from providers.catalog.services import register
from providers.metrics.models import TrafficMinute
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.members.models import Tenant, User
from tenants.members.services import create_tenant
from tests.controlplane.console.registry import (
    ADD,
    CANARY,
    CUSTOM,
    filled,
    furnish,
    in_each_state,
    said,
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


def test_the_filters_answer_the_operators_questions(console: Client, tenant: Tenant) -> None:
    made = in_each_state(tenant)

    def slugs(query: str) -> set[str]:
        rows = console.get(url("changelist") + query).context["cl"].result_list
        return {row.slug for row in rows}

    assert slugs("") == set(made)
    assert slugs("?state=failing") == {"broken"}
    assert slugs("?state=no-credential") == {"keyless"}
    assert slugs("?state=attention") == {"broken"}
    assert slugs("?state=working") == {"works"}
    assert slugs("?state=unchecked") == {"unchecked", "theirs"}
    assert slugs("?state=off") == {"off"}
    assert slugs("?owner=-") == set(made) - {"theirs"}
    assert slugs("?owner=acme") == {"theirs"}
    assert slugs("?q=keyl") == {"keyless"}
    page = console.get(url("changelist"))
    states = {row.slug: row.facts.standing.label for row in page.context["cl"].result_list}
    assert states == {
        "works": "Working",
        "broken": "Failing",
        "keyless": "No credential",
        "unchecked": "Not checked yet",
        "theirs": "Not checked yet",
        "off": "Off",
    }
    assert "Platform, for 1 chosen tenant" in page.content.decode()


def test_many_are_switched_at_once(console: Client, tenant: Tenant) -> None:
    made = in_each_state(tenant)
    chosen = [str(made["works"].pk), str(made["off"].pk)]
    done = console.post(url("changelist"), {"action": "disable_many", "_selected_action": chosen})
    assert (
        said(done)
        == "1 provider switched off; no request uses them now. 1 provider was off before."
    )


def test_registrations_that_cannot_work_say_why_everywhere(console: Client) -> None:
    provider = register(slug="azure", catalog_id="azure", endpoint={"resource": "acme"})
    Provider.objects.filter(pk=provider.pk).update(endpoint={})
    for path in (url("changelist"), url("change", provider)):
        text = console.get(path).content.decode()
        assert "Cannot work" in text
        assert "the base URL" in text
    assert console.get(url("settings", provider)).status_code == 200
    assert console.get(url("capabilities")).status_code == 200


def test_the_matrix_says_what_models_can_do_and_who_says_so(console: Client) -> None:
    register(slug="openai", catalog_id="openai")
    own = register(slug="own", features={"rerank": True}, **CUSTOM)
    ProviderModel.objects.create(provider=own, upstream_id="mine", supports_functions=False)
    Provider.objects.filter(pk=own.pk).update(probed_features={"video": False})
    page = console.get(url("capabilities") + "?provider=own").context
    (line,) = page["lines"]
    cells = {
        name: (cell.answer, cell.source)
        for (name, _), cell in zip(page["features"], line.cells, strict=True)
    }
    assert cells["functions"] == ("no", "model")
    assert cells["rerank"] == ("yes", "provider")
    assert cells["video"] == ("no", "probe")
    assert cells["audio"] == ("unknown", "unknown")
    embeddings = console.get(url("capabilities") + "?can=embeddings").context
    assert embeddings["found"] == len(embeddings["lines"]) > 0
    assert all("embedding" in line.model.kind for line in embeddings["lines"])
    assert console.get(url("capabilities") + "?find=gpt+nano").context["found"] > 0
    nothing = console.get(url("capabilities") + "?can=rerank&provider=openai")
    assert "No model fits" in nothing.content.decode()
    assert console.get(url("capabilities") + "?page=x&can=nonsense").status_code == 200


def test_credentials_have_filters_of_their_own(console: Client, tenant: Tenant) -> None:
    in_each_state(tenant)
    furnish("more", text="fine")

    def labels(query: str) -> set[str]:
        rows = console.get(url("changelist", kind="credential") + query).context["cl"].result_list
        return {row.label for row in rows}

    assert labels("") == {"login", "fine"}
    assert labels("?state=attention") == {"login"}
    assert labels("?state=usable") == {"fine"}
    assert labels("?state=disabled") == labels("?state=expiring") == set()


def test_the_overview_counts_what_needs_somebody(console: Client, tenant: Tenant) -> None:
    in_each_state(tenant)
    cards = {
        card.title: card for card in console.get(reverse("admin:index")).context["overview"].cards
    }
    assert cards["Providers"].figure == "5"
    assert [badge.label for badge in cards["Providers"].badges] == [
        "1 failing now",
        "1 without credential",
    ]
    assert cards["Providers"].url.endswith("?state=failing")
    assert [badge.label for badge in cards["Credentials"].badges] == ["1 needs somebody"]


@pytest.mark.storage
def test_addresses_and_names_that_somebody_typed_are_no_error(
    console: Client, tenant: Tenant
) -> None:
    made = furnish("own", text="mine")
    page = url("change", made.provider)
    for path in (
        *(f"{page}?{query}" for query in ("find=%00", "show=%00", "page=%00", "page=9999999999")),
        *(url("changelist") + f"?{query}" for query in ("q=%00", "owner=%00", "state=%00", "o=x")),
        *(url("changelist", kind="credential") + f"?{query}" for query in ("q=%00", "owner=%00")),
        *(url("capabilities") + f"?{name}=%00" for name in ("find", "provider", "can", "page")),
        *(f"{ADD}?{name}=%00" for name in ("type", "find")),
        url("add", kind="providermodel") + f"?provider={made.provider.pk}&model=%00",
        url("add", kind="credential") + "?provider=%00",
        "/admin/providers/provider/nonsense/settings/",
        "/admin/jobs/job/?kind=%00&state=%00",
        "/admin/tenants/invitation/?tenant=%00",
        "/admin/tenants/invitation/add/?tenant=%00",
    ):
        assert console.get(path).status_code in {200, 302, 404}, path
    odd = {"slug": "\0", "base_url": "\0", "owner": "\0", "secret": "\0", "protocol": "\0"}
    assert console.post(ADD + "?type=custom", odd).context["form"].errors.keys() >= {
        "slug",
        "owner",
    }
    path = url("switch_models", made.provider)
    assert (
        console.post(path, {"model": ["\0", "m\0"], "to": "off", "find": "\0"}).status_code == 302
    )
    sharing = console.post(url("sharing", made.provider), {"with_whom": "chosen", "tenants": "\0"})
    assert sharing.context["form"].errors["tenants"]
    settings = url("settings", made.provider)
    for name in ("name", "headers", "secret_headers", "fallback_notes", "quirks", "prefix"):
        answer = console.post(settings, filled(console.get(settings), **{name: "\0"}))
        assert answer.status_code == 200, name
        assert answer.context["form"].errors, name


def test_who_may_only_look_sees_no_button_that_fails(
    console: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = furnish("own", text="mine")
    monkeypatch.setattr(ProviderPage, "has_change_permission", lambda *_: False)
    text = console.get(url("change", made.provider)).content.decode()
    content = text.partition('id="content"')[2]
    for view in ("settings", "test", "refresh", "disable", "remove", "sharing"):
        assert url(view, made.provider) not in content
        assert console.post(url(view, made.provider), {"confirmed": "yes"}).status_code == 403
    assert url("add", kind="credential") not in content
    assert url("add", kind="providermodel") not in content
    assert url("add", kind="modelmapping") not in content
    assert 'name="to"' not in content
    assert Provider.objects.get().is_enabled


def test_no_page_of_the_registry_shows_a_secret(console: Client) -> None:
    made = furnish("own", text="mine")
    paths = [
        *(url(view, made.provider) for view in ("change", "settings", "remove", "sharing")),
        url("change", made.credential, "credential"),
        url("remove", made.credential, "credential"),
        *(url("changelist", kind=kind) for kind in ("provider", "credential", "providermodel")),
        url("capabilities"),
        reverse("admin:index"),
        reverse("admin:tenants_auditevent_changelist"),
    ]
    for path in paths:
        answer = console.get(path)
        assert answer.status_code == 200, path
        assert CANARY not in answer.content.decode(), path
        assert CANARY[:12] not in answer.content.decode(), path


def test_the_list_tells_the_traffic_of_the_last_hour(console: Client, tenant: Tenant) -> None:
    register(slug="busy", **CUSTOM)
    own = register(slug="busy", tenant_id=tenant.id, **CUSTOM)
    now = clock.now()
    for owner, minutes, requests, succeeded in (
        (tenant, 5, 3, 2),
        (create_tenant(slug="globex", name="Globex"), 5, 2_000, 2_000),
        (tenant, 61, 50, 50),
    ):
        TrafficMinute.objects.create(
            tenant=owner,
            process=f"p{minutes}",
            minute=now - timedelta(minutes=minutes),
            provider="busy",
            model="m",
            requests=requests,
            succeeded=succeeded,
        )
    rows = console.get(url("changelist")).context["cl"].result_list
    told = {row.pk: (row.facts.requests, row.facts.answered) for row in rows}
    assert told[own.pk] == (3, 2)
    assert sorted(told.values()) == [(3, 2), (2_000, 2_000)]
    page = console.get(url("changelist")).content.decode()
    assert "2,000 requests" in page
    assert "1 failed" in page
