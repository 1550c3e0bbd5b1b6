"""A provider's life in the console, in Chromium: registered, tested, looked at, switched off and
removed, without a console error or a CSP violation; and its pages on a phone and in the dark."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from controlplane.kit.secret import Secret
from providers.catalog.models import Provider
from providers.catalog.services import register
from providers.credentials.models import Credential
from providers.credentials.services import add_credential
from providers.health.models import Finding, ProviderCheck
from providers.simulator.app import SimulatorApplication
from providers.simulator.world import World
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.members.models import Tenant, User
from tests.running import served

if TYPE_CHECKING:
    from tests.journeys.conftest import Visitor, VisitorFactory

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

PASSWORD = "a much better passphrase"
KEY = "sim-browser-key-0001"


@pytest.fixture
def admin(transactional_db: None) -> User:
    return User.objects.create_superuser("admin@platform.test", PASSWORD)


@pytest.fixture(scope="module")
def vendors() -> Iterator[str]:
    with served(SimulatorApplication(World())) as url:
        yield url


def sign_in(visitor: Visitor, user: User) -> None:
    visitor.go("/admin/")
    visitor.sign_in(user.email, PASSWORD)
    visitor.page.get_by_role("heading", name="Next steps").wait_for()


@pytest.mark.parametrize("has_scripts", [True, False], ids=["scripts", "no scripts"])
def test_a_provider_from_the_first_click_to_the_last(
    visitors: VisitorFactory, admin: User, vendors: str, settings: Any, has_scripts: bool
) -> None:
    settings.UPSTREAM_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    visitor = visitors(has_scripts=has_scripts)
    page = visitor.page
    sign_in(visitor, admin)
    page.get_by_role("link", name="Add a provider").click()
    page.get_by_role("heading", name="Which provider?").wait_for()
    visitor.picture("30-pick")
    page.get_by_role("link", name="Add your own").click()
    page.get_by_label("Short name").fill("mine")
    page.get_by_label("Protocol").select_option("openai-completions")
    page.get_by_label("Base URL").fill("not an address")
    page.get_by_label("API key", exact=False).last.fill(KEY)
    page.get_by_role("button", name="Register").click()
    page.get_by_text("is no address").wait_for()
    visitor.picture("31-refused")
    assert KEY not in page.content()
    page.get_by_label("Base URL").fill(f"{vendors}/openai/v1")
    page.get_by_label("API key", exact=False).last.fill(KEY)
    page.get_by_role("button", name="Register").click()

    page.get_by_text("mine is registered").wait_for()
    visitor.picture("32-registered")
    page.get_by_role("button", name="Test connection").click()
    page.get_by_text("Works:").first.wait_for()
    page.get_by_role("button", name="Refresh models").click()
    page.get_by_role("heading", name="What a refresh would change").wait_for()
    visitor.picture("33-difference")
    page.get_by_role("button", name="Apply").click()
    page.get_by_text("brought up to date").wait_for()
    page.get_by_label("sim-gpt", exact=True).check()
    page.get_by_role("button", name="Switch on").click()
    page.get_by_text("1 model switched on").wait_for()
    visitor.picture("34-models")
    page.get_by_role("searchbox", name="Find a model").fill("embedding")
    page.get_by_role("searchbox", name="Find a model").press("Enter")
    page.get_by_role("link", name="sim-embedding").first.wait_for()
    assert page.get_by_role("link", name="sim-gpt", exact=True).count() == 0

    page.get_by_role("button", name="Disable now").click()
    page.get_by_text("mine is off.").wait_for()
    with scope.platform("test"):
        assert not Provider.objects.get().is_enabled
    page.get_by_role("link", name="Remove", exact=True).click()
    page.get_by_text("1 credential and what it holds: default").wait_for()
    visitor.picture("35-remove")
    page.get_by_role("button", name="Remove").click()
    page.get_by_text("mine is removed").wait_for()
    visitor.picture("36-none")
    with scope.platform("test"):
        assert not Provider.objects.exists()
        assert not Credential.objects.exists()


@pytest.fixture
def furnished(admin: User) -> Provider:
    with acting_as("command", None, "tests"), scope.platform("tests"):
        Tenant.objects.create(slug="acme", name="Acme Corporation")
        provider = register(slug="openai", catalog_id="openai")
        add_credential(provider=provider, label="default", secret=Secret(KEY))
        for number in range(60):
            is_ok = number % 9 != 0
            ProviderCheck.objects.create(
                provider=provider,
                is_ok=is_ok,
                finding=Finding.WORKS if is_ok else Finding.TIMEOUT,
                sentence="It works." if is_ok else "No answer within 30 seconds.",
                milliseconds=120 + number,
            )
        own = register(
            slug="vllm", protocol="openai-completions", base_url="https://vllm.example.com/v1"
        )
        stuck = add_credential(provider=own, label="old", secret=Secret(KEY))
        Credential.objects.filter(pk=stuck.pk).update(
            state=Credential.State.NEEDS_LOGIN, state_reason="The provider refused the key."
        )
    return provider


# Other journeys see the light; it is as wide as the dark.
@pytest.mark.parametrize("is_phone", [True, False], ids=["phone", "desk"])
def test_every_page_of_the_registry_fits_phone_and_dark(
    visitors: VisitorFactory, furnished: Provider, admin: User, is_phone: bool
) -> None:
    visitor = visitors(is_phone=is_phone, is_dark=True)
    visitor.go("/admin/")
    visitor.sign_in(admin.email, PASSWORD)
    visitor.page.get_by_role("heading", name="Next steps").wait_for()
    with scope.platform("test"):
        credential = Credential.objects.get(label="old")
    base, row = "/admin/providers", furnished.pk
    prefix = f"{'phone' if is_phone else 'desk'}-dark"
    too_wide = []
    for name, path in {
        "providers": f"{base}/provider/",
        "provider": f"{base}/provider/{row}/change/",
        "provider-settings": f"{base}/provider/{row}/settings/",
        "provider-sharing": f"{base}/provider/{row}/sharing/",
        "provider-remove": f"{base}/provider/{row}/remove/",
        "provider-pick": f"{base}/provider/add/",
        "provider-new": f"{base}/provider/add/?type=azure",
        "capabilities": f"{base}/provider/capabilities/",
        "credentials": f"{base}/credential/",
        "credential": f"{base}/credential/{credential.pk}/change/",
        "new-credential": f"{base}/credential/add/?provider={row}",
        "new-model": f"{base}/providermodel/add/?provider={row}",
    }.items():
        visitor.go(path)
        visitor.page.get_by_role("heading").first.wait_for()
        visitor.picture(f"{prefix}-{name}")
        if visitor.is_too_wide:
            too_wide.append(name)
    assert not too_wide
