"""The operator's routing tests are asked at every change of the registry that people make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from controlplane.kit.secret import Secret
from providers.catalog.model_services import add_mapping, add_model
from providers.catalog.models import ModelMapping, Provider, ProviderModel
from providers.catalog.services import register
from providers.credentials.services import add_credential
from tenants import scope as scopes
from tenants.audit.actor import acting_as
from tenants.members.models import User
from tests.controlplane.api.conftest import V1, Api, Home, error_of

pytestmark = [pytest.mark.storage, pytest.mark.django_db]

ADDRESS = {"protocol": "openai-completions", "base_url": "https://a.example.com/v1"}


@pytest.fixture
def near(home: Home, settings: Any, tmp_path: Path) -> Provider:
    """What the model `m` has to go to; `far` has it too, with a lower priority."""
    with acting_as("command", None, "tests"), scopes.platform("tests"):
        for slug, priority in (("near", 5), ("far", 1)):
            made = register(slug=slug, priority=priority, **ADDRESS)
            add_credential(provider=made, label="one", secret=Secret("sk-x"))
            add_model(provider=made, upstream_id="m")
        found = Provider.objects.get(slug="near")
        add_mapping(found, client_model="n", upstream_model="m")
    file = tmp_path / "tests.yaml"
    rows = [f"{{tenant: {home.tenant.slug}, model: {name}, goes_to: [near]}}" for name in "mn"]
    file.write_text("tests:\n" + "".join(f"  - {row}\n" for row in rows))
    settings.ROUTING_TESTS_FILE = str(file)
    settings.ROUTING_TESTS_ON_SAVE = "block"
    return found


def version_of(api: Api, path: str) -> str:
    return str(api("get", path)["ETag"])


def test_over_the_api(near: Provider, as_staff: Api) -> None:
    path = f"{V1}/providers/{near.pk}"
    with scopes.platform("tests"):
        model, mapping = near.models.get(), near.mappings.get()
    for method, where, body in (
        ("patch", path, {"priority": 0}),
        ("patch", path, {"excluded_models": ["m"]}),
        ("put", f"{path}/sharing", {"with_all": False, "tenant_ids": []}),
        ("patch", f"{path}/models/{model.pk}", {"is_enabled": False}),
        ("delete", f"{path}/models/{model.pk}", None),
        ("patch", f"{path}/mappings/{mapping.pk}", {"client_model": "other"}),
        ("delete", f"{path}/mappings/{mapping.pk}", None),
        ("post", f"{V1}/providers", {"slug": "new", "priority": 9, **ADDRESS, "auth_type": "none"}),
    ):
        seen = {} if method == "post" else {"if_match": version_of(as_staff, where)}
        answer = as_staff(method, where, body, **seen)
        if method == "post":
            # It has no model yet.
            assert answer.status_code == 201, answer.content
            where = f"{V1}/providers/{answer.json()['id']}/models"
            answer = as_staff("post", where, {"upstream_id": "m"})
        assert answer.status_code == 409, (method, where, answer.content)
        assert error_of(answer)["code"] == "routing_tests_broken", answer.content
        assert "routing tests" in error_of(answer)["message"]
    with scopes.platform("tests"):
        near.refresh_from_db()
        assert (near.priority, near.is_shared_with_all, near.excluded_models) == (5, True, [])
        assert ProviderModel.objects.get(pk=model.pk).is_enabled
        assert ModelMapping.objects.get(pk=mapping.pk).client_model == "n"
    # What breaks nothing is done, and nothing holds up an emergency.
    fine = as_staff("patch", path, {"priority": 6}, if_match=version_of(as_staff, path))
    assert fine.status_code == 200
    assert as_staff("post", f"{path}/disable").status_code == 200


def test_in_the_admin(near: Provider, staff: User) -> None:
    console = Client()
    console.force_login(staff)
    with scopes.platform("tests"):
        model, mapping = near.models.get(), near.mappings.get()
    for row, kind in ((model, "providermodel"), (mapping, "modelmapping")):
        where = reverse(f"admin:providers_{kind}_remove", args=[row.pk])
        answer = console.post(where, {"confirmed": "yes"}, follow=True)
        assert "This would break" in answer.content.decode()
    switched = console.post(
        reverse("admin:providers_provider_switch_models", args=[near.pk]),
        {"to": "off", "model": ["m"]},
        follow=True,
    )
    assert "This would break" in switched.content.decode()
    shared = console.post(
        reverse("admin:providers_provider_sharing", args=[near.pk]),
        {"with_whom": "chosen", "tenants": ""},
    )
    assert "This would break" in shared.content.decode()
    with scopes.platform("tests"):
        near.refresh_from_db()
        assert near.is_shared_with_all
        assert near.models.get().is_enabled
        assert near.mappings.exists()
