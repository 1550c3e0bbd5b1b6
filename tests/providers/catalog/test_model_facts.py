"""Every model of the recorded facts is in the catalog, with equal figures and, once provider,
protocol and model are merged, with the same quirks."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from providers.catalog.loader import catalog
from providers.catalog.schema import Model, Price, Tier
from providers.protocols.quirks import Quirks
from tests.providers.catalog.every_provider import hydrated

FILE = Path(__file__).resolve().parents[2] / "golden" / "model_facts.json"
FACTS: dict[str, dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))


def test_the_facts_are_the_whole_record() -> None:
    assert len(FACTS) == 41
    assert sum(len(entry["models"]) for entry in FACTS.values()) == 1608


@pytest.mark.parametrize("provider", FACTS)
def test_figures_are_equal(provider: str) -> None:
    models = {model.id: model for model in catalog()[provider].models}
    for fact in FACTS[provider]["models"]:
        model = models[fact["id"]]
        assert [model.context_window, model.max_output_tokens] == fact["limits"], fact["id"]
        assert model.modalities == (("text", "image") if fact.get("sees") else ("text",))
        assert model.reasoning == fact.get("thinks", False), fact["id"]
        assert {k: v or None for k, v in model.levels.items()} == fact.get("levels", {}), fact["id"]
        assert not model.is_retired
        check_price(model, fact)


def check_price(model: Model, fact: dict[str, Any]) -> None:
    amounts = [Decimal(text) for text in fact["price"].split()]
    if model.price is None:
        # All zero = unknown or not billed per token.
        assert not any(amounts), model.id
        return
    if not any(amounts):
        # Free by the vendor's own name for it.
        assert model.id.endswith((":free", "-free", "/free"))
    check_rates(model.price, amounts, model.id)
    tiers = fact.get("tiers", {})
    assert [str(tier.above_input_tokens) for tier in model.price.tiers] == list(tiers)
    for tier in model.price.tiers:
        wanted = [Decimal(text) for text in tiers[str(tier.above_input_tokens)].split()]
        check_rates(tier, wanted, model.id)


def check_rates(rates: Price | Tier, amounts: list[Decimal], model: str) -> None:
    found = [rates.input, rates.output, rates.cache_read or "0", rates.cache_write or "0"]
    assert [Decimal(text) for text in found] == amounts, model
    if rates.cache_write_1h:
        # Anthropic's rule: an hour's write costs twice the input.
        assert "claude" in model
        assert Decimal(rates.cache_write_1h) == 2 * Decimal(rates.input)


@pytest.mark.parametrize("provider", FACTS)
def test_addresses_headers_and_quirks_are_equal(provider: str) -> None:
    entry = FACTS[provider]
    effective = {model.spec.id: model for model in hydrated(provider).models}
    only = next(iter(entry["bases"])) if len(entry["bases"]) == 1 else ""
    file = catalog()[provider]
    for fact in entry["models"]:
        model = effective[fact["id"]]
        protocol = fact.get("protocol", only)
        assert model.spec.protocol == protocol, fact["id"]
        wire = file.protocols.get(protocol)
        declared = wire.base_url if wire is not None else file.base_url
        if provider == "amazon-bedrock":
            assert model.base_url in entry["bases"][protocol]
        elif provider == "github-copilot":
            assert entry["bases"][protocol] == [model.base_url]
        elif provider != "azure":  # whose facts name no address: it is the customer's own
            assert entry["bases"][protocol] == [declared]
        for name, value in entry["headers"].items():
            assert model.headers[name] == value
        check_quirks(provider, protocol, model.spec.quirks, fact)


# Told by the vendors' pages and by the models' generation, not by the recorded facts.
BEYOND = {
    "supports_top_p_with_temperature", "supports_output_format", "is_claude",
    "supports_cache_points", "reasoning_field", "thinking_control", "thinking_budgets",
    "supports_function_call_ids", "supports_images_in_tool_results",
    "requires_thought_signature", "reasoning_replay_field", "session_header",
    "supports_prompt_cache_key", "session_affinity_format", "send_session_affinity",
    "initiator_header", "vision_header",
}  # fmt: skip
BEDROCK = {"force_adaptive_thinking", "supports_temperature"}


def check_quirks(provider: str, protocol: str, quirks: Quirks, fact: dict[str, Any]) -> None:
    wanted = fact.get("quirks", {})
    default = Quirks()
    for name in Quirks.__struct_fields__:
        found = getattr(quirks, name)
        if name in wanted:
            assert found == wanted[name], (provider, fact["id"], name)
        elif name not in BEYOND and not (provider == "amazon-bedrock" and name in BEDROCK):
            is_zen = protocol == "openai-responses" and provider in ("opencode", "opencode-go")
            if is_zen and name == "supports_developer_role":
                continue  # refused on every wire there
            assert found == getattr(default, name), (provider, fact["id"], name)
