"""What the catalog's newer places mean once they are merged with a registration."""

from __future__ import annotations

import pytest

from providers.catalog.effective import (
    Effective,
    ModelChange,
    ProviderRegistrationError,
    Registration,
    effective,
)
from providers.catalog.loader import catalog
from tests.providers.catalog.every_provider import ACCOUNT, hydrated


@pytest.mark.parametrize(
    ("provider", "auth_type", "scheme", "variable"),
    [
        ("anthropic", "", "header", "ANTHROPIC_API_KEY"),
        ("anthropic", "bearer_token", "bearer", "ANTHROPIC_AUTH_TOKEN"),
        ("amazon-bedrock", "", "sigv4", "AWS_ACCESS_KEY_ID"),
        ("amazon-bedrock", "bearer_token", "bearer", "AWS_BEARER_TOKEN_BEDROCK"),
        ("google-vertex", "", "google", "GOOGLE_APPLICATION_CREDENTIALS"),
        ("google-vertex", "api_key", "header", "GOOGLE_CLOUD_API_KEY"),
        ("azure", "bearer_token", "bearer", ""),
        ("vllm", "", "none", ""),
        ("vllm", "api_key", "bearer", ""),
    ],
)
def test_another_kind_of_credential_is_shown_in_its_own_way(
    provider: str, auth_type: str, scheme: str, variable: str
) -> None:
    found = hydrated(provider, auth_type=auth_type)
    assert found.scheme.scheme == scheme
    assert {model.scheme.scheme for model in found.models} == {scheme}
    assert (found.env or ("",))[0] == variable


def test_a_server_of_ones_own_without_a_key() -> None:
    own = Registration(
        slug="own",
        protocol="openai-completions",
        base_url="http://localhost:1/v1",
        auth_type="none",
    )
    assert effective(own, None).scheme.scheme == "none"


def gateway(mode: str) -> Effective:
    endpoint = {"account_id": ACCOUNT, "gateway_id": "gw"}
    if mode:
        endpoint["upstream_auth"] = mode
    return effective(
        Registration(slug="cf", catalog_id="cloudflare-ai-gateway", endpoint=endpoint),
        catalog()["cloudflare-ai-gateway"],
    )


@pytest.mark.parametrize("mode", ["", "workers_ai", "unified_billing", "stored_key", "inline_key"])
def test_cloudflares_modes_never_send_a_vendor_credential_by_themselves(mode: str) -> None:
    found = gateway(mode)
    for model in found.models:
        assert (model.scheme.header, model.scheme.prefix) == ("cf-aig-authorization", "Bearer ")
        names = {name.lower() for name in model.headers}
        assert not names & {"authorization", "x-api-key"}
        assert ("cf-aig-no-wholesale" in names) == (mode == "stored_key")


def test_cloudflares_routes() -> None:
    routes = {
        model.spec.protocol: model.base_url.rpartition("/")[2] for model in gateway("").models
    }
    assert routes == {
        "openai-completions": "compat", "openai-responses": "openai",
        "anthropic-messages": "anthropic",
    }  # fmt: skip


def test_inline_keys_know_their_place() -> None:
    mode = catalog()["cloudflare-ai-gateway"].auth.upstream["inline_key"]
    assert mode.vendor_schemes["anthropic-messages"].header == "x-api-key"
    assert mode.vendor_schemes["openai-responses"].scheme == "bearer"


@pytest.mark.parametrize("provider", ["kimi-coding", "xiaomi", "xiaomi-token-plan-sgp"])
def test_the_older_wire_is_one_setting_away(provider: str) -> None:
    found = hydrated(provider, protocol="anthropic-messages")
    for model in found.models:
        assert model.spec.protocol == "anthropic-messages"
        assert model.scheme.header == "x-api-key"
        assert not model.base_url.endswith("/v1")


def test_constants_of_an_envelope_reach_the_model_and_can_be_changed() -> None:
    antigravity = hydrated("google-antigravity").models[0].spec.endpoint
    assert antigravity["request_type"] == "agent"
    changed = effective(
        Registration(slug="a", catalog_id="a", endpoint={"request_type": "other"}),
        catalog()["google-antigravity"],
    )
    assert changed.models[0].spec.endpoint["request_type"] == "other"


def test_refreshed_facts_replace_the_files_and_leave_the_rest() -> None:
    change = ModelChange(
        upstream_id="gpt-4o",
        facts={"context_window": 256_000, "price": {"input": "2", "output": "8"}},
    )
    found = effective(
        Registration(slug="openai", catalog_id="openai", models=(change,)), catalog()["openai"]
    )
    model = next(m for m in found.models if m.spec.id == "gpt-4o")
    assert model.spec.context_window == 256_000
    assert model.spec.max_output_tokens == 16_384
    assert model.price is not None
    assert (model.price.input, model.price.cache_read) == ("2", "")
    # The provider's factors for service tiers hold for refreshed prices too.
    assert model.price.service_tiers["flex"] == "0.5"


def test_facts_of_the_wrong_form_are_refused_in_one_sentence() -> None:
    change = ModelChange(upstream_id="gpt-4o", facts={"context_window": "big"})
    with pytest.raises(ProviderRegistrationError, match="gpt-4o"):
        effective(Registration(slug="o", catalog_id="o", models=(change,)), catalog()["openai"])


def test_service_tiers_of_one_model_win() -> None:
    prices = {model.spec.id: model.price for model in hydrated("openai").models}
    ordinary, own = prices["gpt-5.4"], prices["gpt-5.5"]
    assert ordinary is not None
    assert own is not None
    assert (ordinary.service_tiers["priority"], own.service_tiers["priority"]) == ("2", "2.5")
    assert own.service_tiers["flex"] == "0.5"


def test_retired_models_come_only_when_named() -> None:
    names = {model.spec.id for model in hydrated("anthropic").models}
    assert "claude-3-opus-20240229" not in names
    asked = Registration(
        slug="a", catalog_id="a", models=(ModelChange(upstream_id="claude-3-opus-20240229"),)
    )
    found = {m.spec.id: m for m in effective(asked, catalog()["anthropic"]).models}
    opus = found["claude-3-opus-20240229"]
    assert (opus.spec.context_window, opus.spec.max_output_tokens) == (200_000, 4_096)
    assert opus.spec.quirks.supports_top_p_with_temperature


def test_the_simulator_takes_scenarios_behind_a_separator() -> None:
    found = hydrated("simulator")
    assert found.model_suffix_separator == "+"
    assert {model.spec.id for model in found.models if model.kind == "chat"} == {
        "sim-gpt", "sim-gpt-responses", "sim-claude", "sim-gemini", "sim-mistral", "sim-nova",
        "sim-kiro", "sim-azure", "sim-codex", "sim-vertex", "sim-code-assist",
    }  # fmt: skip
    assert hydrated("openai").model_suffix_separator == ""


def test_further_addresses_stand_for_the_files_own() -> None:
    """Who gives an address means that one."""
    file = catalog()["google-antigravity"]
    assert len(file.fallback_base_urls) == 2
    own = effective(Registration(slug="mine"), file)
    assert {model.fallback_base_urls for model in own.models} == {file.fallback_base_urls}
    given = Registration(slug="mine", base_url="https://elsewhere.example")
    assert {model.fallback_base_urls for model in effective(given, file).models} == {()}
