"""Who may put a proxy between a credential and its provider, and what besides requests goes
through it: checks, listings, and a login's own questions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from controlplane.kit.secret import Secret
from providers.catalog.addresses import BadAddress
from providers.catalog.destinations import SecretNeededAgain
from providers.catalog.models import Provider
from providers.catalog.services import add_model, change_registration, register
from providers.credentials.models import Credential
from providers.credentials.pick import applied
from providers.credentials.services import BadCredential, add_credential, change_credential
from providers.health.probe import probe
from providers.inventory.ask import models_of
from providers.oauth.refresh import ensure_fresh
from providers.routing.loader import load_table
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.audit.models import AuditEvent
from tenants.members.models import Tenant
from tests.outbound_proxy import Proxy, running_proxy
from tests.providers.oauth.conftest import Desk, desk, moving, simulator, simulator_door

__all__ = ["desk", "moving", "simulator", "simulator_door"]

pytestmark = [pytest.mark.storage, pytest.mark.django_db]

SECRET = Secret("sk-canary-7f3a9c")
WAY = "http://proxy.example.com:3128"
OTHER = "socks5://proxy.example.org"


@pytest.fixture(autouse=True)
def operator(db: None) -> Iterator[None]:
    with acting_as("command", None, "tests"), scope.platform("tests"):
        yield


@pytest.fixture
def provider(operator: None) -> Provider:
    return register(slug="anthropic", catalog_id="anthropic")


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    with running_proxy() as made:
        yield made


def test_routes_have_it_and_the_audit_log_says_it(provider: Provider, tenant: Tenant) -> None:
    change_registration(provider, proxy_url=OTHER)
    ways = {"own": WAY, "none": "direct", "shared": ""}
    for label, proxy_url in ways.items():
        add_credential(provider=provider, label=label, secret=SECRET, proxy_url=proxy_url)
    target = load_table(tenant.pk).targets["anthropic/claude-opus-5"][0]
    found = {ref.label: applied(target, ref) for ref in target.endpoint.credentials}
    assert {label: one.endpoint.proxy_url for label, one in found.items()} == {
        "own": WAY,
        "none": "",
        "shared": OTHER,
    }
    assert found["own"].spec is target.spec
    assert AuditEvent.objects.filter(after_json__contains=WAY).exists()


def test_c6_whoever_changes_the_way_knows_the_secret(provider: Provider) -> None:
    made = add_credential(provider=provider, label="one", secret=SECRET)
    with pytest.raises(SecretNeededAgain) as caught:
        change_credential(made, proxy_url=WAY)
    assert caught.value.param == "secret"
    change_credential(made, proxy_url=WAY, secret=SECRET)
    with pytest.raises(SecretNeededAgain):
        change_credential(made, proxy_url=OTHER)
    # Nobody new sees anything.
    change_credential(made, proxy_url="direct")
    change_registration(provider, proxy_url=OTHER, secrets={made.pk: SECRET})
    change_credential(made, priority=3)
    with pytest.raises(SecretNeededAgain):
        change_credential(made, proxy_url="")
    # What is not kept here cannot be sent anywhere by who does not hold it.
    listed = add_credential(
        provider=provider, label="two", source="environment", reference="ANTHROPIC_API_KEY"
    )
    change_credential(listed, proxy_url=WAY)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://proxy.example.com", "socks5"),
        ("proxy.example.com", "no address"),
        ("DIRECT", "no address"),
        ("http://ann:pw@proxy.example.com", "password"),
    ],
)
def test_what_is_no_proxy_is_refused(provider: Provider, url: str, said: str) -> None:
    with pytest.raises(BadAddress, match=said):
        add_credential(provider=provider, label="one", secret=SECRET, proxy_url=url)
    assert not Credential.objects.exists()


@pytest.mark.parametrize("host", ["127.0.0.1", "10.1", "[::1]", "169.254.169.254", "db.internal"])
def test_n1_a_tenants_proxy_is_no_private_address(tenant: Tenant, host: str) -> None:
    mine = register(
        slug="mine",
        tenant_id=tenant.id,
        protocol="openai-completions",
        base_url="https://llm.example.com/v1",
    )
    with pytest.raises(BadAddress):
        add_credential(provider=mine, label="one", secret=SECRET, proxy_url=f"http://{host}:3128")
    made = add_credential(provider=mine, label="one", secret=SECRET, proxy_url=WAY)
    assert Credential.objects.get().proxy_url == made.proxy_url == WAY


def test_checks_and_listings_go_through_it(desk: Desk, proxy: Proxy) -> None:
    provider = register(
        slug="acme",
        protocol="openai-completions",
        base_url=f"{desk.simulator.url}/openai/v1",
    )
    add_credential(provider=provider, label="one", secret=Secret("sim-x"), proxy_url=proxy.url)
    add_model(provider=provider, upstream_id="sim-gpt")
    proxy.asked.clear()
    assert models_of(provider)
    assert proxy.asked
    proxy.asked.clear()
    assert probe(provider).is_ok
    assert proxy.asked


def test_a_login_renews_itself_through_it(desk: Desk, proxy: Proxy) -> None:
    login = desk.sign_in(desk.provider(""), "device")
    Credential.objects.filter(pk=login.pk).update(proxy_url=proxy.url)
    proxy.asked.clear()
    ensure_fresh(login.pk, refused=ensure_fresh(login.pk).token)
    assert len(proxy.asked) == 1


def test_a_login_has_one_only_where_nobody_can_read_it_on_the_way(
    desk: Desk, tenant: Tenant
) -> None:
    plain = desk.sign_in(desk.provider(""), "device")
    with pytest.raises(BadCredential, match="public certificates"):
        change_credential(plain, proxy_url=WAY)
    closed = desk.sign_in(desk.provider("kimi-coding"), "device")
    change_credential(closed, proxy_url=WAY)
    assert Credential.objects.get(pk=closed.pk).proxy_url == WAY
    own = register(slug="own", catalog_id="kimi-coding", tenant_id=tenant.id)
    Credential.objects.filter(pk=closed.pk).update(provider=own, proxy_url="")
    closed.refresh_from_db()
    with pytest.raises(BadCredential, match="of the platform"):
        change_credential(closed, proxy_url=WAY)
