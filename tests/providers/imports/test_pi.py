"""pi's files: keys by provider, and providers of one's own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from controlplane.kit.secret import Secret
from providers.bundle.apply import apply, plan
from providers.bundle.document import ProviderEntry
from providers.catalog.models import Provider
from providers.catalog.registrations import effective_of
from providers.credentials.models import Credential
from providers.imports import pi
from providers.imports.found import Imported, UnreadableImport
from tenants import scope as scopes
from tenants.audit.actor import acting_as

AUTH = {
    "openai": {"type": "api_key", "key": "sk-canary-openai"},
    "azure-openai-responses": {
        "type": "api_key",
        "key": "canary-azure",
        "env": {"AZURE_OPENAI_RESOURCE_NAME": "my-resource"},
    },
    "deepseek": {"type": "api_key", "key": "MY_DEEPSEEK_KEY"},
    "groq": {"type": "api_key", "key": "${GROQ_KEY}"},
    "xai": {"type": "api_key", "key": "!op read canary"},
    "anthropic": {"type": "oauth", "access": "canary-a", "refresh": "canary-r", "expires": 1},
    "openai-codex": {"type": "oauth", "access": "canary-a"},
    "nobody": {"type": "api_key", "key": "canary"},
}
MODELS = {
    "providers": {
        "box": {
            "baseUrl": "https://box.example.com/v1",
            "api": "openai-completions",
            "apiKey": "canary-box",
            "headers": {"X-Team": "blue", "X-Secret-Token": "canary-h", "X-V": "$V"},
            "compat": {
                "supportsDeveloperRole": False,
                "maxTokensField": "max_tokens",
                "supportsStrictMode": True,
                "inventedSwitch": True,
            },
            "models": [
                {
                    "id": "big",
                    "name": "Big",
                    "reasoning": True,
                    "input": ["text", "image"],
                    "contextWindow": 128000,
                    "maxTokens": 16384,
                    "cost": {"input": 0.25, "output": 2, "cacheRead": 0.025, "cacheWrite": 0},
                    "thinkingLevelMap": {"low": "l", "high": None},
                    "compat": {"requiresToolResultName": True},
                    "baseUrl": "https://elsewhere.example.com",
                },
                {"id": "free", "cost": {"input": 0, "output": 0}},
            ],
        },
        "relay": {
            "baseUrl": "https://relay.example.com",
            "api": "anthropic-messages",
            "apiKey": "canary-relay",
            "models": [{"id": "claude"}],
        },
        "open-box": {"baseUrl": "https://open.example.com/v1", "api": "openai-completions",
                     "models": [{"id": "m"}]},
        "openai": {"modelOverrides": {"gpt-4o": {"contextWindow": 1000}}},
        "strange": {"baseUrl": "https://x.example.com", "api": "telepathy"},
    }
}  # fmt: skip


def read(auth: Any = AUTH, models: Any = MODELS) -> Imported:
    return pi.read(auth=Secret(json.dumps(auth)), models=Secret(json.dumps(models)))


def entries(found: Imported) -> dict[str, ProviderEntry]:
    return {entry.slug: entry for entry in found.bundle.providers}


def reasons(found: Imported) -> dict[str, str]:
    return {entry.key: entry.reason for entry in found.ignored}


def test_keys_in_their_three_forms() -> None:
    found = read()
    assert found.secrets.keys[("", "openai"), "pi"] == Secret("sk-canary-openai")
    # By another program's name for it, with the identifiers its address needs.
    assert entries(found)["azure"].endpoint == {"resource": "my-resource"}
    for slug, variable in (("deepseek", "MY_DEEPSEEK_KEY"), ("groq", "GROQ_KEY")):
        [credential] = entries(found)[slug].credentials
        assert (credential.source, credential.reference) == ("environment", variable)
    assert "never run" in reasons(found)["xai.key"]
    assert entries(found)["xai"].credentials == []


def test_what_stays_behind_says_why_and_repeats_no_value() -> None:
    said = reasons(read())
    assert "two programs at once" in said["anthropic"]
    assert "sign in there" in said["openai-codex"]
    assert "no provider of this name" in said["nobody"]
    assert "no protocol 'telepathy'" in said["strange"]
    assert said["box.compat.invented_switch"]
    assert "secret header" in said["box.headers.X-V"]
    assert "second registration" in said["box.models.big.baseUrl"]
    assert "canary" not in str(said)


def test_a_provider_of_ones_own() -> None:
    found = read()
    box = entries(found)["box"]
    assert (box.protocol, box.base_url) == ("openai-completions", "https://box.example.com/v1")
    assert (box.headers, box.secret_headers) == ({"X-Team": "blue"}, ["X-Secret-Token"])
    assert box.quirks == {
        "supports_developer_role": False,
        "max_tokens_field": "max_tokens",
        "supports_strict_tools": True,
    }
    big, free = box.models
    assert (big.display_name, big.context_window, big.max_output_tokens) == ("Big", 128000, 16384)
    assert big.facts == {
        "reasoning": True,
        "modalities": ["text", "image"],
        "price": {"input": "0.25", "output": "2", "cache_read": "0.025", "cache_write": "0"},
        "levels": {"low": "l", "high": ""},
        "quirks": {"requires_tool_result_name": True},
    }
    # 0 is pi's word for unknown.
    assert free.facts == {}


def test_a_key_goes_where_the_protocol_wants_it() -> None:
    found = read()
    relay = entries(found)["relay"]
    assert (relay.auth_type, relay.secret_headers, relay.credentials) == ("none", ["x-api-key"], [])
    assert found.secrets.headers["", "relay"] == {"x-api-key": Secret("canary-relay")}
    assert entries(found)["open-box"].auth_type == "none"


def test_overrides_of_a_catalogued_provider() -> None:
    openai = entries(read())["openai"]
    assert openai.catalog_id == "openai"
    assert [(one.upstream_id, one.context_window) for one in openai.models] == [("gpt-4o", 1000)]


@pytest.mark.parametrize(
    "content",
    ["[", "[]", '{"providers": []}', '{"providers": {"a": 1}}', "[" * 100,
     '{"providers": {"a": {"models": [{"id": "m", "contextWindow": "many"}]}}}'],
    ids=["cut", "list", "providers", "provider", "deep", "number"],
)  # fmt: skip
def test_what_is_no_such_file_is_refused(content: str) -> None:
    with pytest.raises(UnreadableImport):
        pi.read(models=Secret(content))


@pytest.mark.storage
@pytest.mark.django_db
class TestApplied:
    @pytest.fixture(autouse=True)
    def in_the_platform(self) -> Iterator[None]:
        with acting_as("command", None, "tests"), scopes.platform("test"):
            yield

    def test_it_works_and_twice_changes_nothing(self) -> None:
        found = read()
        done = apply(found.bundle, secrets=found.secrets)
        assert "canary" not in str(done)
        for provider in Provider.objects.all():
            assert effective_of(provider).base_url
        assert Credential.objects.get(provider__slug="openai").state == Credential.State.ACTIVE
        assert plan(found.bundle, secrets=found.secrets).steps == ()
