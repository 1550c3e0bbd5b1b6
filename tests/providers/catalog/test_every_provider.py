"""Walks the whole catalog: hydrate, address, method, headers, price, capabilities. The golden
file of each provider is what a chat request to it looks like; `make golden` writes them anew."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import pytest

from controlplane.kit.secret import Secret
from providers.catalog.effective import EffectiveModel, ProviderRegistrationError
from providers.catalog.features import FEATURES, capabilities, facts_of
from providers.catalog.loader import DATA, catalog
from providers.catalog.pricing import cost_nanos
from providers.catalog.urls import fill_headers
from providers.protocols import registry
from providers.protocols.canonical import Message, Request, Text, Usage
from providers.signing import schemes
from tests.providers.catalog.every_provider import ENDPOINTS, IDS, REFUSED, hydrated

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "catalog"
SERVED = [provider for provider in IDS if provider not in REFUSED]
SECRET = "dummy-credential-0000"  # nobody's
MARK = "‹credential›"

# Typed in from the vendors' pages, November 2026.
with (Path(__file__).parent / "vendor_pages.csv").open(encoding="utf-8", newline="") as _file:
    TABLE = {row["id"]: row for row in csv.DictReader(_file)}


def test_the_table_and_the_catalog_name_the_same_providers() -> None:
    assert sorted({*TABLE, *REFUSED}) == IDS


@pytest.mark.parametrize("provider", TABLE)
def test_what_the_vendors_pages_say(provider: str) -> None:
    page, found = TABLE[provider], hydrated(provider)
    assert (found.kind, found.auth_type) == (page["kind"], page["auth type"])
    assert (found.protocol, found.base_url) == (page["protocol"], page["base url"])
    assert (found.env[0] if found.env else "") == page["variable"]


def sample_models(provider: str) -> list[EffectiveModel]:
    """One chat model per protocol the provider's models speak."""
    out: dict[str, EffectiveModel] = {}
    for model in hydrated(provider).models:
        if model.kind == "chat":
            out.setdefault(model.spec.protocol, model)
    return list(out.values())


def chat_request(provider: str, model: EffectiveModel, *, stream: bool) -> dict[str, Any]:
    """As the gateway sends it: address, method and headers, the credential as a mark."""
    request = Request(
        model=model.spec.id,
        dialect="openai-completions",
        messages=(Message(role="user", parts=(Text(text="Hello"),)),),
        stream=stream,
    )
    call = registry.upstream(model.spec.protocol).encode_request(
        request, model.spec, request_id="00000000-0000-4000-8000-000000000000"
    )
    url = model.base_url + call.path
    if call.query:
        url += "?" + "&".join(f"{name}={value}" for name, value in call.query.items())
    file = catalog()[provider]
    if model.scheme.scheme in ("sigv4", "google"):
        credential = {"Authorization": f"{model.scheme.scheme} {MARK}"}
    else:
        credential = schemes.headers(model.scheme, Secret(SECRET))
    headers = {
        "Content-Type": "application/json",
        "Accept": "text/event-stream" if call.stream else "application/json",
        **model.headers,
        **call.headers,
        **fill_headers(file.auth.headers, file.auth.identifiers, ENDPOINTS.get(provider, {})),
        **credential,
    }
    return {
        "method": "POST",
        "url": url,
        "headers": {
            name.lower(): value.replace(SECRET, MARK) for name, value in sorted(headers.items())
        },
    }


@pytest.mark.parametrize("provider", SERVED)
def test_a_chat_request_looks_as_recorded(provider: str) -> None:
    models = sample_models(provider)
    assert models, "nothing to ask"
    now = {
        model.spec.protocol: {
            "model": model.spec.id,
            "streamed": chat_request(provider, model, stream=True),
            "whole": chat_request(provider, model, stream=False),
        }
        for model in models
    }
    text = json.dumps(now, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
    assert SECRET not in text
    file = GOLDEN / f"{provider}.json"
    if os.environ.get("PCP_WRITE_GOLDEN") == "1":
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    assert file.exists(), f"no golden file for {provider}: run `make golden` and read the diff"
    assert now == json.loads(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("provider", SERVED)
def test_exactly_one_credential_leaves(provider: str) -> None:
    scheme = hydrated(provider).scheme.scheme
    for model in sample_models(provider):
        sent = chat_request(provider, model, stream=True)
        carrying = [name for name, value in sent["headers"].items() if MARK in value]
        assert len(carrying) == (0 if scheme == "none" else 1)
        assert not set(sent["url"]) & set("{}# ")
        assert sent["url"].startswith(("https://", "http://localhost:", "http://127.0.0.1:"))


def test_golden_files_are_all_of_the_catalog() -> None:
    assert sorted(path.stem for path in GOLDEN.glob("*.json")) == sorted(SERVED)


@pytest.mark.parametrize("provider", SERVED)
def test_usage_has_a_price_or_is_known_to_have_none(provider: str) -> None:
    usage = Usage(input=1_000, cache_read=500, cache_write=200, output=300, reasoning=100)
    priced = 0
    for model in hydrated(provider).models:
        cost = cost_nanos(usage, model.price)
        if model.price is None:
            assert cost is None
            continue
        priced += 1
        assert cost is not None
        assert (cost == 0) == (float(model.price.input) == 0 == float(model.price.output))
    # Flat plans, private models and the vendor's own lists have no price per token.
    unpriced = {
        "claude-subscription", "kiro", "nvidia", "roo", "kilo", "ollama", "lm-studio", "vllm",
        "llama-cpp", "google-gemini-cli",
    }  # fmt: skip
    assert (priced == 0) == (provider in unpriced or "token-plan" in provider)


@pytest.mark.parametrize("provider", SERVED)
def test_capabilities_are_listed_with_their_source(provider: str) -> None:
    found = hydrated(provider)
    catalogued = {model.id: model for model in catalog()[provider].models}
    for model in found.models:
        facts = facts_of(model, catalogued.get(model.spec.id))
        answers = capabilities(model=facts, provider=found.features, probed={})
        assert tuple(answer.feature for answer in answers) == FEATURES
        by_name = {answer.feature: answer for answer in answers}
        if model.spec.id in catalogued and model.kind == "chat":
            assert by_name["vision"].source == "model"
            assert by_name["vision"].is_supported == ("image" in model.spec.modalities)
            assert by_name["streaming"].is_supported is True
            assert by_name["functions"].is_supported is True


def test_the_binding_is_described_and_refused_with_a_way_out() -> None:
    file = catalog()["cloudflare"]
    assert file.auth.type == "binding"
    with pytest.raises(ProviderRegistrationError, match="cloudflare-workers-ai"):
        hydrated("cloudflare")


@pytest.mark.parametrize("provider", IDS)
def test_every_quirk_has_its_reason_and_date(provider: str) -> None:
    """Beside it for a provider or a protocol; for single models, in the list above them."""
    lines = (DATA / f"{provider}.toml").read_text(encoding="utf-8").splitlines()
    legend = "\n".join(line for line in lines if line.startswith("#   "))
    is_dated = any(line.startswith("# Quirks of single models, 20") for line in lines)
    section = ""
    for line in lines:
        if line.startswith("["):
            section = line
        if section.endswith("quirks]") and " = " in line and not line.startswith("#"):
            reason = line.partition(" # ")[2]
            assert reason, f"{provider}: no reason for {line!r}"
            assert "20" in reason or reason == "as above", f"{provider}: no date for {line!r}"
        if line.startswith("quirks = {") and provider != "simulator":
            assert is_dated
            inner = line.removeprefix("quirks = {").split(" = ")[0].strip()
            assert inner in legend, f"{provider}: {inner} is not explained above the models"


@pytest.mark.parametrize("provider", IDS)
def test_subscriptions_say_where_the_vendor_stands(provider: str) -> None:
    file = catalog()[provider]
    by_login = file.auth.type in ("oauth_pkce", "oauth_device_flow")
    if file.kind == "proprietary" and by_login and provider != "kilo":
        assert file.subscription is not None
        assert len(file.subscription.position) > 60
    for login in file.oauth.values():
        assert not login.client_secret_env or login.client_secret_env.endswith("_CLIENT_SECRET")
