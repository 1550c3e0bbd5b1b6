"""Renewal: once among all, waited for by the rest, and never a good login declared dead."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from django.db import OperationalError, connection, connections

from controlplane.kit.jobs.models import Job
from controlplane.kit.secret import Secret
from providers.credentials.events import CredentialEvent
from providers.credentials.models import Credential
from providers.errors import UpstreamTimeout
from providers.oauth import asking, refresh
from providers.oauth.flows import tokens
from providers.oauth.refresh import LoginUnusable, ensure_fresh
from providers.oauth.tasks import refresh as run_refresh
from providers.oauth.tasks import refresh_due
from tenants import scope
from tenants.alerts.kinds import AlertKind
from tenants.alerts.models import Alert
from tenants.vault import services as vault
from tests.patience import LONG_SECONDS, allowed
from tests.providers.oauth.conftest import Desk

TOKEN_PATH = "/rfc8628/token"


def held_by(credential: Credential) -> tokens.Tokens:
    credential.refresh_from_db()
    return tokens.unpacked(vault.unseal_from(credential, "sealed").reveal())


def age(credential: Credential, seconds_left: float, now: Any) -> None:
    """The access token in the row ends in so many seconds, and the last try is long ago."""
    held = held_by(credential)
    ends = now.timestamp() + seconds_left
    old = msgspec.structs.replace(held, expires_at=ends)
    vault.seal_into(credential, "sealed", Secret(tokens.packed(old)))
    Credential.objects.filter(pk=credential.pk).update(
        sealed=credential.sealed,
        expires_at=tokens.when(ends),
        refresh_at=tokens.when(ends - 300),
        refresh_tried_at=None,
    )
    credential.refresh_from_db()


def renewals(desk: Desk, path: str = TOKEN_PATH) -> int:
    return sum(
        r.path == path and "grant_type=refresh_token" in r.body
        for r in desk.simulator.world.requests
    )


@pytest.mark.storage
@pytest.mark.django_db
class TestOne:
    def test_a_token_that_works_is_used_as_it_is(self, desk: Desk) -> None:
        credential = desk.sign_in(desk.provider(""), "device")
        held = ensure_fresh(credential.pk)
        assert held.token.reveal() == held_by(credential).access_token
        assert renewals(desk) == 0

    def test_one_that_ends_within_a_minute_is_renewed_first(self, desk: Desk) -> None:
        credential = desk.sign_in(desk.provider(""), "device")
        before = held_by(credential)
        desk.clock.pass_(3_600 - 59)
        held = ensure_fresh(credential.pk)
        after = held_by(credential)
        assert held.token.reveal() == after.access_token != before.access_token
        assert after.refresh_token != before.refresh_token
        assert held.expires_at is not None
        assert held.expires_at - desk.clock.now() > timedelta(seconds=60)
        assert renewals(desk) == 1
        assert credential.refresh_owner == ""

    def test_a_refused_token_is_renewed_though_it_should_still_work(self, desk: Desk) -> None:
        credential = desk.sign_in(desk.provider(""), "device")
        old = ensure_fresh(credential.pk)
        new = ensure_fresh(credential.pk, refused=old.token)
        assert new.token != old.token
        # Whoever was refused with the same old token needs no further renewal.
        assert ensure_fresh(credential.pk, refused=old.token).token == new.token
        assert renewals(desk) == 1

    def test_nobody_renews_twice_within_a_minute(self, desk: Desk) -> None:
        """Bar R16, with a vendor that refuses every token it makes."""
        credential = desk.sign_in(desk.provider(""), "device")
        refused = ensure_fresh(credential.pk).token
        for _ in range(5):
            with contextlib.suppress(LoginUnusable):
                refused = ensure_fresh(credential.pk, refused=refused).token
            desk.clock.pass_(10)
        assert renewals(desk) == 1
        desk.clock.pass_(11)
        ensure_fresh(credential.pk, refused=refused)
        assert renewals(desk) == 2

    @pytest.mark.parametrize("jump", [-86_400, -3_600, 3_600, 40 * 86_400])
    def test_clock_jumps_cost_one_renewal_at_most(self, desk: Desk, jump: int) -> None:
        credential = desk.sign_in(desk.provider(""), "device")
        ensure_fresh(credential.pk, refused=ensure_fresh(credential.pk).token)
        first = renewals(desk)
        desk.clock.offset += timedelta(seconds=jump)
        for _ in range(3):
            held = ensure_fresh(credential.pk)
            if held.expires_at is not None:
                assert held.expires_at - desk.clock.now() > timedelta(seconds=60)
        assert renewals(desk) - first <= 1

    @pytest.mark.parametrize("told", [-1, 0, 1, "soon", 1e300, None, [], True, "3600"])
    def test_absurd_lifetimes(self, told: object) -> None:
        now = datetime(2026, 11, 21, tzinfo=UTC)
        answer = {"access_token": "a", "expires_in": told, "refresh_token": "r"}
        found = tokens.from_answer(answer, now)
        assert found is not None
        assert 0 < found.expires_at - now.timestamp() <= 400 * 86_400

    def test_a_login_that_ended_says_so_and_is_asked_no_more(self, desk: Desk) -> None:
        credential = desk.sign_in(desk.provider(""), "device")
        desk.simulator.control("logins/revoke", {"vendor": "rfc8628", "account": "ada"})
        desk.clock.pass_(3_600)
        for _ in range(3):
            with pytest.raises(LoginUnusable, match="has ended"):
                ensure_fresh(credential.pk)
        credential.refresh_from_db()
        assert credential.state == Credential.State.NEEDS_LOGIN
        assert "ended" in credential.state_reason
        assert credential.refresh_at is None
        assert renewals(desk) == 1
        kinds = [event.kind for event in CredentialEvent.objects.order_by("at")]
        assert kinds == ["issued", "refresh_failed", "state"]

    def test_a_sibling_that_was_faster_is_not_a_dead_login(
        self, desk: Desk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Our lease ran out while we asked; another process renewed; the vendor tells us that our
        token was used. What counts is the row."""
        credential = desk.sign_in(desk.provider(""), "device")
        desk.clock.pass_(3_600)
        really_ask, is_first = asking.ask, [True]

        def slow(*asked: Any) -> Any:
            if is_first.pop() if is_first else False:
                Credential.objects.filter(pk=credential.pk).update(refresh_until=None)
                ensure_fresh(credential.pk)
            return really_ask(*asked)

        monkeypatch.setattr(asking, "ask", slow)
        # The vendor's own rule would end the family; this one is lenient, as AWS is.
        monkeypatch.setattr("providers.simulator.logins.state.Family.end", lambda *_: None)
        held = ensure_fresh(credential.pk)
        credential.refresh_from_db()
        assert credential.state == Credential.State.ACTIVE
        assert held.token.reveal() == held_by(credential).access_token

    def test_a_lost_answer_is_not_asked_for_again_at_once(
        self, desk: Desk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whoever sends a single-use token twice may look like its thief."""
        provider = desk.provider("openai-codex")
        credential = desk.sign_in(provider, "device")
        due = credential.refresh_at
        assert due is not None
        desk.clock.pass_((due - desk.clock.now()).total_seconds() + 1)
        sent: list[str] = []

        def lost(_provider: Any, question: Any, _credential: Any) -> Any:
            sent.append(question.url)
            raise UpstreamTimeout("The upstream did not answer in time.")

        monkeypatch.setattr(asking, "ask", lost)
        for _ in range(3):
            # The token in hand still works, and goes on serving.
            assert ensure_fresh(credential.pk, is_due=True).token
            desk.clock.pass_(600)
        credential.refresh_from_db()
        assert len(sent) == 1
        assert credential.is_refresh_uncertain
        assert credential.state == Credential.State.ACTIVE
        assert credential.expires_at is not None
        assert credential.refresh_at is not None
        assert credential.expires_at - credential.refresh_at == timedelta(seconds=120)
        # Shortly before the end it is tried once more; lost again, a person has to come.
        desk.clock.pass_((credential.refresh_at - desk.clock.now()).total_seconds() + 1)
        with pytest.raises(LoginUnusable):
            ensure_fresh(credential.pk, is_due=True)
        credential.refresh_from_db()
        assert len(sent) == 2
        assert credential.state == Credential.State.NEEDS_LOGIN

    def test_an_outage_keeps_the_login_and_its_working_token(self, desk: Desk) -> None:
        credential = desk.sign_in(desk.provider(""), "device")
        desk.clock.pass_(3_400)
        desk.simulator.control("faults", {"script": "status=503", "vendor": "rfc8628"})
        assert ensure_fresh(credential.pk, is_due=True).token
        credential.refresh_from_db()
        assert credential.state == Credential.State.ACTIVE
        assert credential.refresh_failures == 1
        # The token is over now. It is tried once, and then not again at once.
        desk.clock.pass_(300)
        for _ in range(2):
            with pytest.raises(LoginUnusable, match="a moment ago"):
                ensure_fresh(credential.pk)

    def test_the_job_renews_ahead_of_the_end(self, desk: Desk) -> None:
        credential = desk.sign_in(desk.provider(""), "device")
        assert credential.refresh_at is not None
        assert credential.expires_at is not None
        assert credential.refresh_at < credential.expires_at - timedelta(seconds=300)
        refresh_due()
        assert not Job.objects.filter(kind="login.refresh").exists()
        desk.clock.pass_((credential.refresh_at - desk.clock.now()).total_seconds() + 1)
        refresh_due()
        refresh_due()
        job = Job.objects.get(kind="login.refresh")
        run_refresh(**job.args)
        assert renewals(desk) == 1
        credential.refresh_from_db()
        assert credential.refresh_at > desk.clock.now()

    def test_copilot_makes_its_token_from_githubs(self, desk: Desk) -> None:
        credential = desk.sign_in(desk.provider("github-copilot"), "device")
        before = held_by(credential)
        assert before.base_token.startswith("ghu_")
        assert before.access_token.startswith("tid=")
        desk.clock.pass_(1_800)
        after = ensure_fresh(credential.pk)
        assert after.token.reveal() != before.access_token
        assert held_by(credential).base_token == before.base_token

    @pytest.mark.parametrize(
        ("account", "code"), [("dan", "no_entitlement"), ("finn", "no_entitlement")]
    )
    def test_an_account_without_a_plan_never_becomes_a_credential(
        self, desk: Desk, account: str, code: str
    ) -> None:
        login = desk.begin(desk.provider("github-copilot"), "device")
        desk.approve(login, account)
        desk.poll(login)
        assert (login.status, login.error_code) == ("error", code)
        assert account in login.error_detail
        assert not Credential.objects.exists()

    @pytest.mark.parametrize(
        ("catalog_id", "way", "path"),
        [
            ("kiro", "builder_id", "/aws-oidc/us-east-1/token"),
            ("kiro", "google", "/kiro/refreshToken"),
            ("openai-codex", "device", "/codex/oauth/token"),
            ("kimi-coding", "device", "/kimi/api/oauth/token"),
            ("xai", "device", "/xai/oauth2/token"),
        ],
    )
    def test_each_dialect_renews_and_dies(
        self, desk: Desk, catalog_id: str, way: str, path: str
    ) -> None:
        credential = desk.sign_in(desk.provider(catalog_id), way)
        old = ensure_fresh(credential.pk).token
        new = ensure_fresh(credential.pk, refused=old).token
        assert new != old
        assert desk.simulator.rules() == []
        vendor = {"kimi-coding": "kimi", "openai-codex": "codex"}.get(catalog_id, catalog_id)
        ended = desk.simulator.control("logins/revoke", {"vendor": vendor, "account": "ada"})
        assert ended["ended"] == 1
        desk.clock.pass_(61)
        with pytest.raises(LoginUnusable, match="ended"):
            ensure_fresh(credential.pk, refused=new)
        credential.refresh_from_db()
        assert credential.state == Credential.State.NEEDS_LOGIN


# --- many at once ---------------------------------------------------------------------------------

PROCESSES = 16
KILL_POINTS = ("before the lease", "leased", "sending", "answered", "written")


@pytest.mark.storage
@pytest.mark.django_db(transaction=True)
def test_threads_share_one_renewal(desk: Desk) -> None:
    credential = desk.sign_in(desk.provider(""), "device")
    age(credential, -1, desk.clock.now())
    barrier = threading.Barrier(8)

    def one(_: int) -> str:
        try:
            barrier.wait(LONG_SECONDS)
            return ensure_fresh(credential.pk).token.reveal()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(one, range(8)))
    assert found == {held_by(credential).access_token}
    assert renewals(desk) == 1


def in_children(count: int, work: Any) -> list[dict[str, Any]]:
    """Runs `work(number)` in so many processes at once; what each returned, as JSON."""
    connections.close_all()
    gate_read, gate_write = os.pipe()
    children = []
    for number in range(count):
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(read)
            os.close(gate_write)
            code = 1
            try:
                os.read(gate_read, 1)
                os.write(write, json.dumps(work(number)).encode())
                code = 0
            finally:
                os._exit(code)
        os.close(write)
        children.append((pid, read))
    os.close(gate_read)
    # The end of the pipe opens the gate for all at once.
    os.close(gate_write)
    found = []
    for pid, read in children:
        with os.fdopen(read, "rb") as pipe:
            said = pipe.read()
        os.waitpid(pid, 0)
        found.append(json.loads(said) if said else {})
    return found


def race(desk: Desk, rounds: int) -> None:
    credential = desk.sign_in(desk.provider(""), "device")

    def one(_: int) -> dict[str, Any]:
        held = ensure_fresh(credential.pk)
        return {"token": held.token.reveal(), "at": time.monotonic()}

    for number in range(1, rounds + 1):
        age(credential, -1, desk.clock.now())
        found = in_children(PROCESSES, one)
        token = held_by(credential).access_token
        assert [answer.get("token") for answer in found] == [token] * PROCESSES
        # All hold it within two seconds of the first.
        moments = [answer["at"] for answer in found]
        assert max(moments) - min(moments) <= allowed(2.0)
        assert renewals(desk) == number
    assert "refresh_reuse" not in desk.simulator.rules()


@pytest.mark.storage
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.django_db(transaction=True)
def test_sixteen_processes_renew_once(desk: Desk) -> None:
    """Bar R1."""
    race(desk, rounds=1)


@pytest.mark.soak
@pytest.mark.storage
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.django_db(transaction=True)
def test_sixteen_processes_renew_once_fifty_times(desk: Desk) -> None:
    """Bar R1, whole."""
    race(desk, rounds=50)


@pytest.mark.storage
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("place", KILL_POINTS)
def test_a_process_killed_in_a_renewal_leaves_a_working_login_or_says_so(
    desk: Desk, place: str
) -> None:
    """Bar R2: never silent, and over within the lease."""
    credential = desk.sign_in(desk.provider(""), "device")
    age(credential, -1, desk.clock.now())

    def die(_: int) -> dict[str, Any]:
        def at(where: str) -> None:
            if where == place:
                os._exit(9)

        ensure_fresh(credential.pk, checkpoint=at)
        return {"survived": True}

    assert in_children(1, die) == [{}]
    desk.clock.pass_(refresh.LEASE.total_seconds() + 1)
    try:
        held = ensure_fresh(credential.pk)
    except LoginUnusable:
        credential.refresh_from_db()
        assert credential.state == Credential.State.NEEDS_LOGIN
        with scope.platform("tests"):
            assert CredentialEvent.objects.filter(state="needs_login").exists()
            assert Alert.objects.get().kind == AlertKind.NEEDS_LOGIN
        # Only where the vendor had taken the token and its answer died with the process.
        assert place == "answered"
    else:
        assert held.token.reveal() == held_by(credential).access_token
        assert place != "answered"
    assert credential.refresh_owner == "" or credential.refresh_until is not None


@pytest.mark.storage
@pytest.mark.django_db(transaction=True)
def test_an_answer_in_hand_waits_for_the_database(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bar R2: the database is away when the reply arrives."""
    credential = desk.sign_in(desk.provider(""), "device")
    age(credential, -1, desk.clock.now())
    really_store, away = refresh._store, [True] * 7

    def store(*args: Any) -> None:
        if away:
            away.pop()
            raise OperationalError("the server closed the connection unexpectedly")
        really_store(*args)

    monkeypatch.setattr(refresh, "_store", store)
    assert connection.in_atomic_block is False
    held = ensure_fresh(credential.pk)
    assert held.token.reveal() == held_by(credential).access_token
    assert renewals(desk) == 1
