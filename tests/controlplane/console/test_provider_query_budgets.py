"""How many queries each page of the registry makes, recorded in provider_query_budgets.json; more
rows make no more of them. Written anew with `UPDATE_QUERY_BUDGETS=1 pytest <this file>`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from django.test import Client
from django.urls import reverse

from controlplane.kit.secret import Secret
from providers.catalog.model_services import add_mapping, add_model
from providers.catalog.models import Provider
from providers.catalog.policy import own_policy, set_policy
from providers.catalog.services import register, share
from providers.credentials.services import add_credential
from providers.health.models import Finding, ProviderCheck
from providers.routing.aliases import PoolEntry, create_alias
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.members.models import Tenant, User
from tests.controlplane.console.registry import CANARY, CUSTOM, furnish
from tests.controlplane.console.test_query_budgets import measure

BUDGETS = Path(__file__).with_name("provider_query_budgets.json")


def pages() -> dict[str, str]:
    made = furnish("own", text="mine")
    found: dict[str, str] = {}
    for kind, row in (
        ("provider", made.provider),
        ("credential", made.credential),
        ("providermodel", made.model),
        ("modelmapping", made.mapping),
    ):
        base = f"admin:providers_{kind}"
        found[f"{kind} list"] = reverse(f"{base}_changelist")
        found[f"{kind} search"] = reverse(f"{base}_changelist") + "?q=a"
        found[f"{kind} page"] = reverse(f"{base}_change", args=[row.pk])
        found[f"{kind} remove"] = reverse(f"{base}_remove", args=[row.pk])
        query = f"?provider={made.provider.pk}" if kind != "provider" else "?type=custom"
        found[f"{kind} add"] = reverse(f"{base}_add") + query
    with scope.platform("test"), acting_as("command", None, "tests"):
        policy = set_policy(own_policy(None), shows_prices=False)
    base = "admin:providers_registrypolicy"
    found["registrypolicy list"] = reverse(f"{base}_changelist")
    found["registrypolicy page"] = reverse(f"{base}_change", args=[policy.pk])
    found["registrypolicy add"] = reverse(f"{base}_add")
    for view in ("settings", "sharing"):
        path = reverse(f"admin:providers_provider_{view}", args=[made.provider.pk])
        found[f"provider {view}"] = path
    found["provider pick"] = reverse("admin:providers_provider_add")
    found["capabilities"] = reverse("admin:providers_provider_capabilities")
    return found


def more_of_everything() -> None:
    with scope.platform("test"), acting_as("command", None, "tests"):
        own = Provider.objects.get(slug="own")
        tenants = [Tenant.objects.create(slug=f"tenant-{n}", name="One") for n in range(8)]
        share(own, with_all=False, tenants=tenants)
        for number in range(8):
            add_credential(provider=own, label=f"key {number}", secret=Secret(CANARY))
            add_model(provider=own, upstream_id=f"model-{number}")
            add_mapping(own, client_model=f"name-{number}", upstream_model="m")
            create_alias(name=f"alias-{number}", tenant_id=None, targets=[PoolEntry("m", own)])
            set_policy(own_policy(tenants[number].pk), allows_own_keys=True)
            other = register(slug=f"more-{number}", tenant_id=tenants[number].pk, **CUSTOM)
            add_credential(provider=other, label="key", secret=Secret(CANARY))
            add_model(provider=other, upstream_id="m")
            add_mapping(other, client_model="name", upstream_model="m")
            for row in (own, other):
                ProviderCheck.objects.create(
                    provider=row, is_ok=True, finding=Finding.WORKS, sentence="Works."
                )


@pytest.mark.django_db
def test_pages_keep_their_query_budgets_however_many_rows_there_are(staff: User) -> None:
    client = Client()
    client.force_login(staff)
    Tenant.objects.create(slug="acme", name="Acme")
    found = pages()
    with scope.platform("test"), acting_as("command", None, "tests"):
        own = Provider.objects.get(slug="own")
        share(own, with_all=False, tenants=[Tenant.objects.get(slug="acme")])
    few = measure(client, found)
    more_of_everything()
    assert measure(client, found) == few
    if os.environ.get("UPDATE_QUERY_BUDGETS"):
        BUDGETS.write_text(json.dumps(few, indent=2, sort_keys=True) + "\n")
    assert few == json.loads(BUDGETS.read_text())
