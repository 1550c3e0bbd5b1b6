"""Registrations as a service: what replaces what, what is refused and in which words, who must
know the secret again, and that every change is recorded and heard."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.exceptions import ValidationError

from controlplane.kit.secret import Secret
from providers.catalog import services
from providers.catalog.addresses import BadAddress
from providers.catalog.effective import ProviderRegistrationError
from providers.catalog.models import Provider, ProviderShare
from providers.catalog.registrations import effective_of
from providers.catalog.services import (
    SecretNeededAgain,
    SlugTaken,
    VersionConflict,
    change_registration,
    register,
    remove,
    replace_registration,
    set_enabled,
    share,
)
from providers.catalog.urls import IdentifierError
from providers.credentials.models import Credential
from providers.credentials.services import store_key
from providers.credentials.sources import secret_headers_of as headers_by_id
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.audit.models import AuditEvent
from tenants.members.models import Tenant
from tenants.revisions.services import current

pytestmark = [pytest.mark.storage, pytest.mark.django_db]

CUSTOM = {"protocol": "openai-completions", "base_url": "https://llm.example.com/v1"}


@pytest.fixture(autouse=True)
def operator(db: None) -> Iterator[None]:
    with acting_as("command", None, "tests"), scope.platform("tests"):
        yield


def secret_headers_of(provider: Provider) -> dict[str, Secret]:
    return headers_by_id(str(provider.pk))


def actions() -> list[str]:
    return list(AuditEvent.objects.order_by("created_at").values_list("action", flat=True))


# --- hydration and replacement -------------------------------------------------------------------


def test_a_known_id_hydrates_and_the_registration_wins_per_key() -> None:
    provider = register(
        slug="openrouter", catalog_id="openrouter", headers={"X-Title": "ours", "x-own": "1"}
    )
    found = effective_of(provider)
    assert (found.protocol, found.base_url) == (
        "openai-completions",
        "https://openrouter.ai/api/v1",
    )
    assert found.headers["X-Title"] == "ours"
    assert found.origins["headers.x-title"] == "platform"
    assert found.origins["base_url"] == "catalog"
    assert (provider.kind, provider.name) == ("aggregator", "OpenRouter")


def test_another_name_of_a_provider_finds_the_same_file() -> None:
    assert register(slug="mine", catalog_id="claude").catalog_id == "anthropic"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "give protocol and base_url"),
        ({"protocol": "openai-completions"}, "give base_url"),
        ({"base_url": "https://llm.example.com"}, "give protocol"),
        ({"catalog_id": "nothing"}, "The catalog has no 'nothing'"),
        ({**CUSTOM, "protocol": "smoke"}, "There is no protocol 'smoke'"),
        ({**CUSTOM, "auth_type": "magic"}, "no auth type 'magic'"),
        ({"catalog_id": "cloudflare"}, "Workers"),
        ({"catalog_id": "openai", "endpoint": {"regoin": "x"}}, "no identifier 'regoin'"),
    ],
)
def test_what_could_not_work_is_refused_and_says_what_is_missing(
    values: dict[str, Any], said: str
) -> None:
    with pytest.raises(ProviderRegistrationError, match=said):
        register(slug="acme", **values)
    assert not Provider.objects.exists()
    assert actions() == []


def test_an_identifier_of_the_wrong_form_is_refused() -> None:
    for bad in ("a#b", "a@b", "a/b", "a\r\nb", "a%2fb", "..", "evil.com?x"):
        with pytest.raises((IdentifierError, ValidationError)):
            register(slug="azure", catalog_id="azure", endpoint={"resource": bad})


def test_each_registration_replaces_the_one_before_and_nothing_accumulates() -> None:
    provider = register(
        slug="openai",
        catalog_id="openai",
        headers={"x-first": "1"},
        priority=5,
        excluded_models=["gpt-3*"],
        secret_headers={"x-internal-token": Secret("one")},
    )
    replace_registration(provider, catalog_id="openai", headers={"x-second": "2"})
    provider.refresh_from_db()
    assert provider.headers == {"x-second": "2"}
    assert (provider.priority, provider.excluded_models) == (0, [])
    assert (provider.sealed_headers, provider.sealed_header_names) == (None, [])
    assert "x-first" not in effective_of(provider).headers


def test_a_slug_is_taken_once_per_owner(tenant: Tenant) -> None:
    register(slug="acme", **CUSTOM)
    register(slug="acme", tenant_id=tenant.id, **CUSTOM)
    for owner in (None, tenant.id):
        with pytest.raises(SlugTaken, match="'acme' already"):
            register(slug="acme", tenant_id=owner, **CUSTOM)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("headers", {"x y": "1"}, "no name of a header"),
        ("headers", {"x": "a\r\nb"}, "cannot be sent"),
        ("headers", {"X-A": "1", "x-a": "2"}, "stands twice"),
        ("headers", {"Host": "evil"}, "decided by the connection"),
        ("headers", {"Authorization": "Bearer x"}, "looks like a secret"),
        ("headers", {"x": 1}, "is a text"),
        ("features", {"flying": True}, "no feature 'flying'"),
        ("features", {"vision": "yes"}, "true or false"),
        ("limits", {"speed": 1}, "no limit 'speed'"),
        ("limits", {"requests_per_minute": -1}, "whole number"),
        ("limits", {"requests_per_minute": True}, "whole number"),
        ("quirks", {"be_nice": True}, "no quirk 'be_nice'"),
        ("quirks", {"supports_temperature": "often"}, "Expected"),
        ("excluded_models", "gpt-*", "Give a list"),
        ("excluded_models", [1], "list of names"),
        ("headers", [], "Give an object"),
        ("excluded_models", [""], "no name of a model"),
        ("endpoint", {"Region": "x"}, "no name of an identifier"),
        ("ca_certificate", "hello", "no certificates"),
        ("weight", 2_000_000, "1000000"),
        ("connect_timeout_seconds", 0.0, "0.1"),
        ("prefix", "Not A Slug", "lower-case"),
    ],
)
def test_a_field_of_the_wrong_form_is_refused_by_name(field: str, value: Any, said: str) -> None:
    with pytest.raises(ValidationError, match=said) as caught:
        register(slug="acme", **CUSTOM, **{field: value})
    assert set(caught.value.message_dict) == {field}


# --- changes -------------------------------------------------------------------------------------


def test_two_people_do_not_overwrite_each_other() -> None:
    provider = register(slug="acme", **CUSTOM)
    other = Provider.objects.get(pk=provider.pk)
    change_registration(provider, priority=1)
    assert provider.version == 2
    with pytest.raises(VersionConflict):
        change_registration(other, priority=2)
    with pytest.raises(VersionConflict):
        change_registration(provider, expected_version=1, priority=3)
    assert Provider.objects.get().priority == 1


def test_a_change_that_could_not_work_changes_nothing() -> None:
    provider = register(slug="acme", **CUSTOM)
    with pytest.raises(ProviderRegistrationError):
        change_registration(provider, protocol="")
    with pytest.raises(TypeError, match="no slug"):
        change_registration(provider, slug="other")
    assert Provider.objects.get().version == 1


def test_on_and_off_is_said_once() -> None:
    provider = register(slug="acme", **CUSTOM)
    assert set_enabled(provider, is_enabled=False)
    assert not set_enabled(provider, is_enabled=False)
    assert (provider.is_enabled, provider.version) == (False, 2)
    assert actions() == ["provider.registered", "provider.disabled"]


def test_every_change_is_heard_and_recorded_with_what_changed() -> None:
    provider = register(slug="acme", **CUSTOM)
    seen = [current()["registrations"]]
    change_registration(provider, priority=7, headers={"x-a": "1"})
    seen.append(current()["registrations"])
    event = AuditEvent.objects.get(action="provider.changed")
    assert event.before == {"headers": {}, "priority": 0}
    assert event.after == {"headers": {"x-a": "1"}, "priority": 7}
    remove(provider)
    seen.append(current()["registrations"])
    assert seen == sorted(set(seen))
    assert actions()[-1] == "provider.removed"
    assert not Provider.objects.exists()


def test_sharing_with_chosen_tenants(tenant: Tenant, other_tenant: Tenant) -> None:
    provider = register(slug="acme", **CUSTOM)
    share(provider, with_all=False, tenants=[tenant, other_tenant])
    share(provider, with_all=False, tenants=[tenant])
    assert [row.tenant_id for row in ProviderShare.objects.all()] == [tenant.id]
    assert not Provider.objects.get().is_shared_with_all
    event = AuditEvent.objects.filter(action="provider.shared").latest("sequence")
    assert event.after == {"with_all": False, "tenants": [str(tenant.id)]}
    own = register(slug="own", tenant_id=tenant.id, **CUSTOM)
    with pytest.raises(ProviderRegistrationError, match="belongs to one tenant"):
        share(own, with_all=True)


# --- secrets -------------------------------------------------------------------------------------


def test_secret_headers_are_sealed_and_only_their_names_show() -> None:
    provider = register(
        slug="acme", **CUSTOM, secret_headers={"X-Team-Key": Secret("t0p"), "a": Secret("b")}
    )
    assert provider.sealed_header_names == ["a", "X-Team-Key"]
    assert b"t0p" not in (provider.sealed_headers or b"")
    opened = secret_headers_of(provider)
    assert {name: value.reveal() for name, value in opened.items()} == {
        "X-Team-Key": "t0p",
        "a": "b",
    }
    assert "t0p" not in str(AuditEvent.objects.values_list("after_json", flat=True))
    change_registration(provider, name="Acme")
    assert secret_headers_of(Provider.objects.get()).keys() == {"X-Team-Key", "a"}
    change_registration(provider, secret_headers={})
    assert secret_headers_of(Provider.objects.get()) == {}
    with pytest.raises(ValidationError, match="cannot be sent"):
        change_registration(provider, secret_headers={"x": Secret("a\nb")})


MOVES: list[dict[str, Any]] = [
    {"base_url": "http://llm.example.com/v1"},
    {"base_url": "https://llm.example.org/v1"},
    {"base_url": "https://llm.example.com:8443/v1"},
    {"proxy_url": "http://proxy.example.com:3128"},
]


@pytest.mark.parametrize("move", MOVES)
def test_a_secret_is_not_sent_elsewhere_by_somebody_who_does_not_know_it(
    move: dict[str, Any],
) -> None:
    provider = register(slug="acme", **CUSTOM)
    credential = store_key(provider=provider, label="one", secret=Secret("sk-right"))
    sealed = credential.sealed
    with pytest.raises(SecretNeededAgain, match="secret of 'one' again"):
        change_registration(provider, **move)
    for secrets in ({}, {uuid.uuid4(): Secret("sk-right")}, {credential.pk: Secret("")}):
        with pytest.raises(SecretNeededAgain):
            change_registration(provider, secrets=secrets, **move)
    assert Provider.objects.get().version == 1
    change_registration(provider, secrets={credential.pk: Secret("sk-right")}, **move)
    assert Credential.objects.get().sealed == sealed


def test_another_secret_takes_the_place_of_the_one_that_must_not_go_there() -> None:
    from providers.credentials.sources import unsealed

    provider = register(slug="acme", **CUSTOM)
    credential = store_key(provider=provider, label="one", secret=Secret("sk-old"))
    change_registration(
        provider,
        base_url="https://evil.example.org",
        secrets={credential.pk: Secret("sk-new")},
    )
    assert unsealed(Credential.objects.get()).reveal() == "sk-new"
    assert actions()[-2:] == ["credential.replaced", "provider.changed"]


def test_path_and_all_else_may_change_without_the_secret() -> None:
    provider = register(slug="acme", **CUSTOM)
    store_key(provider=provider, label="one", secret=Secret("sk-right"))
    change_registration(provider, base_url="https://LLM.example.com/v2/", priority=3)
    assert Provider.objects.get().base_url == "https://LLM.example.com/v2"


def test_an_identifier_that_moves_the_host_needs_the_secret_too() -> None:
    provider = register(slug="azure", catalog_id="azure", endpoint={"resource": "ours"})
    store_key(provider=provider, label="one", secret=Secret("sk-right"))
    with pytest.raises(SecretNeededAgain):
        change_registration(provider, endpoint={"resource": "theirs"})
    change_registration(provider, endpoint={"resource": "ours", "api_version": "preview"})


def test_leaving_a_proxy_needs_no_secret_but_taking_another_does() -> None:
    provider = register(slug="acme", **CUSTOM, proxy_url="http://proxy.example.com:3128")
    store_key(provider=provider, label="one", secret=Secret("sk-right"))
    with pytest.raises(SecretNeededAgain):
        change_registration(provider, proxy_url="http://proxy.example.org:3128")
    change_registration(provider, proxy_url="")


def test_secret_headers_are_given_again_when_the_host_moves() -> None:
    provider = register(slug="acme", **CUSTOM, secret_headers={"x-team": Secret("t0p")})
    with pytest.raises(SecretNeededAgain, match="secret headers again"):
        change_registration(provider, base_url="https://evil.example.org")
    change_registration(
        provider,
        base_url="https://other.example.org",
        secret_headers={"x-team": Secret("new")},
    )
    assert secret_headers_of(Provider.objects.get())["x-team"].reveal() == "new"


# --- addresses of tenants ------------------------------------------------------------------------

# Sixty ways to write a private, metadata or reserved address, or a name for one (bar N1).
PRIVATE = [
    *("127.0.0.1", "127.1", "127.0.1", "0x7f.1", "0x7f000001", "2130706433", "017700000001"),
    *("0177.0.0.1", "127.000.000.001", "0x7f.0x0.0x0.0x1", "00000177.1", "127.0.0.1.", "0"),
    *("0.0.0.0", "0.0.0.0.", "0x0", "localhost", "LOCALHOST", "localhost.", "a.localhost"),
    *("10.0.0.1", "10.1", "167772161", "0xa000001", "172.16.0.1", "172.31.255.255", "192.168.0.1"),
    *("192.168.257", "3232235521", "0xc0a80001", "0300.0250.0.1", "100.64.0.1", "169.254.169.254"),
    *("169.254.43518", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "0xa9.254.169.254"),
    *("100.100.100.200", "168.63.129.16", "192.0.0.192", "198.18.0.1", "224.0.0.1", "240.0.0.1"),
    *("255.255.255.255", "[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]"),
    *("[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::a9fe:a9fe]", "[fe80::1]", "[fc00::1]"),
    *("[fd00:ec2::254]", "[2002:7f00:1::]", "[ff02::1]", "metadata", "metadata.google.internal"),
    *("router.lan", "printer.local", "db.internal"),
]


@pytest.mark.parametrize("scheme", ["http", "socks5", "socks5h"])
def test_a_tenant_may_go_out_through_a_proxy_of_its_own(tenant: Tenant, scheme: str) -> None:
    url = f"{scheme}://proxy.example.com:3128"
    made = register(slug="mine", tenant_id=tenant.id, **CUSTOM, proxy_url=url)
    assert made.proxy_url == url
    for wrong in ("https://proxy.example.com", "ftps://proxy.example.com"):
        with pytest.raises(BadAddress, match="socks5"):
            change_registration(made, proxy_url=wrong)


def test_there_are_sixty_spellings() -> None:
    assert len(set(PRIVATE)) >= 60


@pytest.mark.parametrize("host", PRIVATE)
def test_a_tenant_cannot_register_a_private_address(tenant: Tenant, host: str) -> None:
    for url in (f"https://{host}/v1", f"https://{host}:8080"):
        with pytest.raises(BadAddress):
            register(slug="mine", tenant_id=tenant.id, protocol="openai-completions", base_url=url)
    with pytest.raises(BadAddress):
        register(slug="mine", tenant_id=tenant.id, **CUSTOM, proxy_url=f"http://{host}:3128")
    assert not Provider.objects.exists()


@pytest.mark.parametrize(
    "url",
    [
        "https://user:pw@llm.example.com",
        "https://llm.example.com@evil.example.org",
        "https://llm.example.com#@evil.example.org",
        "https://llm.example.com?x=1",
        "https://llm.example.com\\@evil",
        "https://llm.example.com/a b",
        "https://llm.example.com/\r\nHost: evil",
        "https://llm.example.com/../admin",
        "https://llm.example.com/%2e%2e/admin",
        "https://llm.example.com/%2Fadmin",
        "https://llm.example.com/%zz",
        "https://llm.example.com:99999",
        "https://llm.example.com:0",
        "https://llm.example.com:x",
        "https://",
        "https:///v1",
        "//llm.example.com",
        "ftp://llm.example.com",
        "file:///etc/passwd",
        "gopher://llm.example.com",
        "javascript:alert(1)",
        "https://-llm.example.com",
        "https://llm..example.com",
        "https://exämple.com",
        "https://[::1",
        "https://[zz]",
        "https://{region}.example.com",
        "https://" + "a" * 600,
    ],
)
def test_what_is_no_base_url_is_refused_for_everybody(tenant: Tenant, url: str) -> None:
    for owner in (None, tenant.id):
        with pytest.raises((BadAddress, IdentifierError, ValidationError)):
            register(slug="mine", tenant_id=owner, protocol="openai-completions", base_url=url)


def test_http_and_private_names_are_for_networks_the_operator_opened(
    tenant: Tenant, settings: Any
) -> None:
    own = {"tenant_id": tenant.id, "protocol": "openai-completions"}
    with pytest.raises(BadAddress, match="unencrypted"):
        register(slug="mine", base_url="http://llm.example.com", **own)
    settings.UPSTREAM_ALLOWED_NETWORKS = ["10.0.0.0/8"]
    with pytest.raises(BadAddress, match="not opened for tenants"):
        register(slug="mine", base_url="https://10.0.0.5", **own)
    settings.UPSTREAM_ALLOWED_NETWORKS_FOR_TENANTS = ["10.0.0.0/8"]
    register(slug="one", base_url="http://10.0.0.5:8000/v1", **own)
    register(slug="two", base_url="http://llm.internal/v1", **own)
    with pytest.raises(BadAddress):
        register(slug="three", base_url="http://192.168.0.5", **own)


def test_a_ready_made_local_entry_is_not_a_way_around(tenant: Tenant) -> None:
    with pytest.raises(BadAddress, match="not opened for tenants"):
        register(slug="mine", tenant_id=tenant.id, catalog_id="ollama")
    assert register(slug="ollama", catalog_id="ollama").pk


def test_a_service_does_not_reach_over_the_scope(tenant: Tenant, other_tenant: Tenant) -> None:
    from tenants.errors import NoScope

    theirs = register(slug="theirs", tenant_id=other_tenant.id, **CUSTOM)
    ours = register(slug="ours", **CUSTOM)
    with scope.tenant(tenant.id):
        with pytest.raises((NoScope, Provider.DoesNotExist)):
            change_registration(theirs, priority=1)
        # PostgreSQL does not even show the row to who wants to lock it.
        with pytest.raises((NoScope, VersionConflict, Provider.DoesNotExist)):
            change_registration(ours, priority=1)
        with pytest.raises(NoScope):
            register(slug="x", tenant_id=other_tenant.id, **CUSTOM)
    assert services.shown(Provider.objects.get(pk=ours.pk))["priority"] == 0
