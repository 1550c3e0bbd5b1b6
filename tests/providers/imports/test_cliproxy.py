"""A config.yaml of CLIProxyAPI: every key is taken over, or reported with its reason."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from controlplane.kit.secret import Secret
from providers.bundle.apply import apply, plan
from providers.bundle.document import ProviderEntry
from providers.bundle.text import UnreadableText
from providers.catalog.loader import catalog
from providers.catalog.models import Provider
from providers.catalog.policy import own_policy, set_policy
from providers.catalog.registrations import effective_of
from providers.credentials.sources import secret_headers_of, secret_of
from providers.imports import cliproxy
from providers.imports.found import Imported, UnreadableImport
from providers.routing.loader import load_table
from tenants import scope as scopes
from tenants.audit.actor import acting_as
from tenants.audit.models import AuditEvent
from tenants.members.models import Tenant

CONFIG = """
host: ""
port: 8317
api-keys: [sk-client-canary]
remote-management: {allow-remote: false, secret-key: canary-management}
force-model-prefix: true
proxy-url: http://proxy.example.com:3128
transient-error-cooldown-seconds: 0
routing: {strategy: round-robin}
request-retry: 3
quota-exceeded: {switch-project: true}
oauth-model-alias: {kiro: [{name: a, alias: b}]}
payload: {default: []}
some-new-key: canary-value
claude-api-key:
  - api-key: sk-ant-canary-1
    models: [{name: claude-opus-5, alias: best}, {name: claude-haiku-5-5, alias: best}]
  - api-key: sk-ant-canary-2
    models: [{name: claude-opus-5, alias: best}, {name: claude-haiku-5-5, alias: best}]
    weight: 5
  - api-key: sk-relay-canary
    prefix: relay
    base-url: https://relay.example.com/
    proxy-url: direct
    headers: {X-Team: blue, X-Api-Token: canary-header, X-Caller: $X-Caller}
    excluded-models: ["claude-3*", "*preview*"]
    cloak: {mode: auto}
gemini-api-key:
  - api-key: AIza-canary
    base-url: https://gemini.example.com
codex-api-key:
  - {api-key: sk-codex-canary, base-url: "https://codex.example.com/v1", websockets: true}
mistral:
  - {api-key: mistral-canary, base-url: "https://mistral.example.com/v1"}
groq:
  - {token-file: /run/secrets/groq}
openai-compatibility:
  - name: Open Router
    base-url: https://openrouter.ai/api/v1
    api-key-entries:
      - {api-key: sk-or-canary, proxy-url: "socks5://other.example.com:1"}
      - {api-key: sk-or-canary-2, proxy-url: direct}
      - {api-key: sk-or-canary-3}
      - {api-key: sk-or-canary-4, proxy-url: "https://ann:canary@proxy.example.com"}
  - name: local box
    base-url: http://box.example.com:8000/v1
    disabled: true
    support-prompt-cache-key: true
    disable-cooling: true
    models:
      - {name: big, alias: gpt, force-mapping: true, max-context-length: 4096,
         display-name: Big, is-compat: true, thinking: {levels: [low, high]}}
      - {name: small, alias: gpt, force-mapping: true}
kiro:
  - {token-file: /home/me/kiro.json, region: eu-west-1, refresh-token: canary-refresh}
"""


def read(content: str = CONFIG, **options: Any) -> Imported:
    return cliproxy.read(Secret(content), **options)


def entries(found: Imported) -> dict[str, ProviderEntry]:
    return {entry.slug: entry for entry in found.bundle.providers}


def reasons(found: Imported) -> dict[str, str]:
    return {entry.key: entry.reason for entry in found.ignored}


def test_keys_that_differ_only_in_whose_they_are_share_a_registration() -> None:
    found = read()
    claude = entries(found)["anthropic"]
    assert [(one.label, one.weight) for one in claude.credentials] == [
        ("cliproxy 1", 1),
        ("cliproxy 2", 5),
    ]
    assert found.secrets.keys[("", "anthropic"), "cliproxy 2"] == Secret("sk-ant-canary-2")
    assert claude.proxy_url == "http://proxy.example.com:3128"
    assert claude.cooldown_seconds == 60
    # Their list means these and no others.
    assert "claude-opus-5" not in claude.excluded_models
    offered = {model.id for model in catalog()["anthropic"].models if not model.is_retired}
    assert offered - set(claude.excluded_models) == {"claude-opus-5", "claude-haiku-5-5"}


def test_an_address_of_its_own_changes_how_the_key_is_shown() -> None:
    found = entries(read())
    relay = found["anthropic-relay"]
    assert (relay.base_url, relay.auth_type, relay.prefix) == (
        "https://relay.example.com",
        "bearer_token",
        "relay",
    )
    assert not relay.proxy_url
    assert relay.excluded_models == ["claude-3*", "*preview*"]
    assert found["google"].base_url == "https://gemini.example.com/v1beta"
    assert found["openai"].protocol == "openai-responses"
    assert (found["mistral"].protocol, found["mistral"].catalog_id) == (
        "openai-completions",
        "mistral",
    )


def test_a_proxy_is_the_registrations_where_all_keys_agree_and_else_a_keys_own() -> None:
    known = entries(read())["open-router"]
    assert known.proxy_url == "http://proxy.example.com:3128"
    ways = ["socks5://other.example.com:1", "direct", "", ""]
    assert [one.proxy_url for one in known.credentials] == ways
    agreed = """
proxy-url: http://proxy.example.com
groq:
  - {api-key: a, proxy-url: "http://other.example.com"}
  - {api-key: b, proxy-url: "http://other.example.com"}
mistral: [{api-key: c, proxy-url: none}]
kiro: [{token-file: /k.json}, {token-file: /l.json, proxy-url: direct}]
"""
    found = entries(read(agreed))
    assert found["groq"].proxy_url == "http://other.example.com"
    assert [one.proxy_url for one in found["groq"].credentials] == ["", ""]
    assert not found["mistral"].proxy_url
    assert found["kiro"].proxy_url == "http://proxy.example.com"
    assert not found["kiro-2"].proxy_url


def test_headers_that_look_secret_are_and_those_of_callers_are_not_copied() -> None:
    found = read()
    relay = entries(found)["anthropic-relay"]
    assert relay.headers == {"X-Team": "blue"}
    assert relay.secret_headers == ["X-Api-Token"]
    assert found.secrets.headers["", "anthropic-relay"] == {"X-Api-Token": Secret("canary-header")}
    assert "never sent on" in reasons(found)["claude-api-key[2].headers.X-Caller"]


def test_compatible_providers() -> None:
    found = read()
    known, own = entries(found)["open-router"], entries(found)["local-box"]
    # Known by its address: it brings facts and prices along.
    assert (known.catalog_id, known.name) == ("openrouter", "Open Router")
    assert (own.protocol, own.is_enabled, own.cooldown_seconds) == ("openai-completions", False, 0)
    assert own.quirks == {"supports_prompt_cache_key": "enabled"}
    big = own.models[0]
    assert (big.upstream_id, big.alias, big.context_window, big.display_name) == (
        "big", "gpt", 4096, "Big",
    )  # fmt: skip
    assert big.facts["levels"] == {"low": "low", "high": "high"}
    [alias] = found.bundle.aliases
    assert (alias.name, alias.is_reported_as_alias) == ("gpt", True)
    assert [(one.provider, one.model) for one in alias.targets] == [
        ("local-box", "big"),
        ("local-box", "small"),
    ]


def test_files_of_tokens_stay_references_and_subscriptions_start_switched_off() -> None:
    found = read()
    [groq] = entries(found)["groq"].credentials
    assert (groq.source, groq.reference) == ("file", "/run/secrets/groq")
    kiro = entries(found)["kiro"]
    assert (kiro.is_enabled, kiro.auth_type) == (False, "token_file")
    assert kiro.endpoint == {"oidc_region": "eu-west-1"}
    assert "sign in again" in reasons(found)["kiro[0].refresh-token"]


def test_every_key_that_stays_behind_has_its_reason() -> None:
    said = reasons(read())
    for key in (
        *("host", "port", "api-keys", "remote-management", "routing", "request-retry"),
        *("quota-exceeded", "oauth-model-alias", "payload", "claude-api-key[2].cloak"),
        *("codex-api-key[0].websockets", "openai-compatibility[0].api-key-entries[3].proxy-url"),
    ):
        assert said[key], key
        assert said[key] != "This key is not known here.", key
    assert said["some-new-key"] == "This key is not known here."
    assert "canary" not in str(said)


@pytest.mark.parametrize(
    "content",
    ["- a", "claude-api-key: 1", "claude-api-key: [1]", "groq: [{api-key: [x]}]",
     "groq: [{api-key: x, weight: heavy}]", "kiro: {a: b}"],
)  # fmt: skip
def test_what_is_no_such_file_is_refused(content: str) -> None:
    with pytest.raises(UnreadableImport):
        read(content)


def test_a_tagged_file_is_refused() -> None:
    with pytest.raises(UnreadableText):
        read("groq: !!python/object/apply:os.system [x]")


@pytest.mark.storage
@pytest.mark.django_db
class TestApplied:
    @pytest.fixture(autouse=True)
    def in_the_platform(self) -> Iterator[None]:
        with acting_as("command", None, "tests"), scopes.platform("test"):
            yield

    def test_it_works_and_twice_changes_nothing(self, tenant: Tenant) -> None:
        found = read()
        done = apply(found.bundle, secrets=found.secrets)
        assert not done.problems
        assert "canary" not in str(done)
        for provider in Provider.objects.all():
            assert effective_of(provider).base_url
            assert provider.owned_by == ""
            assert provider.owned_fields == {}
        relay = Provider.objects.get(slug="anthropic-relay")
        assert secret_headers_of(str(relay.pk)) == {"X-Api-Token": Secret("canary-header")}
        [key] = relay.credentials.all()
        assert secret_of(str(key.pk)) == Secret("sk-relay-canary")
        assert plan(found.bundle, secrets=found.secrets).steps == ()
        # Both models answer to their one name: a pool.
        targets = load_table(tenant.pk).targets["anthropic/best"]
        assert {target.spec.id for target in targets} == {"claude-opus-5", "claude-haiku-5-5"}
        for event in AuditEvent.objects.all():
            assert "canary" not in event.after_json + event.before_json

    def test_into_a_tenant(self, tenant: Tenant) -> None:
        set_policy(own_policy(tenant.pk), shows_prices=False)
        content = "groq: [{api-key: k}, {token-file: /etc/passwd}]\nforce-model-prefix: true"
        found = read(content, tenant=tenant.slug)
        done = apply(found.bundle, secrets=found.secrets)
        assert [str(step) for step in done.steps] == [
            f"change policy {tenant.slug}",
            f"create registration {tenant.slug}:groq",
            f"create credential {tenant.slug}:groq/cliproxy 1",
        ]
        assert "the operator's" in reasons(found)["groq/cliproxy 2"]
        policy = own_policy(tenant.pk)
        assert (policy.force_model_prefix, policy.shows_prices) == (True, False)
        assert Provider.objects.get().tenant_id == tenant.pk

    def test_another_address_later_brings_its_secret(self) -> None:
        def one(host: str, key: str) -> Imported:
            return read(f"groq: [{{api-key: {key}, base-url: 'https://{host}/v1'}}]")

        first, second = one("a.example.com", "k1"), one("b.example.com", "k2")
        apply(first.bundle, secrets=first.secrets)
        apply(second.bundle, secrets=second.secrets)
        [key] = Provider.objects.get().credentials.all()
        assert secret_of(str(key.pk)) == Secret("k2")
