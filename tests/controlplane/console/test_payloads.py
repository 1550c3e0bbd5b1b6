"""Bar W2 without a browser: every payload, in every text of every page, comes out as text. The
browser runs the same ones in tests/journeys."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from django.test import Client
from django.urls import reverse

from tenants import scope
from tenants.audit.actor import acting_as
from tenants.keys import services as keys
from tenants.members import people
from tenants.members import services as members
from tenants.members.models import User
from tests.controlplane.console.payloads import PAYLOADS

pytestmark = pytest.mark.django_db


class Found(HTMLParser):
    """What a browser would build: elements and attributes, not the text between them."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[str, tuple[str, ...]]] = []
        self.active: list[str] = []
        self.in_script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.shapes.append((tag, tuple(sorted(name for name, _ in attrs))))
        self.in_script = tag == "script"
        for name, value in attrs:
            text = value or ""
            is_code = name.startswith(("on", "x-", "@", ":", "hx-")) or name == "style"
            is_link = name in {"href", "src", "action", "formaction", "data", "srcdoc"}
            if "pwned" in text and (
                is_code or (is_link and text.strip().lower().startswith("javascript:"))
            ):
                self.active.append(f"{tag} {name}={text}")

    def handle_endtag(self, tag: str) -> None:
        self.in_script = False

    def handle_data(self, data: str) -> None:
        if self.in_script and "pwned" in data:
            self.active.append(data)


def parsed(page: str) -> Found:
    found = Found()
    found.feed(page)
    return found


Rows = dict[str, str]


@pytest.fixture
def rows(staff: User) -> dict[str, Rows]:
    """One tenant, key and person per payload, and one of each that is harmless."""
    made: dict[str, Rows] = {}
    for number, name in enumerate(("harmless", *PAYLOADS)):
        with acting_as("user", staff.pk, name, name), scope.platform("test"):
            tenant = members.create_tenant(slug=f"tenant-{number}", name=name, plan_notes=name)
            key, _ = keys.create_key(tenant=tenant, label=name)
            person, _ = people.add_person(email=f"person-{number}@a.test", name=name)
            members.add_member(tenant=tenant, user=person, role="viewer")
        made[name] = {
            "tenants_tenant": str(tenant.pk),
            "tenants_apikey": str(key.pk),
            "tenants_user": str(person.pk),
        }
    return made


def test_every_payload_is_text_in_every_form(
    client: Client, staff: User, rows: dict[str, Rows]
) -> None:
    client.force_login(staff)
    harmless = rows.pop("harmless")
    for page, row in harmless.items():
        plain = parsed(client.get(reverse(f"admin:{page}_change", args=[row])).content.decode())
        assert len(plain.shapes) > 50
        for payload, evil_rows in rows.items():
            path = reverse(f"admin:{page}_change", args=[evil_rows[page]])
            text = client.get(path).content.decode()
            evil = parsed(text)
            # The same elements with the same attributes: the payload added none.
            assert evil.shapes == plain.shapes, (page, payload)
            assert not evil.active
            assert "pwned" in text


def test_every_payload_is_text_in_every_list(
    client: Client, staff: User, rows: dict[str, Rows]
) -> None:
    client.force_login(staff)
    key = rows[PAYLOADS[0]]["tenants_apikey"]
    for path in (
        reverse("admin:index"),
        reverse("admin:tenants_tenant_changelist"),
        reverse("admin:tenants_user_changelist"),
        reverse("admin:tenants_apikey_changelist"),
        reverse("admin:tenants_auditevent_changelist") + "?about=key",
        reverse("admin:tenants_apikey_rotate", args=[key]),
        reverse("admin:tenants_apikey_revoke_one", args=[key]),
    ):
        text = client.get(path).content.decode()
        assert "pwned" in text, path
        assert not parsed(text).active, path
        assert "<script>window.pwned" not in text


def test_every_payload_in_the_address_is_text(client: Client, staff: User) -> None:
    client.force_login(staff)
    for payload in PAYLOADS:
        for page, name in (("tenants_tenant", "status__exact"), ("tenants_apikey", "tenant")):
            path = reverse(f"admin:{page}_changelist")
            text = client.get(path, {"q": payload, name: payload}, follow=True).content.decode()
            assert not parsed(text).active
            assert "<script>window.pwned" not in text


def test_every_payload_as_the_page_to_go_to_next_is_text(client: Client) -> None:
    for payload in PAYLOADS:
        text = client.get(reverse("account_login"), {"next": payload}).content.decode()
        assert not parsed(text).active
        assert "<script>window.pwned" not in text


def test_every_payload_as_a_name_to_sign_in_with_is_text(client: Client) -> None:
    for number, payload in enumerate(PAYLOADS):
        answer = client.post(
            reverse("account_login"),
            {"login": payload, "password": payload},
            REMOTE_ADDR=f"192.0.2.{number}",
        )
        text = answer.content.decode()
        assert answer.status_code == 200
        assert not parsed(text).active
        assert "<script>window.pwned" not in text
