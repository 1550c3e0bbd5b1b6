"""What happens to a key is written where its page shows it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from django.test import Client
from django.urls import reverse

from controlplane.kit.secret import Secret
from providers.catalog import services as registry
from providers.credentials import services, timeline
from providers.credentials.models import Credential
from providers.routing.cooldown import Rest
from providers.routing.sharing import tell
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.members.models import Tenant, User

pytestmark = [pytest.mark.storage, pytest.mark.django_db]


@pytest.fixture(autouse=True)
def operator(db: None) -> Iterator[None]:
    with acting_as("command", None, "tests"), scope.platform("tests"):
        yield


@pytest.fixture
def credential(tenant: Tenant) -> Credential:
    provider = registry.register(
        slug="acme-llm",
        tenant_id=tenant.id,
        protocol="openai-completions",
        base_url="https://llm.example.com/v1",
    )
    return services.add_credential(provider=provider, label="one", secret=Secret("sk-one"))


def kinds(credential: Credential) -> list[tuple[str, str]]:
    return [(event.kind, event.state) for event in timeline.events_of(credential)]


def test_a_keys_life(credential: Credential) -> None:
    services.refuse_credential(
        str(credential.pk), version=credential.version, reason="It said 401."
    )
    credential.refresh_from_db()
    services.change_credential(credential, secret=Secret("sk-two"))
    services.disable_credential(credential)
    services.disable_credential(credential)
    services.change_credential(credential, label="other")
    assert kinds(credential) == [
        ("issued", "active"),
        ("refused", "needs_login"),
        ("issued", "active"),
        ("state", "disabled"),
    ]


def test_a_rest_is_a_line_and_not_at_each_prolongation(credential: Credential) -> None:
    place = (str(credential.provider_id), str(credential.pk), "m")
    now = time.time()
    for seconds in (30, 60):
        tell({place: Rest(until=now + seconds, since=now, outcome="rate")})
    tell({(place[0], "", ""): Rest(until=now + 30, since=now, outcome="network")})
    assert kinds(credential) == [("issued", "active"), ("cooldown", "active")]
    tell({place: None})
    tell({place: Rest(until=now + 90, since=now, outcome="rate")})
    assert len(kinds(credential)) == 3


def test_the_page_shows_it_as_a_strip_and_in_words(credential: Credential, staff: User) -> None:
    services.refuse_credential(
        str(credential.pk), version=credential.version, reason="<b>It said 401.</b>"
    )
    client = Client()
    client.force_login(staff)
    page = client.get(reverse("admin:providers_credential_change", args=[credential.pk]))
    text = page.content.decode()
    assert '<svg class="timeline"' in text
    assert 'aria-labelledby="timeline-title"' in text
    assert "needs_login since " in text
    assert "&lt;b&gt;It said 401.&lt;/b&gt;" in text
    assert "<b>It said 401.</b>" not in text
    assert "style=" not in text[text.index('<svg class="timeline"') : text.index("</svg>")]
