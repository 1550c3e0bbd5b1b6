"""Connecting an account as a person meets it, in Chromium, with simulated vendors: no console
error, no CSP violation, nothing loaded from elsewhere, on a desk and on a phone."""

from __future__ import annotations

import contextvars
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from django.db import connections

from providers.catalog.models import Provider
from providers.credentials.models import Credential
from providers.oauth.models import DeviceLogin
from tenants import scope
from tenants.members.models import User
from tests.patience import LONG_SECONDS
from tests.providers.oauth.conftest import Clock, Desk, desk, moving, simulator, simulator_door
from tests.providers.oauth.test_pasted_logins import approve_in_browser

if TYPE_CHECKING:
    from tests.journeys.conftest import Visitor, VisitorFactory

__all__ = ["Clock", "desk", "moving", "simulator", "simulator_door"]
pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

PASSWORD = "correct horse battery"


def signed_in(visitors: VisitorFactory, email: str, path: str, **options: bool) -> Visitor:
    visitor = visitors(**options)
    visitor.go(path)
    visitor.sign_in(email, PASSWORD)
    visitor.page.wait_for_url("**" + path)
    return visitor


def poll(desk: Desk, login: DeviceLogin) -> None:
    """As the background process does it: Playwright's event loop lives in this thread."""

    in_a_thread(lambda: desk.poll(login))


def in_a_thread(act: Callable[[], object]) -> None:
    def run() -> None:
        try:
            act()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as thread:
        thread.submit(contextvars.copy_context().run, run).result(LONG_SECONDS)


def the_login() -> DeviceLogin:
    with scope.platform("tests"):
        found: DeviceLogin = DeviceLogin.objects.select_related("provider").latest("created_at")
    return found


def start(visitor: Visitor) -> DeviceLogin:
    visitor.page.get_by_role("button", name="Start signing in").click()
    visitor.page.get_by_role("heading", name="Type this code at the provider").wait_for()
    return the_login()


@pytest.mark.parametrize("look", ["desk", "phone in the dark"])
def test_copilot_from_the_position_to_connected(
    visitors: VisitorFactory, desk: Desk, look: str
) -> None:
    desk.provider("github-copilot")
    is_phone = look != "desk"
    visitor = signed_in(
        visitors, desk.user.email, "/v0/oauth/copilot", is_phone=is_phone, is_dark=is_phone
    )
    page = visitor.page
    page.get_by_role("heading", name="What the vendor says about this").wait_for()
    visitor.picture(f"login-start-{look.replace(' ', '-')}")
    login = start(visitor)
    code = page.locator("#user-code")
    assert code.inner_text() == login.user_code
    assert code.get_attribute("aria-label") == " ".join(login.user_code)
    # Seconds, until the script has made a clock of them.
    page.locator("#left", has_text=re.compile(r"1[45]:\d\d")).wait_for()
    link = page.get_by_role("link", name="Open the provider's page")
    assert link.get_attribute("href") == login.verification_uri_complete
    assert link.get_attribute("rel") == "noopener noreferrer"
    assert not visitor.is_too_wide
    visitor.picture(f"login-code-{look.replace(' ', '-')}")

    # A reload and a second tab show the same code, and start nothing.
    page.reload()
    assert code.inner_text() == login.user_code
    second = visitor.context.new_page()
    second.goto(page.url)
    assert second.locator("#user-code").inner_text() == login.user_code
    second.close()

    desk.approve(login)
    poll(desk, login)
    # The page notices by itself.
    page.get_by_role("heading", name="Is this the right account?").wait_for()
    assert "@ada" in page.locator("main").inner_text()
    visitor.picture(f"login-confirm-{look.replace(' ', '-')}")
    with scope.platform("tests"):
        assert not Credential.objects.exists()
    page.get_by_role("button", name="Yes, connect it").click()
    page.get_by_role("heading", name="Connected as @ada").wait_for()
    assert not visitor.is_too_wide
    page.get_by_role("link", name="See its state").click()
    page.get_by_text("Active", exact=True).wait_for()
    assert not visitor.is_too_wide
    visitor.picture(f"login-connected-{look.replace(' ', '-')}")


@pytest.mark.parametrize("look", ["desk", "phone in the dark, without scripts"])
def test_terms_of_models_are_read_and_accepted(
    visitors: VisitorFactory, desk: Desk, look: str
) -> None:
    provider = desk.provider("github-copilot")
    with scope.platform("tests"):
        url = f"{desk.simulator.url}/copilot"
        Provider.objects.filter(pk=provider.pk).update(base_url=url)
    provider.refresh_from_db()
    in_a_thread(lambda: desk.sign_in(provider, "direct"))
    is_phone = look != "desk"
    visitor = signed_in(
        visitors,
        desk.user.email,
        "/login/github-copilot/",
        is_phone=is_phone,
        is_dark=is_phone,
        has_scripts=not is_phone,
    )
    page = visitor.page
    page.get_by_role("link", name="Models of @ada").click()
    page.get_by_role("heading", name="Models of @ada").wait_for()
    assert page.get_by_text("Waiting", exact=True).count() == 2
    assert not visitor.is_too_wide
    visitor.picture(f"login-models-{'phone' if is_phone else 'desk'}")
    page.get_by_role("button", name="Accept the terms of sim-claude").click()
    page.get_by_text("The terms of sim-claude are accepted for @ada.").wait_for()
    assert page.get_by_text("Accepted", exact=True).count() == 1
    assert not visitor.is_too_wide
    visitor.picture(f"login-models-accepted-{'phone' if is_phone else 'desk'}")


@pytest.mark.parametrize("how", ["denied", "expired"])
def test_a_bad_end_and_starting_again(visitors: VisitorFactory, desk: Desk, how: str) -> None:
    desk.provider("kiro")
    visitor = signed_in(visitors, desk.user.email, "/v0/oauth/kiro")
    page = visitor.page
    visitor.picture("login-start-kiro")
    login = start(visitor)
    if how == "denied":
        desk.deny(login)
    else:
        desk.clock.pass_(601)
    poll(desk, login)
    title = {
        "denied": "The sign-in was refused at the provider",
        "expired": "The code ran out of time",
    }[how]
    page.get_by_role("heading", name=title).wait_for()
    visitor.picture(f"login-{how}")
    page.get_by_role("button", name="Start again").click()
    page.get_by_role("heading", name="Type this code at the provider").wait_for()
    assert the_login().pk != login.pk
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("heading", name="You cancelled this sign-in").wait_for()


def test_a_pasted_code_wrong_and_right(visitors: VisitorFactory, desk: Desk) -> None:
    desk.provider("claude-subscription")
    visitor = signed_in(
        visitors, desk.user.email, "/login/claude-subscription/", is_phone=True, is_dark=True
    )
    visitor.watched.expected = ("400",)
    page = visitor.page
    page.get_by_role("button", name="Start signing in").click()
    page.get_by_role("heading", name="Sign in and bring back the code").wait_for()
    link = page.get_by_role("link", name="Open the sign-in page")
    assert (link.get_attribute("href") or "").startswith(f"{desk.simulator.url}/claude/oauth")
    page.get_by_label("Code or address").fill("abc#of-another-sign-in")
    page.get_by_role("button", name="Hand in the code").click()
    page.get_by_text("belongs to another sign-in").wait_for()
    assert not visitor.is_too_wide
    visitor.picture("login-paste")
    pasted: list[str] = []
    in_a_thread(lambda: pasted.append(approve_in_browser(desk, the_login())))
    page.get_by_label("Code or address").fill(pasted[0])
    page.get_by_role("button", name="Hand in the code").click()
    page.get_by_role("button", name="Yes, connect it").click()
    page.get_by_role("heading", name="Connected as ada@example.test").wait_for()


def test_what_is_in_the_way_is_told_while_it_waits(visitors: VisitorFactory, desk: Desk) -> None:
    desk.provider("github-copilot")
    visitor = signed_in(visitors, desk.user.email, "/v0/oauth/copilot")
    login = start(visitor)
    in_a_thread(lambda: desk.script(login, "slow_down", "status=503"))
    poll(desk, login)
    visitor.page.get_by_text("The provider asked us to look less often.").wait_for()
    poll(desk, login)
    visitor.page.get_by_text("The provider does not answer at the moment.").wait_for()
    assert visitor.page.locator("#user-code").inner_text() == login.user_code
    visitor.picture("login-vendor-down")


def test_without_scripts_it_works_too(visitors: VisitorFactory, desk: Desk) -> None:
    desk.provider("")
    visitor = signed_in(visitors, desk.user.email, "/login/generic/", has_scripts=False)
    page = visitor.page
    login = start(visitor)
    desk.approve(login)
    poll(desk, login)
    page.get_by_role("link", name="Look again now").click()
    page.get_by_role("button", name="Yes, connect it").click()
    page.get_by_role("heading", name="Connected as ada@example.test").wait_for()


def test_somebody_else_finds_nothing_there(visitors: VisitorFactory, desk: Desk) -> None:
    desk.provider("")
    mine = signed_in(visitors, desk.user.email, "/login/generic/")
    start(mine)
    path = mine.page.url.removeprefix(mine.origin)
    User.objects.create_user("other@globex.test", PASSWORD)
    other = visitors()
    other.watched.expected = ("404",)
    other.go(path)
    other.sign_in("other@globex.test", PASSWORD)
    other.page.get_by_role("heading", name="Not found").wait_for()
