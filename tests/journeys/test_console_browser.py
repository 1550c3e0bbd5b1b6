"""The console as a person meets it, in Chromium: no console error, no CSP violation, nothing
loaded from elsewhere, on a desk and on a phone, in light and in dark."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from allauth.mfa.totp.internal import auth as totp

from controlplane.console.sign_in.models import SignInSlot, SpentCode
from controlplane.kit import clock
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.keys import services as keys
from tenants.keys.models import ApiKey
from tenants.members import people
from tenants.members import services as members
from tenants.members.models import Membership, Tenant, User
from tests.controlplane.console.payloads import PAYLOADS

if TYPE_CHECKING:
    from tests.journeys.conftest import Visitor, VisitorFactory

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

ONE_TIME = "first-one-time-password"
CHOSEN = "a much better passphrase"


@pytest.fixture
def first_admin(transactional_db: None) -> User:
    return User.objects.create_superuser("admin@platform.test", ONE_TIME, must_change_password=True)


def test_from_a_one_time_password_to_a_working_key(
    visitors: VisitorFactory, first_admin: User
) -> None:
    visitor = visitors()
    page = visitor.page
    visitor.go("/admin/")
    visitor.picture("01-sign-in")
    visitor.sign_in(first_admin.email, ONE_TIME)

    page.get_by_role("heading", name="Choose your own password").wait_for()
    visitor.picture("02-first-password")
    visitor.go("/admin/")
    page.get_by_role("heading", name="Choose your own password").wait_for()
    page.get_by_label("Current password").fill(ONE_TIME)
    page.get_by_label("New password", exact=True).fill(CHOSEN)
    page.get_by_label("New password, again").fill(CHOSEN)
    page.get_by_role("button", name="Save the new password").click()

    page.get_by_role("heading", name="Next steps").wait_for()
    visitor.picture("03-overview-empty")
    page.get_by_role("link", name="Create a tenant").click()
    page.locator("#id_slug").fill("acme")
    page.locator("#id_name").fill("Acme Corporation")
    visitor.picture("04-tenant-form")
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_text("was added successfully").wait_for()
    visitor.picture("05-tenants")
    with scope.platform("test"):
        tenant = Tenant.objects.get(slug="acme")

    visitor.go(f"/admin/tenants/apikey/add/?tenant={tenant.pk}")
    page.locator("#id_label").fill("build server")
    visitor.picture("06-key-form")
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_text("only time it is shown").wait_for()
    visitor.picture("07-key-shown-once")
    token = page.get_by_label("The new key").input_value()
    assert re.fullmatch(r"pcp_live_\w+", token)
    assert token in page.locator("#shown-example").inner_text()
    page.get_by_role("link", name="Done, I have stored it").click()
    page.get_by_text("build server").first.wait_for()
    visitor.picture("08-key")
    assert token not in page.content()
    with scope.platform("test"):
        assert ApiKey.objects.get().tenant_id == tenant.pk
    for name, path in {
        "09-keys": "/admin/tenants/apikey/",
        "10-people": "/admin/tenants/user/",
        "11-audit": "/admin/tenants/auditevent/",
        "12-overview": "/admin/",
        "13-security": "/accounts/security/",
    }.items():
        visitor.go(path)
        page.get_by_role("heading").first.wait_for()
        visitor.picture(name)
        assert token not in page.content()


@pytest.fixture
def admin(transactional_db: None) -> User:
    return User.objects.create_superuser("admin@platform.test", CHOSEN)


@pytest.fixture
def furnished(admin: User) -> Tenant:
    """A platform in use: tenants in each state, members, keys in each state."""
    now = clock.now()
    with acting_as("command", None, "tests"), scope.platform("tests"):
        acme = members.create_tenant(slug="acme", name="Acme Corporation", owner=admin)
        globex = members.create_tenant(slug="globex", name="Globex")
        members.change_status(tenant=globex, status=Tenant.Status.SUSPENDED)
        initech = members.create_tenant(slug="initech", name="Initech")
        members.change_status(tenant=initech, status=Tenant.Status.CLOSING)
        person, _ = people.add_person(email="peter@initech.test", name="Peter Gibbons")
        members.add_member(tenant=acme, user=person, role=Membership.Role.VIEWER)
        keys.create_key(tenant=acme, label="build server")
        keys.create_key(tenant=acme, label="trial", expires_at=now + timedelta(days=3))
        old, _ = keys.create_key(tenant=acme, label="chat frontend", allowed_models=["gpt-*"])
        keys.rotate_key(key=old, overlap_until=now + timedelta(days=1))
        gone, _ = keys.create_key(tenant=globex, label="forgotten laptop")
        keys.revoke_key(key=gone)
    return acme


PAGES = {
    "overview": "/admin/",
    "tenants": "/admin/tenants/tenant/",
    "new-tenant": "/admin/tenants/tenant/add/",
    "people": "/admin/tenants/user/",
    "keys": "/admin/tenants/apikey/",
    "new-key": "/admin/tenants/apikey/add/",
    "audit": "/admin/tenants/auditevent/",
    "invitations": "/admin/tenants/invitation/",
    "invite": "/admin/tenants/invitation/add/",
    "accept-invitation": "/accounts/invitation/",
    "jobs": "/admin/jobs/job/",
    "security": "/accounts/security/",
    "password": "/accounts/password/change/",
}


# Other journeys see the light; it is as wide as the dark.
@pytest.mark.parametrize("is_phone", [True, False], ids=["phone", "desk"])
def test_every_page_fits_phone_and_dark(
    visitors: VisitorFactory, furnished: Tenant, admin: User, is_phone: bool
) -> None:
    visitor = visitors(is_phone=is_phone, is_dark=True)
    prefix = f"{'phone' if is_phone else 'desk'}-dark"
    visitor.go("/accounts/login/")
    visitor.picture(f"{prefix}-sign-in")
    assert not visitor.is_too_wide
    visitor.sign_in(admin.email, CHOSEN)
    visitor.page.get_by_role("link", name="Show all").wait_for()
    too_wide = []
    with scope.platform("test"):
        key = ApiKey.objects.get(label="chat frontend", rotated_at__isnull=False)
    more = {
        "tenant": f"/admin/tenants/tenant/{furnished.pk}/change/",
        "key": f"/admin/tenants/apikey/{key.pk}/change/",
        "rotate": f"/admin/tenants/apikey/{key.pk}/rotate/",
        "revoke": f"/admin/tenants/apikey/{key.pk}/revoke/",
        "not-found": "/accounts/nothing/",
    }
    visitor.watched.expected = ("status of 404",)
    for name, path in {**PAGES, **more}.items():
        visitor.go(path)
        visitor.page.get_by_role("heading").first.wait_for()
        visitor.picture(f"{prefix}-{name}")
        if visitor.is_too_wide:
            too_wide.append(name)
    assert not too_wide


def test_every_page_of_the_sidebar_opens_without_complaint(
    visitors: VisitorFactory, furnished: Tenant, admin: User
) -> None:
    visitor = visitors()
    sign_in(visitor, admin)
    sidebar = visitor.page.get_by_role("navigation").locator("a[href^='/admin/']")
    sidebar.first.wait_for()
    pages = {link.get_attribute("href") or "": link.inner_text().strip() for link in sidebar.all()}
    assert len(pages) >= 18
    for path, name in pages.items():
        visitor.go(path)
        visitor.page.get_by_role("heading").first.wait_for()
        assert "Select" not in visitor.page.title(), f"{name}: {visitor.page.title()}"


def sign_in(visitor: Visitor, user: User) -> None:
    visitor.go("/accounts/login/")
    visitor.sign_in(user.email, CHOSEN)


def test_an_authenticator_app_is_asked_for_and_its_code_works_once(
    visitors: VisitorFactory, admin: User
) -> None:
    visitor = visitors()
    page = visitor.page
    sign_in(visitor, admin)
    page.get_by_role("link", name="Add a second factor").click()
    page.get_by_role("link", name="Set up").click()
    page.get_by_label("Password").fill(CHOSEN)
    page.get_by_role("button", name="Confirm").click()
    page.get_by_role("heading", name="Set up an authenticator app").wait_for()
    visitor.picture("20-app")
    secret = page.get_by_label("Key, if you cannot scan").input_value()
    page.get_by_label("Authenticator code").fill(code_now(secret))
    page.get_by_role("button", name="Turn on").click()
    page.get_by_role("heading", name="Recovery codes").wait_for()
    visitor.picture("21-recovery-codes")
    recovery = page.locator(".codes li").first.inner_text()
    page.get_by_role("link", name="I have stored them").click()
    page.get_by_text("10 left").wait_for()
    visitor.picture("22-security-with-app")

    second = visitors()
    sign_in(second, admin)
    second.page.get_by_role("heading", name="One more step").wait_for()
    second.picture("23-second-step")
    used = code_now(secret)
    second.page.get_by_label("Code").fill(used)
    second.page.get_by_role("button", name="Sign in").click()
    second.page.get_by_role("heading", name="Overview").wait_for()
    assert SpentCode.objects.exists()

    third = visitors()
    sign_in(third, admin)
    for code, is_good in ((used, False), (recovery, True)):
        third.page.get_by_label("Code").fill(code)
        third.page.get_by_role("button", name="Sign in").click()
        if not is_good:
            third.page.get_by_text("Incorrect code").wait_for()
    third.page.get_by_role("heading", name="Overview").wait_for()


def code_now(secret: str) -> str:
    counter = list(totp.yield_hotp_counters_from_time())[1]
    return totp.format_hotp_value(totp.hotp_value(secret, counter))


def test_a_passkey_signs_in_without_a_password(
    visitors: VisitorFactory, admin: User, settings: object
) -> None:
    settings.MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = True  # type: ignore[attr-defined]  # plain HTTP
    visitor = visitors()
    page = visitor.page
    # A security chip made of software: Chromium's own, for tests.
    chip = visitor.context.new_cdp_session(page)
    chip.send("WebAuthn.enable")
    chip.send(
        "WebAuthn.addVirtualAuthenticator",
        {
            "options": {
                "protocol": "ctap2",
                "transport": "internal",
                "hasResidentKey": True,
                "hasUserVerification": True,
                "isUserVerified": True,
            }
        },
    )
    sign_in(visitor, admin)
    page.get_by_role("link", name="Add a second factor").click()
    page.get_by_role("link", name="Add a passkey").click()
    page.get_by_label("Password").fill(CHOSEN)
    page.get_by_role("button", name="Confirm").click()
    page.get_by_role("heading", name="Add a passkey or security key").wait_for()
    visitor.picture("30-add-passkey")
    page.get_by_label("Name").fill("Laptop")
    assert page.get_by_label("Sign in with this key alone").is_checked()
    page.get_by_role("button", name="Add").click()
    page.get_by_role("heading", name="Recovery codes").wait_for()
    page.get_by_role("link", name="I have stored them").click()
    page.get_by_role("link", name="Manage").click()
    page.get_by_role("heading", name="Laptop").wait_for()
    visitor.picture("31-passkeys")
    page.get_by_role("button", name="Sign out").click()

    page.get_by_role("button", name="Use a passkey").click()
    page.get_by_role("heading", name="Overview").wait_for()


def test_the_sixth_try_is_told_to_wait(visitors: VisitorFactory, admin: User) -> None:
    visitor = visitors()
    visitor.go("/accounts/login/")
    for name in ("admin@platform.test", "ADMIN@platform.test", " Admin@Platform.Test "):
        visitor.sign_in(name, "not the password")
        visitor.page.get_by_role("alert").wait_for()
    for _ in range(2):
        visitor.sign_in(admin.email, "not the password")
        visitor.page.get_by_role("alert").wait_for()
    visitor.sign_in(admin.email, CHOSEN)
    visitor.page.get_by_text("Try again in 5 minutes").wait_for()
    visitor.picture("40-locked-out")
    assert SignInSlot.objects.count() == 10


def test_a_tenant_is_made_without_any_script(visitors: VisitorFactory, admin: User) -> None:
    visitor = visitors(has_scripts=False)
    page = visitor.page
    sign_in(visitor, admin)
    page.get_by_role("link", name="Create a tenant").click()
    page.locator("#id_slug").fill("acme")
    page.locator("#id_name").fill("Acme")
    visitor.picture("50-without-scripts")
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_text("was added successfully").wait_for()


def test_thirty_payloads_stay_text(visitors: VisitorFactory, admin: User) -> None:
    """Every payload in every list, and in turn in each kind of form; the forms of all of them
    are held against the same payloads without a browser in test_payloads.py."""
    details = []
    with acting_as("command", None, "tests"), scope.platform("tests"):
        for number, payload in enumerate(PAYLOADS):
            tenant = members.create_tenant(
                slug=f"tenant-{number}", name=payload, owner=admin, plan_notes=payload
            )
            key, _ = keys.create_key(tenant=tenant, label=payload, allowed_models=["gpt-*"])
            person, _ = people.add_person(email=f"person-{number}@a.test", name=payload)
            members.add_member(tenant=tenant, user=person, role=Membership.Role.VIEWER)
            kinds = (("tenant", tenant), ("apikey", key), ("user", person))
            kind, row = kinds[number % 3]
            details.append(f"/admin/tenants/{kind}/{row.pk}/change/")
    visitor = visitors()
    sign_in(visitor, admin)
    visitor.page.get_by_role("heading", name="Overview").wait_for()
    lists = ["/admin/", *(path for path in PAGES.values() if path.startswith("/admin/tenants/"))]
    ran = []
    for path in [*lists, *details]:
        visitor.go(path)
        if visitor.page.evaluate("window.pwned !== undefined"):
            ran.append(path)
    assert len(details) == 30
    assert not ran
