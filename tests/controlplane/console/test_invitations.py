"""Invitations: made in the console with one showing, accepted by the person they name, withdrawn
with a question."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.messages import get_messages
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse

from controlplane.kit import clock
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.audit.models import AuditEvent
from tenants.members.invitations import invite
from tenants.members.models import Invitation, Membership, Tenant, User

pytestmark = pytest.mark.django_db

ADD = "/admin/tenants/invitation/add/"
ACCEPT = "/accounts/invitation/"


@pytest.fixture
def console(staff: User) -> Client:
    client = Client()
    client.force_login(staff)
    return client


@pytest.fixture
def invited() -> Client:
    client = Client()
    client.force_login(User.objects.create_user("new@acme.test", "correct horse battery"))
    return client


def said(answer: HttpResponse) -> str:
    return " ".join(str(message) for message in get_messages(answer.wsgi_request))


def make(console: Client, **changes: str) -> HttpResponse:
    data = {"tenant": "acme", "email": "New@Acme.test", "role": "admin"}
    return console.post(ADD, {**data, **changes})


def test_from_the_invitation_to_the_membership(
    console: Client, invited: Client, tenant: Tenant
) -> None:
    assert console.get(f"{ADD}?tenant={tenant.pk}").context["form"]["tenant"].value() == "acme"
    shown = make(console)
    token = shown.context["value"]
    assert f"paste it at http://testserver{ACCEPT}" in shown.content.decode()
    with scope.platform("test"):
        row = Invitation.objects.get()
    for path in ("/admin/tenants/invitation/", f"/admin/tenants/invitation/{row.pk}/change/"):
        page = console.get(path).content.decode()
        assert "new@acme.test" in page
        assert token not in page
    joined = invited.post(ACCEPT, {"token": f" {token} "})
    assert joined.headers["Location"] == reverse("mfa_index")
    assert said(joined) == "You belong to Acme now, as admin."
    with scope.platform("test"):
        assert Membership.objects.get().role == "admin"
        events = AuditEvent.objects.order_by("created_at", "sequence")
        assert [(event.action, event.actor_label) for event in events] == [
            ("invitation.created", "staff@platform.test"),
            ("member.added", "new@acme.test"),
        ]
    assert "not valid" in invited.post(ACCEPT, {"token": token}).content.decode()


@pytest.mark.parametrize(
    ("changes", "field", "told"),
    [
        ({"tenant": "nobody"}, "tenant", "no tenant"),
        ({"email": "no address"}, "email", "valid email"),
        ({"role": "emperor"}, "role", "Select a valid choice"),
        ({"email": "member@acme.test"}, "__all__", "is a member already"),
    ],
    ids=["tenant", "email", "role", "member"],
)
def test_what_is_refused_stands_at_its_field(
    console: Client, user: User, changes: dict[str, str], field: str, told: str
) -> None:
    form = make(console, **changes).context["form"]
    assert told in form.errors[field][0]
    with scope.platform("test"):
        assert not Invitation.objects.exists()


def test_nobody_else_can_use_it(console: Client, tenant: Tenant, user: User) -> None:
    token = make(console).context["value"]
    other = Client()
    assert "/accounts/login/" in other.post(ACCEPT, {"token": token}).headers["Location"]
    other.force_login(user)
    for attempt in (token, "pcp_invite_nonsense", "", "x" * 500):
        assert other.post(ACCEPT, {"token": attempt}).status_code == 200
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(user)
    assert strict.post(ACCEPT, {"token": token}).status_code == 403
    with scope.platform("test"):
        assert Membership.objects.count() == 1
        assert Invitation.objects.get().closed_at is None


def test_withdrawing_asks_first_and_then_the_token_is_refused(
    console: Client, invited: Client, tenant: Tenant
) -> None:
    token = make(console).context["value"]
    with scope.platform("test"):
        row = Invitation.objects.get()
    page = f"/admin/tenants/invitation/{row.pk}"
    assert "Withdraw" in console.get(f"{page}/change/").content.decode()
    assert "refused from now on" in console.post(f"{page}/withdraw/").content.decode()
    done = console.post(f"{page}/withdraw/", {"confirmed": "yes"})
    assert said(done) == "The invitation of new@acme.test is withdrawn."
    assert "not valid" in invited.post(ACCEPT, {"token": token}).content.decode()
    assert "closed already" in said(console.post(f"{page}/withdraw/", {"confirmed": "yes"}))
    assert f"{page}/withdraw/" not in console.get(f"{page}/change/").content.decode()


def test_the_filter_tells_open_from_expired(console: Client, tenant: Tenant) -> None:
    with scope.platform("test"), acting_as("command", None, "tests"):
        for name in ("open", "expired", "closed"):
            invite(tenant=tenant, email=f"{name}@a.test", role="viewer")
        long_ago = clock.now() - timedelta(days=1)
        Invitation.objects.filter(email="expired@a.test").update(expires_at=long_ago)
        Invitation.objects.filter(email="closed@a.test").update(closed_at=clock.now())
    for state in ("open", "expired", "closed"):
        page = console.get("/admin/tenants/invitation/", {"state": state})
        assert [row.email for row in page.context["cl"].result_list] == [f"{state}@a.test"]
