"""Models and mappings of a registration as a service."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from msgspec import structs

from controlplane.kit.secret import Secret
from providers.catalog import model_services as models
from providers.catalog.destinations import SecretNeededAgain
from providers.catalog.effective import ProviderRegistrationError
from providers.catalog.loader import catalog
from providers.catalog.model_services import NameTaken
from providers.catalog.models import ModelMapping, Provider, ProviderModel
from providers.catalog.registrations import effective_of
from providers.catalog.schema import Wire
from providers.catalog.services import change_registration, register
from providers.credentials.services import store_key
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.audit.models import AuditEvent
from tenants.revisions.services import current

pytestmark = [pytest.mark.storage, pytest.mark.django_db]


@pytest.fixture(autouse=True)
def operator(db: None) -> Iterator[None]:
    with acting_as("command", None, "tests"), scope.platform("tests"):
        yield


@pytest.fixture
def anthropic(operator: None) -> Provider:
    return register(slug="anthropic", catalog_id="anthropic")


def offered(provider: Provider) -> dict[str, tuple[str, ...]]:
    fresh = Provider.objects.get(pk=provider.pk)
    return {model.spec.id: model.names for model in effective_of(fresh).models}


def test_values_of_a_model_win_over_the_registration_over_the_catalog_over_unknown() -> None:
    provider = register(slug="anthropic", catalog_id="anthropic", default_context_window=1000)
    models.add_model(provider=provider, upstream_id="claude-opus-5", context_window=7)
    models.add_model(provider=provider, upstream_id="brand-new")
    by_id = {model.spec.id: model.spec for model in effective_of(provider).models}
    assert by_id["claude-opus-5"].context_window == 7
    assert by_id["brand-new"].context_window == 1000
    assert by_id["brand-new"].max_output_tokens == 0
    origins = effective_of(provider).origins
    assert origins["models.claude-opus-5.context_window"] == "platform"
    assert origins["models.claude-opus-5.max_output_tokens"] == "catalog"
    assert origins["models.brand-new.max_output_tokens"] == "default"


def test_aliases_of_a_model_replace_its_own_name_unless_that_is_listed_too(
    anthropic: Provider,
) -> None:
    models.add_model(provider=anthropic, upstream_id="claude-opus-5", alias="best")
    models.add_model(provider=anthropic, upstream_id="claude-opus-5", alias="smart")
    assert offered(anthropic)["claude-opus-5"] == ("best", "smart")
    models.add_model(provider=anthropic, upstream_id="claude-opus-5")
    assert set(offered(anthropic)["claude-opus-5"]) == {"claude-opus-5", "best", "smart"}


@pytest.mark.parametrize(
    ("pattern", "hidden"),
    [
        ("claude-opus-5", {"claude-opus-5"}),
        ("CLAUDE-OPUS-5", {"claude-opus-5"}),
        ("claude-fable-*", {"claude-fable-5", "claude-fable-5-1", "claude-fable-5-2"}),
        ("*-4-8", {"claude-opus-4-8"}),
        ("*haiku*", {"claude-haiku-4-5", "claude-haiku-4-5-20251001", "claude-haiku-5-5"}),
    ],
)
def test_excluded_models_are_hidden_by_name_prefix_suffix_or_part(
    anthropic: Provider, pattern: str, hidden: set[str]
) -> None:
    before = set(offered(anthropic))
    change_registration(anthropic, excluded_models=[pattern])
    assert before - set(offered(anthropic)) == hidden


def test_a_model_is_switched_off_changed_and_taken_away(anthropic: Provider) -> None:
    row = models.add_model(provider=anthropic, upstream_id="claude-opus-5")
    assert models.enable_models([row], is_enabled=False) == 1
    assert models.enable_models([row], is_enabled=False) == 0
    assert "claude-opus-5" not in offered(anthropic)
    models.change_model(row, is_enabled=True, alias="best", facts={"reasoning": False})
    assert offered(anthropic)["claude-opus-5"] == ("best",)
    models.remove_model(row)
    assert offered(anthropic)["claude-opus-5"] == ("claude-opus-5",)
    actions = list(AuditEvent.objects.order_by("sequence").values_list("action", flat=True))
    assert actions == [
        "provider.registered",
        "model.added",
        "model.changed",
        "model.changed",
        "model.removed",
    ]


def test_a_row_that_a_person_changes_is_theirs(anthropic: Provider) -> None:
    row = ProviderModel.objects.create(
        provider=anthropic, upstream_id="x", origin=ProviderModel.Origin.LISTED
    )
    models.change_model(row, display_name="X")
    assert ProviderModel.objects.get().origin == ProviderModel.Origin.MANUAL
    before = current()["registrations"]
    models.change_model(row, display_name="X")
    assert current()["registrations"] == before


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"facts": {"base_url": "https://evil.example.org"}}, "no fact"),
        ({"facts": {"headers": {"x": "y"}}}, "no fact"),
        ({"facts": {"endpoint": {"region": "x"}}}, "no fact"),
        ({"facts": {"price": {"input": "free"}}}, "output"),
        ({"facts": {"price": {"input": "-1", "output": "1"}}}, "0 or more"),
        ({"facts": {"modalities": ["smell"]}}, "Invalid enum"),
        ({"facts": {"quirks": {"x": 1}}}, "quirks"),
        ({"facts": []}, "object"),
        ({"context_window": -1}, "greater than or equal"),
        ({"alias": "a\nb"}, "one line"),
        ({"upstream_id": ""}, "blank"),
        ({"upstream_id": "../../x"}, "one line"),
    ],
)
def test_facts_say_what_a_model_is_not_where_it_lives(
    anthropic: Provider, values: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValidationError, match=said):
        models.add_model(provider=anthropic, **{"upstream_id": "m", **values})
    assert not ProviderModel.objects.exists()


def test_names_are_unique_and_protocols_known(anthropic: Provider) -> None:
    row = models.add_model(provider=anthropic, upstream_id="m", alias="a")
    other = models.add_model(provider=anthropic, upstream_id="m", alias="b")
    with pytest.raises(NameTaken, match="'a' already"):
        models.add_model(provider=anthropic, upstream_id="m", alias="a")
    with pytest.raises(NameTaken, match="'a' already"):
        models.change_model(other, alias="a")
    with pytest.raises(ProviderRegistrationError, match="no protocol 'smoke'"):
        models.change_model(row, protocol="smoke")
    with pytest.raises(ProviderRegistrationError, match="no address for 'mistral-conversations'"):
        models.change_model(row, protocol="mistral-conversations")
    assert ProviderModel.objects.filter(alias="b").exists()


def test_a_model_cannot_carry_the_key_to_another_host_unasked() -> None:
    provider = register(slug="vercel", catalog_id="cloudflare-ai-gateway", endpoint={
        "account_id": "0" * 32, "gateway_id": "g"})  # fmt: skip
    store_key(provider=provider, label="one", secret=Secret("sk"))
    # Another wire of the same host is no other destination.
    models.add_model(provider=provider, upstream_id="m", protocol="anthropic-messages")
    custom = register(slug="own", protocol="openai-completions", base_url="https://a.example.com")
    store_key(provider=custom, label="one", secret=Secret("sk"))
    models.add_model(provider=custom, upstream_id="m", protocol="anthropic-messages")
    with pytest.raises(SecretNeededAgain):
        change_registration(custom, base_url="https://b.example.com")


def test_a_new_model_at_another_host_brings_the_secret_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No provider of the catalog lives at two hosts now; the next one may."""
    elsewhere = Wire(base_url="https://elsewhere.example.com")
    file = structs.replace(catalog()["mistral"], protocols={"anthropic-messages": elsewhere})
    monkeypatch.setitem(catalog()._files, "mistral", file)
    provider = register(slug="mistral", catalog_id="mistral")
    credential = store_key(provider=provider, label="one", secret=Secret("sk"))
    new = {"provider": provider, "upstream_id": "m", "protocol": "anthropic-messages"}
    with pytest.raises(SecretNeededAgain, match="'one'"):
        models.add_model(**new)
    assert not ProviderModel.objects.exists()
    models.add_model(**new, secrets={credential.pk: Secret("sk")})
    assert ProviderModel.objects.get().protocol == "anthropic-messages"


def test_replacing_all_models_leaves_what_a_refresh_has_found(anthropic: Provider) -> None:
    ProviderModel.objects.create(
        provider=anthropic, upstream_id="found", origin=ProviderModel.Origin.LISTED
    )
    models.add_model(provider=anthropic, upstream_id="old")
    models.add_model(provider=anthropic, upstream_id="kept", context_window=5)
    wanted: list[dict[str, Any]] = [{"upstream_id": "kept"}, {"upstream_id": "new", "alias": "n"}]
    assert models.replace_models(anthropic, wanted) == 3
    assert models.replace_models(anthropic, wanted) == 0
    rows = {row.upstream_id: row.context_window for row in ProviderModel.objects.all()}
    assert rows == {"found": None, "kept": None, "new": None}
    with pytest.raises(NameTaken, match="twice"):
        models.replace_models(anthropic, [{"upstream_id": "a"}, {"upstream_id": "a"}])


def test_default_mappings_are_offered_as_rows_that_anybody_may_change(anthropic: Provider) -> None:
    assert not ModelMapping.objects.exists()
    assert models.default_mappings(anthropic) == {"claude-3-5-sonnet": "claude-3-5-sonnet-20241022"}
    assert models.add_default_mappings(anthropic) == 1
    assert models.add_default_mappings(anthropic) == 0
    row = ModelMapping.objects.get()
    models.change_mapping(row, upstream_model="claude-opus-5")
    assert models.add_default_mappings(anthropic) == 0
    models.remove_mapping(row)
    assert not ModelMapping.objects.exists()


def test_mappings_are_set_replaced_and_unique(anthropic: Provider) -> None:
    models.set_mapping(anthropic, client_model="a", upstream_model="x")
    seen = current()["registrations"]
    models.set_mapping(anthropic, client_model="a", upstream_model="x")
    assert current()["registrations"] == seen
    row = models.set_mapping(anthropic, client_model="a", upstream_model="y")
    other = models.set_mapping(anthropic, client_model="b", upstream_model="y")
    assert ModelMapping.objects.count() == 2
    with pytest.raises(NameTaken):
        models.change_mapping(other, client_model="a")
    with pytest.raises(ValidationError):
        models.change_mapping(row, upstream_model="")
    assert ModelMapping.objects.get(client_model="a").upstream_model == "y"


def test_a_model_of_another_tenants_registration_is_out_of_reach(
    tenant: Any, other_tenant: Any
) -> None:
    theirs = register(
        slug="own",
        tenant_id=other_tenant.id,
        protocol="openai-completions",
        base_url="https://a.example.com",
    )
    with scope.tenant(tenant.id), pytest.raises(Provider.DoesNotExist):
        models.add_model(provider=theirs, upstream_id="m")
