"""The poller's table: what each answer leads to, and what no race may do. Bars W4, W6, W7."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections

from controlplane.kit.jobs.models import Job
from providers.credentials.models import Credential
from providers.oauth import asking, services
from providers.oauth.errors import LoginClosed, LoginsOff, SharingForbidden, TooManyLogins
from providers.oauth.models import DeviceLogin, LoginSettings
from providers.oauth.tasks import forget_unconfirmed, poll_login, sweep
from providers.oauth.words import words_for
from providers.simulator.logins.state import logins_of
from tenants import scope
from tests.patience import LONG_SECONDS
from tests.providers.oauth.conftest import Clock, Desk

pytestmark = [pytest.mark.storage, pytest.mark.django_db]

TOKEN = "/rfc8628/token"


def gaps(desk: Desk, login: DeviceLogin, polls: int) -> list[float]:
    """Seconds between the polls that follow, as the row tells them: from the end of one to the
    earliest start of the next."""
    found = []
    for _ in range(polls):
        desk.poll(login)
        assert login.next_poll_at is not None, (login.status, login.error_code)
        found.append((login.next_poll_at - desk.clock.now()).total_seconds())
    return found


def test_pending_three_times_then_a_token(desk: Desk) -> None:
    login = desk.begin(desk.provider(""), "device")
    assert login.next_poll_at is not None
    # Not at once: who polls at once is told to slow down.
    assert login.next_poll_at - desk.clock.now() >= timedelta(seconds=5)
    for gap in gaps(desk, login, 3):
        assert 5 <= gap <= 7
    desk.approve(login)
    desk.poll(login)
    assert login.status == "confirm"
    assert desk.polls(TOKEN) == 4
    assert desk.simulator.rules() == []


def test_an_interval_that_is_not_told_is_five_seconds(desk: Desk) -> None:
    provider = desk.provider("")
    with scope.platform("tests"):
        row = LoginSettings.objects.get()
        row.overrides["device"]["client_id"] = "simulated-quiet"
        row.save()
    login = desk.begin(provider, "device")
    assert all(5 <= gap <= 7 for gap in gaps(desk, login, 2))
    assert desk.simulator.rules() == []


def test_slow_down_adds_five_seconds_for_good(desk: Desk) -> None:
    login = desk.begin(desk.provider(""), "device")
    desk.script(login, "slow_down", "slow_down", "pending")
    assert [round(gap - 1) for gap in gaps(desk, login, 3)] == [10, 15, 15]
    assert login.slow_downs == 2
    login.refresh_from_db()
    assert login.interval_seconds == 15


def test_a_server_that_names_an_interval_is_obeyed_and_never_makes_us_faster(desk: Desk) -> None:
    provider = desk.provider("")
    with scope.platform("tests"):
        row = LoginSettings.objects.get()
        row.overrides["device"]["client_id"] = "simulated-slow"
        row.save()
    login = desk.begin(provider, "device")
    desk.script(login, "slow_down=20", "pending", "slow_down=3", "pending")
    found = [round(gap - 1) for gap in gaps(desk, login, 4)]
    assert found[0] >= 20
    assert found == sorted(found)


@pytest.mark.parametrize(
    ("catalog_id", "way", "seconds"),
    [("kiro", "google", 5), ("openai-codex", "device", 5), ("kilo", "device", 3),
     ("kiro", "builder_id", 1), ("github-copilot", "device", 5)],
)  # fmt: skip
def test_units_and_texts_of_intervals(desk: Desk, catalog_id: str, way: str, seconds: int) -> None:
    login = desk.begin(desk.provider(catalog_id), way)
    assert login.interval_seconds == seconds
    assert timedelta(minutes=4) < login.expires_at - desk.clock.now() <= timedelta(minutes=30)


@pytest.mark.parametrize("how", ["denied", "expired"])
@pytest.mark.parametrize(
    ("catalog_id", "way"),
    [("", "device"), ("github-copilot", "device"), ("kiro", "builder_id"), ("kiro", "google"),
     ("openai-codex", "device"), ("kimi-coding", "device"), ("kilo", "device")],
)  # fmt: skip
def test_the_ends_are_ends(
    desk: Desk,
    catalog_id: str,
    way: str,
    how: str,
    refuse_secrets: Callable[[DeviceLogin], None],
) -> None:
    login = desk.begin(desk.provider(catalog_id), way)
    if how == "denied":
        desk.deny(login)
    else:
        # Only the vendor's clock: it is the one that says so.
        desk.simulator.world.advance(3_700)
    due = desk.poll(login)
    assert due is None
    assert (login.status, login.error_code) == (how, how)
    refuse_secrets(login)
    asked = len(desk.simulator.world.requests)
    assert desk.run(login) is None
    assert len(desk.simulator.world.requests) == asked
    assert not Credential.objects.exists()


def test_outages_only_delay(desk: Desk) -> None:
    login = desk.begin(desk.provider(""), "device")
    desk.script(login, "html=503", "status=429+after=30", "drop", "pending")
    found = gaps(desk, login, 4)
    assert found[0] >= 10
    assert found[1] >= 30
    assert 5 <= found[3] <= 7
    desk.approve(login)
    desk.poll(login)
    assert login.status == "confirm"
    assert desk.simulator.rules() == []


def test_our_own_clock_ends_it_too(desk: Desk) -> None:
    login = desk.begin(desk.provider(""), "device")
    desk.clock.offset += timedelta(hours=1)
    asked = len(desk.simulator.world.requests)
    sweep()
    login.refresh_from_db()
    assert (login.status, login.sealed) == ("expired", None)
    assert desk.run(login) is None
    assert len(desk.simulator.world.requests) == asked


def test_a_run_before_its_time_asks_nobody(desk: Desk) -> None:
    login = desk.begin(desk.provider(""), "device")
    for _ in range(100):
        assert desk.run(login) == login.next_poll_at
    assert desk.polls(TOKEN) == 0


def test_cancel_wins_over_a_token_that_comes_late(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, refuse_secrets: Callable[[DeviceLogin], None]
) -> None:
    login = desk.begin(desk.provider(""), "device")
    desk.approve(login)
    really_ask = asking.ask

    def then_cancel(provider: Any, question: Any) -> Any:
        reply = really_ask(provider, question)
        assert services.cancel(login, now=desk.clock.now())
        return reply

    monkeypatch.setattr(asking, "ask", then_cancel)
    desk.poll(login)
    assert login.status == "cancelled"
    refuse_secrets(login)
    assert not Credential.objects.exists()
    with pytest.raises(LoginClosed):
        desk.confirm(login)


def test_a_killed_poller_costs_its_lease_and_nothing_else(desk: Desk) -> None:
    login = desk.begin(desk.provider(""), "device")
    desk.clock.pass_(7)
    # As a process leaves it that died while it asked.
    DeviceLogin.objects.filter(pk=login.pk).update(
        polling_until=desk.clock.now() + timedelta(seconds=60), generation=1
    )
    Job.objects.all().delete()
    desk.approve(login)
    assert desk.run(login) is not None
    assert desk.polls(TOKEN) == 0
    desk.clock.pass_(61)
    sweep()
    job = Job.objects.get(kind="login.poll")
    poll_login(**job.args)
    login.refresh_from_db()
    assert login.status == "confirm"


def test_confirming_twice_makes_one_credential(desk: Desk) -> None:
    login = desk.begin(desk.provider(""), "device")
    desk.approve(login)
    desk.poll(login)
    desk.confirm(login)
    with pytest.raises(LoginClosed, match="connected"):
        desk.confirm(login)
    assert Credential.objects.count() == 1


def test_the_same_account_again_renews_its_credential(desk: Desk) -> None:
    provider = desk.provider("")
    first = desk.sign_in(provider, "device")
    second = desk.sign_in(provider, "device")
    other = desk.sign_in(provider, "device", account="ben")
    assert first.pk == second.pk != other.pk
    assert Credential.objects.count() == 2


@pytest.mark.parametrize(
    ("catalog_id", "is_told"), [("", True), ("openai-codex", True), ("kilo", False)]
)
def test_disconnecting_ends_it_here_and_where_possible_at_the_vendor(
    desk: Desk, catalog_id: str, is_told: bool
) -> None:
    credential = desk.sign_in(desk.provider(catalog_id), "device")
    with scope.tenant(desk.tenant.pk):
        assert services.disconnect(credential) is is_told
    assert not Credential.objects.exists()
    [family] = logins_of(desk.simulator.world).families
    assert family.is_alive is not is_told


def test_disconnecting_does_not_wait_for_a_vendor_that_is_away(desk: Desk) -> None:
    credential = desk.sign_in(desk.provider(""), "device")
    desk.simulator.control("faults", {"script": "status=503", "vendor": "rfc8628"})
    with scope.tenant(desk.tenant.pk):
        assert services.disconnect(credential) is False
    assert not Credential.objects.exists()


def test_an_account_that_nobody_confirms_is_forgotten(desk: Desk) -> None:
    login = desk.begin(desk.provider(""), "device")
    desk.approve(login)
    desk.poll(login)
    desk.clock.pass_(16 * 60)
    with pytest.raises(LoginClosed):
        desk.confirm(login)
    sweep()
    forget_unconfirmed(**Job.objects.get(kind="login.forget").args)
    login.refresh_from_db()
    assert (login.status, login.sealed, login.error_code) == ("expired", None, "not_confirmed")
    assert "not confirmed in time" in words_for(login).title
    [family] = logins_of(desk.simulator.world).families
    assert not family.is_alive
    # A second run finds nothing to do.
    forget_unconfirmed(login_id=str(login.pk))


def test_no_token_waits_for_ever_for_the_job_that_ends_it(desk: Desk) -> None:
    login = desk.begin(desk.provider(""), "device")
    desk.approve(login)
    desk.poll(login)
    desk.clock.pass_(30 * 60)
    sweep()
    login.refresh_from_db()
    assert (login.status, login.sealed) == ("expired", None)


def test_the_wrong_account_is_ended_at_the_vendor_when_it_is_cancelled(desk: Desk) -> None:
    login = desk.begin(desk.provider(""), "device")
    desk.approve(login)
    desk.poll(login)
    with scope.tenant(desk.tenant.pk):
        assert services.cancel(login, now=desk.clock.now())
        assert not services.cancel(login, now=desk.clock.now())
    [family] = logins_of(desk.simulator.world).families
    assert not family.is_alive
    login.refresh_from_db()
    assert (login.status, login.sealed) == ("cancelled", None)


def test_a_vendor_that_is_away_does_not_keep_a_token_here(desk: Desk) -> None:
    login = desk.begin(desk.provider(""), "device")
    desk.approve(login)
    desk.poll(login)
    desk.simulator.control("faults", {"script": "status=503", "vendor": "rfc8628"})
    with scope.tenant(desk.tenant.pk):
        assert services.cancel(login, now=desk.clock.now())
    login.refresh_from_db()
    assert login.sealed is None


def test_an_account_that_serves_already_is_not_ended_with_its_second_sign_in(desk: Desk) -> None:
    """Some vendors end every sign-in of an account together."""
    provider = desk.provider("")
    serving = desk.sign_in(provider, "device")
    again = desk.begin(provider, "device")
    desk.approve(again)
    desk.poll(again)
    with scope.tenant(desk.tenant.pk):
        services.cancel(again, now=desk.clock.now())
    assert all(family.is_alive for family in logins_of(desk.simulator.world).families)
    assert Credential.objects.get().pk == serving.pk


def test_at_most_five_open_and_ten_an_hour(desk: Desk) -> None:
    providers = [desk.provider(name) for name in ("", "kilo", "xai", "kimi-coding", "kiro")]
    ways = ["device"] * 4 + ["google"]
    for provider, way in zip(providers, ways, strict=True):
        desk.begin(provider, way)
    sixth = desk.provider("github-copilot")
    with pytest.raises(TooManyLogins, match="5 sign-ins open"):
        desk.begin(sixth, "device")
    # Starting again at the same provider takes the former's place.
    for _ in range(5):
        desk.begin(providers[0], "device")
    assert DeviceLogin.objects.open().count() == 5
    with pytest.raises(TooManyLogins, match="within an hour"):
        desk.begin(providers[0], "device")
    desk.clock.pass_(3_601)
    sweep()
    desk.begin(sixth, "device")


def test_off_until_the_operator_says_so(desk: Desk) -> None:
    provider = desk.provider("kilo")
    with scope.platform("tests"):
        LoginSettings.objects.update(is_on=False)
    with pytest.raises(LoginsOff):
        desk.begin(provider, "device")
    with scope.platform("tests"):
        LoginSettings.objects.all().delete()
    with pytest.raises(LoginsOff):
        desk.begin(provider, "device")
    assert desk.simulator.world.requests == type(desk.simulator.world.requests)()


def test_one_persons_account_is_not_pooled_without_a_permission(desk: Desk) -> None:
    provider = desk.provider("kilo")
    with pytest.raises(SharingForbidden):
        desk.begin(provider, "device", is_personal=False)
    with scope.platform("tests"):
        LoginSettings.objects.update(sharing="tenant", permission="Contract 12, 2026-01.")
    login = desk.begin(provider, "device", is_personal=False)
    assert login.status == "pending"


@pytest.mark.parametrize(
    "value",
    ["evil.test", "github.com.evil.test", "github.com@evil.test", "github.com/x", "127.0.0.1",
     "localhost", "a.ghe.com#", "a.ghe.com%2f", "a.ghe.com\r\nX: y", "ghe.com", ".ghe.com",
     "-a.ghe.com", "a..ghe.com", "https://a.ghe.com", "a.ghe.com:443", "ä.ghe.com", "A.ghe.com "],
)  # fmt: skip
def test_no_domain_that_is_not_githubs(desk: Desk, value: str) -> None:
    """Bar N4: what a person types ends up in addresses."""
    from providers.catalog.urls import IdentifierError

    with pytest.raises(IdentifierError):
        desk.begin(desk.provider("github-copilot"), "device", inputs={"domain": value})
    assert not DeviceLogin.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_sixteen_workers_ask_once(desk: Desk) -> None:
    login = desk.begin(desk.provider(""), "device")
    desk.clock.pass_(7)
    barrier = threading.Barrier(16)

    def work(_: int) -> None:
        try:
            barrier.wait(LONG_SECONDS)
            desk.run(login)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))
    assert desk.polls(TOKEN) == 1
    assert desk.simulator.rules() == []


def test_clock_is_the_tests_own(moving: Clock) -> None:
    """Or every test above would pass without time passing."""
    from controlplane.kit import clock

    before = clock.now()
    moving.pass_(100)
    assert clock.now() - before >= timedelta(seconds=100)
