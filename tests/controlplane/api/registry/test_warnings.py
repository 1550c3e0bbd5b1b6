"""Who changes what a bundle sets is told that the next apply would undo it, and gets it done."""

from __future__ import annotations

from typing import Any

import pytest

from providers.bundle.apply import apply
from providers.bundle.document import read
from providers.catalog.models import Provider
from providers.routing.models import Alias
from tenants import scope as scopes
from tenants.audit.actor import acting_as
from tests.controlplane.api.conftest import V1, Api, Home, with_key

pytestmark = [pytest.mark.storage, pytest.mark.django_db]

BUNDLE = """
name: main
providers:
- slug: filed
  catalog_id: groq
  tenant: {tenant}
  priority: 4
  is_enabled: true
  models: [{{upstream_id: m}}]
  mappings: {{x: m}}
  error_rules: [{{status: 409, action: stop}}]
- {{slug: shared, catalog_id: groq, shared_with: [{tenant}], is_shared_with_all: false}}
aliases: [{{name: filed, tenant: {tenant}, targets: [{{model: m}}]}}]
"""


@pytest.fixture
def filed(home: Home) -> Provider:
    with acting_as("command", None, "tests"), scopes.platform("test"):
        apply(read(BUNDLE.format(tenant=home.tenant.slug)))
        return Provider.objects.get(slug="filed")


def change(api: Api, path: str, body: Any, method: str = "patch") -> Any:
    version = api("get", path).json().get("version")
    answer = api(method, path, body, if_match=f'"{version}"')
    assert answer.status_code in {200, 204}, answer.content
    return answer


def test_fields_of_a_registration(filed: Provider, home: Home, as_staff: Api) -> None:
    path = f"{V1}/providers/{filed.pk}"
    assert as_staff("get", path).json()["warnings"] == []
    assert change(as_staff, path, {"weight": 3}).json()["warnings"] == []
    # Said again as it is: nothing to undo.
    assert change(as_staff, path, {"priority": 4}).json()["warnings"] == []
    [said] = change(as_staff, path, {"priority": 5}).json()["warnings"]
    assert said == (
        "The bundle 'main' sets priority: its next apply would undo this. Change the file too."
    )
    rules = f"{path}/error-rules"
    shown = as_staff("get", rules).json()
    assert (shown["rules"][0]["status"], shown["warnings"]) == (409, [])
    version = as_staff("get", path).json()["version"]
    put = as_staff("put", rules, {"rules": []}, if_match=f'"{version}"').json()
    assert "sets error_rules" in put["warnings"][0]
    [said] = as_staff("post", f"{path}/disable").json()["warnings"]
    assert "sets is_enabled" in said
    assert as_staff("post", f"{path}/disable").json()["warnings"] == []
    manage = with_key(home.tenant)
    [said] = manage("put", "/v1/providers/filed/enabled", {"enabled": True}).json()["warnings"]
    assert "sets is_enabled" in said


def test_rows_of_a_bundle(filed: Provider, as_staff: Api) -> None:
    with scopes.platform("test"):
        model, mapping = filed.models.get(), filed.mappings.get()
        alias = Alias.objects.get(name="filed")
    places = [
        (f"{V1}/providers/{filed.pk}/models/{model.pk}", {"display_name": "x"}),
        (f"{V1}/providers/{filed.pk}/mappings/{mapping.pk}", {"upstream_model": "n"}),
        (f"{V1}/aliases/{alias.pk}", {"is_enabled": False}),
    ]
    for path, body in places:
        [said] = change(as_staff, path, body).json()["warnings"]
        assert "would undo the change" in said
        gone = change(as_staff, path, None, method="delete")
        assert "'main'" in gone["X-Warning"]
        assert "would make it again" in gone["X-Warning"]
    gone = change(as_staff, f"{V1}/providers/{filed.pk}", None, method="delete")
    assert "would make it again" in gone["X-Warning"]


def test_sharing(filed: Provider, as_staff: Api) -> None:
    with scopes.platform("test"):
        shared = Provider.objects.get(slug="shared")
    path = f"{V1}/providers/{shared.pk}/sharing"
    answer = as_staff("put", path, {"with_all": True}, if_match=f'"{shared.version}"')
    assert "sets is_shared_with_all, shared_with" in answer.json()["warnings"][0]


def test_a_persons_rows_carry_no_warning(home: Home, admin: Api) -> None:
    path = f"{V1}/providers/{home.registry['provider_id']}"
    assert change(admin, path, {"priority": 9}).json()["warnings"] == []
    assert not change(admin, path, None, method="delete").has_header("X-Warning")
