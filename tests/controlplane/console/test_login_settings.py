"""The operator's switchboard of logins in the console."""

from __future__ import annotations

import contextvars
from typing import Any

import pytest
from django.test import Client

from providers.oauth.models import LoginSettings
from providers.oauth.ways import client_secret_of
from tenants import scope
from tenants.members.models import User

pytestmark = [pytest.mark.storage, pytest.mark.django_db]
CANARY = "canary-client-secret-5f1c"
ADD = "/admin/providers/loginsettings/add/"


class Outside(Client):
    """Its requests begin in nobody's scope, as a server's do."""

    def request(self, **request: Any) -> Any:
        return contextvars.Context().run(super().request, **request)


@pytest.fixture
def operator(staff: User) -> Client:
    client = Outside()
    client.force_login(staff)
    return client


def form(**changes: Any) -> dict[str, Any]:
    return {
        "catalog_id": "google-gemini-cli",
        "provider": "",
        "is_on": "on",
        "sharing": "owner",
        "permission": "",
        "overrides": "{}",
        "client_secret": CANARY,
        **changes,
    }


def the_row() -> LoginSettings:
    return LoginSettings.objects.get()


def test_switched_on_with_a_secret_that_nobody_reads_again(operator: Client) -> None:
    answer = operator.post(ADD, form())
    assert answer.status_code == 302, answer.content.decode()
    row = the_row()
    assert row.is_on
    with scope.platform("tests"):
        assert client_secret_of(row).reveal() == CANARY
    page = operator.get(f"/admin/providers/loginsettings/{row.pk}/change/")
    shown = page.content.decode() + operator.get("/admin/providers/loginsettings/").content.decode()
    assert CANARY not in shown
    assert "breaks its terms" in shown
    # An empty field keeps what is stored.
    changed = form(client_secret="", seen_version=str(row.version), is_on="")
    assert operator.post(page.wsgi_request.path, changed).status_code == 302
    row = the_row()
    assert not row.is_on
    with scope.platform("tests"):
        assert client_secret_of(row).reveal() == CANARY


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"catalog_id": "nowhere"}, "no provider"),
        ({"sharing": "tenant"}, "permits"),
        ({"overrides": '{"browser": {"token_urll": "x"}}'}, "token_urll"),
        ({"overrides": "{"}, "valid JSON"),
        ({"catalog_id": ""}, "not both"),
    ],
    ids=["unknown", "sharing", "field", "JSON", "nothing"],
)
def test_what_does_not_fit_is_said_and_not_saved(
    operator: Client, changes: dict[str, str], sentence: str
) -> None:
    answer = operator.post(ADD, form(**changes), follow=True)
    assert sentence in answer.content.decode()
    assert not LoginSettings.objects.exists()
