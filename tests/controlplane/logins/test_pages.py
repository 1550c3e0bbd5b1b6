"""The pages of logins without a browser: who may, what they say, and that nothing leaks."""

from __future__ import annotations

import contextvars
import re
import uuid
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from providers.credentials.models import Credential
from providers.oauth.memory import recall
from providers.oauth.models import DeviceLogin, LoginSettings
from tenants import scope
from tenants.members.models import Membership, Tenant, User
from tests.providers.oauth.conftest import Clock, Desk, desk, moving, simulator, simulator_door
from tests.providers.oauth.test_pasted_logins import approve_in_browser

__all__ = ["Clock", "desk", "moving", "simulator", "simulator_door"]
pytestmark = [pytest.mark.storage, pytest.mark.django_db]


class Visitor(Client):
    """Its requests begin as a server's do: in nobody's scope, whatever the test is in."""

    def request(self, **request: Any) -> Any:
        return contextvars.Context().run(super().request, **request)


def signed_in(user: User) -> Client:
    client = Visitor()
    client.force_login(user)
    return client


@pytest.fixture
def me(desk: Desk) -> Client:
    return signed_in(desk.user)


@pytest.fixture
def strangers(desk: Desk, staff: User, other_tenant: Tenant) -> dict[str, Client]:
    """Everybody but who started it: W4 knows no exception for administrators."""
    found: dict[str, Client] = {"staff": signed_in(staff), "anonymous": Visitor()}
    for role in Membership.Role:
        colleague = User.objects.create_user(f"another-{role}@acme.test")
        foreigner = User.objects.create_user(f"{role}@globex.test")
        with scope.platform("tests"):
            Membership.objects.create(tenant=desk.tenant, user=colleague, role=role)
            Membership.objects.create(tenant=other_tenant, user=foreigner, role=role)
        found[f"colleague {role}"] = signed_in(colleague)
        found[f"foreign {role}"] = signed_in(foreigner)
    return found


def begin(client: Client, name: str, **form: str) -> DeviceLogin:
    answer = client.post(f"/login/{name}/", {"owner": "acme", **form})
    assert answer.status_code == 302, answer.content.decode()
    with scope.platform("tests"):
        found: DeviceLogin = DeviceLogin.objects.select_related("provider").latest("created_at")
    assert answer["Location"] == f"/login/{found.provider.slug}/{found.pk}/"
    return found


def address(login: DeviceLogin, what: str = "") -> str:
    return f"/login/{login.provider.slug}/{login.pk}/{what}"


def text(answer: Any) -> str:
    return re.sub(r"\s+", " ", answer.content.decode())


@pytest.mark.parametrize("start", ["/login/github-copilot/", "/v0/oauth/copilot"])
def test_from_the_vendors_position_to_a_credential(desk: Desk, me: Client, start: str) -> None:
    desk.provider("github-copilot")
    shown = text(me.get(start))
    assert "Seats are personal" in shown
    assert "credential of <strong>Acme</strong>" in shown
    login = begin(me, "github-copilot", way="device")
    shown = text(me.get(address(login)))
    assert login.user_code in shown
    assert " ".join(login.user_code) in shown
    assert login.verification_uri in shown
    assert "data:image/svg+xml" in shown
    assert "Only go on if you started this sign-in yourself" in shown
    desk.approve(login)
    desk.poll(login)
    shown = text(me.get(address(login)))
    assert "Is this the right account?" in shown
    assert "@ada" in shown
    assert login.user_code == "" or login.user_code not in shown
    assert me.post(address(login, "confirm")).status_code == 302
    assert "Connected as @ada" in text(me.get(address(login)))
    credential = Credential.objects.get()
    assert "@ada" in text(me.get("/login/github-copilot/"))
    gone = me.post(f"/login/github-copilot/connected/{credential.pk}/disconnect")
    assert gone.status_code == 302
    assert not Credential.objects.exists()


def test_kiro_offers_its_ways_and_asks_what_each_needs(desk: Desk, me: Client) -> None:
    desk.provider("kiro")
    shown = text(me.get("/v0/oauth/kiro"))
    for words in ("AWS Builder ID", "IAM Identity Center", "Google account", "start URL"):
        assert words in shown
    login = begin(
        me,
        "kiro",
        way="identity_center",
        **{
            "identity_center.start_url": "https://example.awsapps.com/start",
            "identity_center.oidc_region": "eu-west-1",
        },
    )
    assert login.status == "pending"
    assert login.inputs["oidc_region"] == "eu-west-1"
    answer = me.post(
        "/login/kiro/",
        {
            "owner": "acme",
            "way": "identity_center",
            "identity_center.start_url": "https://evil.test/start",
        },
    )
    assert answer.status_code == 400
    assert "has a form this provider does not use" in text(answer)
    assert "https://evil.test/start" in text(answer)


def test_aws_says_when_the_region_is_wrong(desk: Desk, me: Client) -> None:
    desk.provider("kiro")
    login = begin(
        me,
        "kiro",
        way="identity_center",
        **{
            "identity_center.start_url": "https://example.awsapps.com/start",
            "identity_center.oidc_region": "us-west-2",
        },
    )
    shown = text(me.get(address(login)))
    assert "AWS does not know this start URL in this region" in shown
    assert "Start again" in shown


def test_a_pasted_code_on_the_page(desk: Desk, me: Client) -> None:
    desk.provider("claude-subscription")
    login = begin(me, "claude-subscription", way="paste")
    shown = text(me.get(address(login)))
    assert "/claude/oauth/authorize" in shown
    wrong = me.post(address(login, "paste"), {"code": "abc#of-another-sign-in"})
    assert wrong.status_code == 400
    assert "belongs to another sign-in" in text(wrong)
    right = me.post(address(login, "paste"), {"code": approve_in_browser(desk, login)})
    assert right.status_code == 302
    assert "ada@example.test" in text(me.get(address(login)))


@pytest.mark.parametrize(
    ("how", "title"),
    [
        ("denied", "The sign-in was refused at the provider"),
        ("expired", "The code ran out of time"),
        ("cancelled", "You cancelled this sign-in"),
        ("unsubscribed", "This account has no subscription for this service"),
        ("away", "No connection to the provider"),
    ],
)
def test_each_bad_end_has_its_sentence_and_a_next_step(
    desk: Desk, me: Client, how: str, title: str
) -> None:
    desk.provider("github-copilot")
    if how == "away":
        desk.simulator.control("faults", {"script": "status=503", "vendor": "github"})
    login = begin(me, "github-copilot", way="device")
    match how:
        case "denied":
            desk.deny(login)
        case "expired":
            desk.clock.pass_(1_000)
        case "cancelled":
            assert me.post(address(login, "cancel")).status_code == 302
        case "unsubscribed":
            desk.approve(login, "dan")
    if how not in ("away", "cancelled"):
        desk.poll(login)
    shown = text(me.get(address(login)))
    assert f"<h1>{title}</h1>" in shown
    assert "Start again" in shown
    assert login.user_code == "" or login.user_code not in shown
    state = me.get(address(login, "status")).json()
    assert state["is_open"] is False


@pytest.mark.parametrize(
    ("script", "sentence", "step"),
    [
        ("slow_down", "asked us to look less often", "Go on as before"),
        ("status=503", "does not answer at the moment", "You can approve it there meanwhile"),
    ],
)
def test_what_is_in_the_way_has_its_sentence_and_a_next_step(
    desk: Desk, me: Client, script: str, sentence: str, step: str
) -> None:
    desk.provider("github-copilot")
    login = begin(me, "github-copilot", way="device")
    assert me.get(address(login, "status")).json()["hint"] == ""
    desk.script(login, script, "pending")
    desk.poll(login)
    hint = me.get(address(login, "status")).json()["hint"]
    assert sentence in hint
    assert step in hint
    assert hint in text(me.get(address(login)))


def test_a_code_that_ends_amid_slow_downs_says_where_to_look(desk: Desk, me: Client) -> None:
    desk.provider("github-copilot")
    login = begin(me, "github-copilot", way="device")
    desk.script(login, *["slow_down"] * 4)
    for _ in range(4):
        desk.poll(login)
    desk.clock.pass_(1_000)
    desk.poll(login)
    shown = text(me.get(address(login)))
    assert "The code ran out of time" in shown
    assert "this machine's clock" in shown.replace("&#x27;", "'")


def test_start_again_is_one_click_with_the_same_inputs(desk: Desk, me: Client) -> None:
    desk.provider("github-copilot")
    first = begin(me, "github-copilot", way="device", **{"device.domain": "github.com"})
    desk.deny(first)
    desk.poll(first)
    answer = me.post(address(first, "again"))
    assert answer.status_code == 302
    second = DeviceLogin.objects.latest("created_at")
    assert second.pk != first.pk
    assert second.inputs == first.inputs
    assert second.status == "pending"


def test_status_asks_our_row_and_never_the_vendor(desk: Desk, me: Client) -> None:
    desk.provider("")
    login = begin(me, "generic", way="device")
    asked = len(desk.simulator.world.requests)
    for _ in range(100):
        answer = me.get(address(login, "status"))
        assert answer.status_code == 200
    assert len(desk.simulator.world.requests) == asked
    assert answer["Cache-Control"].find("no-store") >= 0
    state = answer.json()
    assert state["status"] == "pending"
    assert 0 < state["seconds_left"] <= 900


def test_nobody_else_sees_polls_or_ends_it(
    desk: Desk, me: Client, strangers: dict[str, Client]
) -> None:
    desk.provider("")
    login = begin(me, "generic", way="device")
    missing = f"/login/generic/{uuid.uuid4()}/"
    asked = len(desk.simulator.world.requests)
    for who, client in strangers.items():
        wanted = 302 if who == "anonymous" else 404
        for method, what in [
            ("get", ""), ("get", "status"), ("post", "paste"), ("post", "cancel"),
            ("post", "confirm"), ("post", "again"),
        ]:  # fmt: skip
            theirs = getattr(client, method)(address(login, what))
            nothing = getattr(client, method)(missing + what)
            assert theirs.status_code == nothing.status_code == wanted, (who, what)
            if wanted == 302:
                assert theirs["Location"].startswith("/accounts/login/")
            else:
                assert theirs.content.replace(str(login.pk).encode(), b"") == nothing.content
    login.refresh_from_db()
    assert login.status == "pending"
    assert len(desk.simulator.world.requests) == asked


def test_another_members_credential_is_not_theirs_to_disconnect(
    desk: Desk, me: Client, strangers: dict[str, Client]
) -> None:
    credential = desk.sign_in(desk.provider(""), "device")
    allowed = {"staff", "colleague admin", "colleague owner"}
    path = f"/login/generic/connected/{credential.pk}/disconnect"
    for who, client in strangers.items():
        if who not in allowed:
            assert client.post(path).status_code in (302, 404)
            assert Credential.objects.exists(), who
    assert strangers["colleague admin"].post(path).status_code == 302
    assert not Credential.objects.exists()


def test_starting_is_a_post_with_a_token_of_the_form(desk: Desk) -> None:
    provider = desk.provider("")
    careful = Visitor(enforce_csrf_checks=True)
    careful.force_login(desk.user)
    for path in [
        "/login/generic/", f"/login/generic/{uuid.uuid4()}/cancel",
        f"/login/generic/{uuid.uuid4()}/confirm", f"/login/generic/{uuid.uuid4()}/paste",
    ]:  # fmt: skip
        assert careful.post(path, {"owner": "acme", "way": "device"}).status_code == 403
    # Looking, reloading and prefetching start nothing.
    for _ in range(3):
        careful.get("/login/generic/?way=device")
    assert not DeviceLogin.objects.exists()
    assert provider.pk


@pytest.mark.parametrize("role", ["viewer", "member", "admin", "owner"])
def test_roles(desk: Desk, role: str) -> None:
    desk.provider("")
    with scope.platform("tests"):
        LoginSettings.objects.update(sharing="tenant", permission="Contract 12.")
        Membership.objects.filter(user=desk.user).update(role=role)
    client = signed_in(desk.user)
    page = client.get("/login/generic/")
    if role == "viewer":
        assert page.status_code == 404
        assert client.post("/login/generic/", {"owner": "acme", "way": "device"}).status_code == 404
        return
    can_share = role in ("admin", "owner")
    assert ("Everybody in Acme may use it" in text(page)) is can_share
    shared = client.post("/login/generic/", {"owner": "acme", "way": "device", "is_shared": "1"})
    assert shared.status_code == (302 if can_share else 403)


def test_switched_off_it_says_so_and_starts_nothing(desk: Desk, me: Client) -> None:
    desk.provider("kilo")
    with scope.platform("tests"):
        LoginSettings.objects.update(is_on=False)
    assert "switched off" in text(me.get("/login/kilo/"))
    answer = me.post("/login/kilo/", {"owner": "acme", "way": "device"})
    assert answer.status_code == 403
    assert not DeviceLogin.objects.exists()


def test_pages_hold_no_secret_and_are_stored_nowhere(desk: Desk, me: Client) -> None:
    desk.provider("")
    login = begin(me, "generic", way="device")
    with scope.platform("tests"):
        secret = recall(DeviceLogin.objects.get(pk=login.pk)).device_code
    for what in ("", "status"):
        answer = me.get(address(login, what))
        assert secret not in answer.content.decode()
        assert "no-store" in answer["Cache-Control"]
        assert "default-src 'none'" in answer["Content-Security-Policy"]
        assert answer["X-Frame-Options"] == "DENY"
    assert reverse("login-index") == "/login/"
    assert "Go on" in text(me.get("/login/"))


def test_importing_kiros_files_on_the_page(desk: Desk, me: Client) -> None:
    desk.provider("kiro")
    assert "may sign the other out" in text(me.get("/login/kiro/"))
    answer = me.post("/login/kiro/", {"owner": "acme", "token_file": '{"refreshToken": "abc"}'})
    assert answer.status_code == 400
    shown = text(answer)
    assert "The refresh token in it is cut" in shown
    # What was pasted holds tokens: it does not come back.
    assert "&quot;abc&quot;" not in shown


def test_a_redirect_back_to_us_becomes_a_key_in_the_persons_account(
    desk: Desk, me: Client, strangers: dict[str, Client]
) -> None:
    desk.provider("openrouter")
    # Vendors send browsers back to https, or to this machine.
    me.post("/login/openrouter/", {"owner": "acme", "way": "key"}, SERVER_NAME="localhost")
    login = DeviceLogin.objects.select_related("provider").get()
    back = approve_in_browser(desk, login).removeprefix("http://localhost")
    assert back.startswith("/login/openrouter/callback?")
    # Somebody else who gets hold of the address can do nothing with it.
    for client in strangers.values():
        assert client.get(back).status_code in (302, 404)
    answer = me.get(back)
    assert (answer.status_code, answer["Location"]) == (302, address(login))
    assert me.get(back).status_code == 404
    assert me.post(address(login, "confirm")).status_code == 302
    credential = Credential.objects.get()
    assert credential.refresh_at is None
    assert credential.expires_at is None
