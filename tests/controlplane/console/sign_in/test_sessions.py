"""Bars W3 and K6 for sessions: a new id at sign-in, cookies that travel nowhere else, a one-time
password that opens one page."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs

import pytest
from django.conf import settings
from django.test import Client
from django.urls import reverse

from controlplane.console.sign_in.adapters import SingleSignOnAdapter
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.audit.models import AuditEvent
from tenants.members import people
from tenants.members.models import Tenant, User

PASSWORD = "correct horse battery"
NEW = "staple battery horse"


def sign_in(client: Client, user: User, password: str = PASSWORD, **query: str) -> str:
    answer = client.post(
        reverse("account_login"), {"login": user.email, "password": password, **query}
    )
    return str(answer.headers.get("Location", ""))


@pytest.mark.django_db
def test_the_session_id_changes_at_sign_in(staff: User) -> None:
    client = Client()
    session = client.session
    session["basket"] = "before"
    session.save()
    before = session.session_key
    client.cookies[settings.SESSION_COOKIE_NAME] = before
    assert sign_in(client, staff) == reverse("admin:index")
    after = client.cookies[settings.SESSION_COOKIE_NAME].value
    assert after != before
    stolen = Client()
    stolen.cookies[settings.SESSION_COOKIE_NAME] = before
    assert stolen.get(reverse("admin:index")).status_code == 302


@pytest.mark.django_db
def test_cookies_are_bound_to_this_host_and_to_https(staff: User) -> None:
    client = Client()
    client.get(reverse("account_login"))
    sign_in(client, staff)
    assert set(client.cookies) == {"__Host-session", "__Host-csrf"}
    for cookie in client.cookies.values():
        assert cookie["secure"]
        assert cookie["httponly"]
        assert cookie["samesite"] == "Lax"
        assert cookie["path"] == "/"
        assert not cookie["domain"]


@pytest.mark.django_db
def test_unsafe_routes_want_a_csrf_token(staff: User, tenant: Tenant) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(staff)
    for path in (
        reverse("account_login"),
        reverse("account_logout"),
        reverse("account_change_password"),
        reverse("account_reauthenticate"),
        reverse("mfa_activate_totp"),
        reverse("mfa_add_webauthn"),
        reverse("admin:logout"),
        reverse("admin:tenants_tenant_add"),
        reverse("admin:tenants_tenant_changelist"),
        reverse("admin:tenants_tenant_change", args=[tenant.pk]),
        reverse("admin:tenants_apikey_add"),
        reverse("admin:tenants_user_one_time_password", args=[staff.pk]),
    ):
        assert client.post(path, {"confirmed": "yes"}).status_code == 403, path


@pytest.mark.django_db
def test_next_leads_nowhere_else(staff: User) -> None:
    for target in ("https://evil.test/", "//evil.test/", "javascript:alert(1)", "/\\evil.test"):
        assert sign_in(Client(), staff, next=target) == reverse("admin:index")
    keys = reverse("admin:tenants_apikey_changelist")
    assert sign_in(Client(), staff, next=keys) == keys


@pytest.mark.django_db
def test_members_land_on_their_account_and_staff_on_the_console(staff: User, user: User) -> None:
    assert sign_in(Client(), staff) == reverse("admin:index")
    assert sign_in(Client(), user) == reverse("mfa_index")


@pytest.mark.django_db
def test_the_admin_sends_to_sign_in_and_back(client: Client) -> None:
    first = client.get(reverse("admin:tenants_apikey_changelist"))
    second = client.get(first["Location"])
    path, _, query = second["Location"].partition("?")
    assert path == reverse("account_login")
    assert parse_qs(query) == {"next": [reverse("admin:tenants_apikey_changelist")]}


@pytest.mark.django_db
def test_a_one_time_password_opens_one_page(client: Client) -> None:
    with acting_as("command", None, "tests"):
        person, password = people.add_person(email="new@platform.test", is_staff=True)
    sign_in(client, person, password.reveal())
    change = reverse("account_change_password")
    for path in ("/admin/", reverse("mfa_index"), "/nowhere/", reverse("admin:tenants_tenant_add")):
        answer = client.get(path, headers={"Accept": "text/html"})
        assert (answer.status_code, answer.headers.get("Location")) == (302, change), path
    answer = client.get("/admin/", headers={"Accept": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "password_change_required")

    same = {"oldpassword": password.reveal(), "password1": password.reveal()}
    refused = client.post(change, {**same, "password2": password.reveal()})
    assert "differs from the current one" in refused.content.decode()
    changed = client.post(
        change, {"oldpassword": password.reveal(), "password1": NEW, "password2": NEW}
    )
    assert changed["Location"] == reverse("admin:index")
    assert client.get("/admin/").status_code == 200
    person.refresh_from_db()
    assert not person.must_change_password
    assert sign_in(Client(), person, password.reveal()) == ""


@pytest.mark.django_db
@pytest.mark.parametrize(("method", "status"), [("socialaccount", 200), ("password", 302)])
def test_who_came_by_single_sign_on_is_not_asked_for_a_password_they_never_saw(
    client: Client, method: str, status: int
) -> None:
    with acting_as("command", None, "tests"):
        person, _ = people.add_person(email="new@platform.test", is_staff=True)
    client.force_login(person)
    session = client.session
    session["account_authentication_methods"] = [{"method": method, "at": 0}]
    session["account_authentication_methods_user"] = str(person.pk)
    session.save()
    assert client.get("/admin/", headers={"Accept": "text/html"}).status_code == status


@pytest.mark.django_db
def test_sign_ins_and_failures_are_on_record(staff: User) -> None:
    client = Client(REMOTE_ADDR="192.0.2.9")
    sign_in(client, staff, "wrong")
    sign_in(client, staff)
    with scope.platform("test"):
        events = AuditEvent.objects.order_by("sequence")
        assert [(event.action, event.actor_label, event.address) for event in events] == [
            ("user.sign_in_failed", staff.email, "192.0.2.9"),
            ("user.signed_in", staff.email, "192.0.2.9"),
        ]


@pytest.mark.django_db
def test_a_deactivated_account_is_signed_out_at_once(staff: User, user: User) -> None:
    client = Client()
    sign_in(client, user)
    assert client.get(reverse("mfa_index")).status_code == 200
    with acting_as("command", None, "tests"):
        people.deactivate(user=user)
    assert client.get(reverse("mfa_index")).status_code == 302
    assert sign_in(Client(), user) == ""


@pytest.mark.django_db
def test_nobody_signs_up_and_no_account_is_there_by_default() -> None:
    assert not User.objects.exists()
    for path in ("/accounts/signup/", "/accounts/password/reset/", "/accounts/sso/signup/"):
        assert Client().get(path).status_code == 404


SINGLE_SIGN_ON = """
import django; django.setup()
from django.conf import settings
from django.test import Client
from django.urls import reverse
settings.ALLOWED_HOSTS.append("testserver")
from controlplane.security_headers import policy
print(reverse("openid_connect_login", kwargs={"provider_id": "sso"}))
print(policy(nonce="n", is_admin_theme=False).split("form-action ")[1].split(";")[0])
app = settings.SOCIALACCOUNT_PROVIDERS["openid_connect"]["APPS"][0]
print(app["name"], app["client_id"], app["settings"]["oauth_pkce_enabled"])
"""


def single_sign_on(state: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("OIDC_")},
        "DJANGO_SETTINGS_MODULE": "controlplane.settings.test",
        **variables,
    }
    return subprocess.run(
        [sys.executable, "-c", SINGLE_SIGN_ON],
        env=environment,
        cwd=settings.BASE_DIR,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_single_sign_on_is_switched_on_by_settings(tmp_path: Path) -> None:
    made = single_sign_on(
        tmp_path,
        OIDC_SERVER_URL="https://login.example.test/realms/main",
        OIDC_CLIENT_ID="control-plane",
        OIDC_CLIENT_SECRET="x9" * 16,
        OIDC_NAME="Example login",
    )
    assert made.stdout.splitlines() == [
        "/accounts/oidc/sso/login/",
        "'self' https://login.example.test",
        "Example login control-plane True",
    ], made.stderr[-2000:]


@pytest.mark.django_db
def test_single_sign_on_opens_only_accounts_that_exist_and_addresses_that_are_verified(
    staff: User,
) -> None:
    adapter = SingleSignOnAdapter()

    def arriving(email: str, *, verified: bool) -> SimpleNamespace:
        return SimpleNamespace(email_addresses=[SimpleNamespace(email=email, verified=verified)])

    assert adapter.authenticate_by_email(arriving("STAFF@platform.test", verified=True)) == (
        staff,
        staff.email,
    )
    assert adapter.authenticate_by_email(arriving(staff.email, verified=False)) is None
    assert adapter.authenticate_by_email(arriving("new@platform.test", verified=True)) is None
    assert not adapter.is_open_for_signup(None, None)


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"OIDC_SERVER_URL": "http://login.example.test"}, "Set OIDC_SERVER_URL to the https"),
        ({"OIDC_SERVER_URL": "https://login.example.test"}, "Set OIDC_CLIENT_SECRET"),
        (
            {"OIDC_SERVER_URL": "https://login.example.test", "OIDC_CLIENT_SECRET": "x9" * 16},
            "Set OIDC_CLIENT_ID",
        ),
    ],
)
def test_half_a_single_sign_on_is_refused_at_start(
    tmp_path: Path, variables: dict[str, str], told: str
) -> None:
    refused = single_sign_on(tmp_path, **variables)
    assert refused.returncode != 0
    assert told in refused.stderr.splitlines()[-1]
