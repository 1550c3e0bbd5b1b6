"""Credentials as a service: written and never read, owned by one registration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.exceptions import ValidationError

from controlplane.kit.secret import Secret
from providers.catalog.models import Provider
from providers.catalog.services import register
from providers.catalog.urls import IdentifierError
from providers.credentials.models import Credential
from providers.credentials.services import (
    BadCredential,
    LabelTaken,
    add_credential,
    change_credential,
    disable_credential,
    enable_credential,
    remove_credential,
    store_key,
)
from providers.credentials.sources import unsealed
from providers.errors import ProviderError
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.audit.models import AuditEvent
from tenants.errors import StaleVersion
from tenants.members.models import Tenant
from tenants.revisions.services import current

pytestmark = [pytest.mark.storage, pytest.mark.django_db]

CANARY = "sk-canary-7f3a9c"


@pytest.fixture(autouse=True)
def operator(db: None) -> Iterator[None]:
    with acting_as("command", None, "tests"), scope.platform("tests"):
        yield


@pytest.fixture
def provider(operator: None) -> Provider:
    return register(slug="anthropic", catalog_id="anthropic")


def test_a_secret_goes_in_and_shows_as_a_fingerprint(provider: Provider) -> None:
    made = add_credential(provider=provider, label="one", secret=Secret(CANARY), weight=3)
    row = Credential.objects.get()
    assert unsealed(row).reveal() == CANARY
    assert row.fingerprint == made.fingerprint
    assert CANARY.encode() not in row.sealed
    kept = str(list(AuditEvent.objects.values()))
    assert CANARY not in kept
    assert row.fingerprint in kept


def test_a_new_secret_makes_a_refused_credential_usable(provider: Provider) -> None:
    made = add_credential(provider=provider, label="one", secret=Secret("old"))
    Credential.objects.filter(pk=made.pk).update(
        state=Credential.State.NEEDS_LOGIN, state_reason="401"
    )
    made.refresh_from_db()
    change_credential(made, secret=Secret("new"))
    assert (made.state, made.state_reason, made.version) == ("active", "", 2)
    assert unsealed(Credential.objects.get()).reveal() == "new"


def test_what_else_is_known_changes_without_the_secret(provider: Provider) -> None:
    made = add_credential(provider=provider, label="one", secret=Secret("x"))
    stale = Credential.objects.get()
    change_credential(made, label="first", priority=9)
    with pytest.raises(StaleVersion):
        change_credential(stale, label="second")
    assert unsealed(Credential.objects.get(label="first")).reveal() == "x"
    with pytest.raises(TypeError, match="no state"):
        change_credential(made, state="disabled")


def test_on_off_and_away_are_recorded_and_heard(provider: Provider) -> None:
    made = add_credential(provider=provider, label="one", secret=Secret("x"))
    heard = [current()["registrations"]]
    assert disable_credential(made)
    assert not disable_credential(made)
    heard.append(current()["registrations"])
    assert enable_credential(made)
    heard.append(current()["registrations"])
    remove_credential(made)
    heard.append(current()["registrations"])
    assert heard == sorted(set(heard))
    assert not Credential.objects.exists()
    actions = list(AuditEvent.objects.order_by("sequence").values_list("action", flat=True))
    assert actions[1:] == [
        "credential.stored",
        "credential.disabled",
        "credential.enabled",
        "credential.removed",
    ]


def test_labels_are_taken_once_per_registration(provider: Provider) -> None:
    add_credential(provider=provider, label="one", secret=Secret("x"))
    other = add_credential(provider=provider, label="two", secret=Secret("y"))
    with pytest.raises(LabelTaken, match="'one' already"):
        add_credential(provider=provider, label="one", secret=Secret("z"))
    with pytest.raises(LabelTaken):
        change_credential(other, label="one")
    store_key(provider=provider, label="one", secret=Secret("z"))
    assert unsealed(Credential.objects.get(label="one")).reveal() == "z"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"secret": None}, "Give the secret"),
        ({"secret": Secret(" ")}, "not only spaces"),
        ({"secret": Secret("a\nb")}, "one line"),
        ({"secret": Secret("kéy")}, "ASCII"),
        ({"secret": Secret("x"), "source": "environment", "reference": "A_KEY"}, "one of the two"),
        ({"secret": Secret("x"), "reference": "A_KEY"}, "kept elsewhere"),
        ({"source": "environment", "reference": "not a name"}, "environment variable"),
        ({"source": "file"}, "where the secret is kept"),
    ],
)
def test_what_could_not_be_used_is_refused(
    provider: Provider, values: dict[str, Any], said: str
) -> None:
    with pytest.raises(BadCredential, match=said):
        add_credential(**{"provider": provider, "label": "one", **values})
    assert not Credential.objects.exists()


def test_the_operator_may_refer_to_a_variable_and_a_tenant_may_not(
    provider: Provider, tenant: Tenant
) -> None:
    made = add_credential(
        provider=provider, label="env", source="environment", reference="ANTHROPIC_API_KEY"
    )
    assert (made.sealed, made.fingerprint) == (None, "")
    own = register(slug="mine", tenant_id=tenant.id, catalog_id="anthropic")
    with pytest.raises(BadCredential, match="the operator's"):
        add_credential(provider=own, label="env", source="environment", reference="SECRET_KEY")
    assert add_credential(provider=own, label="x", secret=Secret("x")).tenant_id == tenant.id


def test_identifiers_of_a_credential_have_the_providers_form() -> None:
    azure = register(slug="azure", catalog_id="azure", endpoint={"resource": "ours"})
    with pytest.raises(IdentifierError):
        add_credential(
            provider=azure, label="x", secret=Secret("x"), endpoint={"resource": "a@evil.com"}
        )
    with pytest.raises(ProviderError, match="no identifier 'host'"):
        add_credential(provider=azure, label="x", secret=Secret("x"), endpoint={"host": "x"})
    with pytest.raises(ValidationError):
        add_credential(provider=azure, label="x", secret=Secret("x"), endpoint={"x": "a\r\nb"})
