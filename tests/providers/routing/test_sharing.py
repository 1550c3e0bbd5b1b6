"""What gateways tell each other through rows, and the traces they keep."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection

from controlplane.kit import clock
from controlplane.kit.secret import Secret
from providers.catalog.models import Provider
from providers.catalog.services import register
from providers.credentials.models import Credential
from providers.credentials.services import change_credential, store_key
from providers.routing.cooldown import Cooldowns, Place
from providers.routing.decision import Decision, Try
from providers.routing.error_rules import BadRule, set_error_rules
from providers.routing.models import Resting, RouteTrace
from providers.routing.outcomes import Outcome
from providers.routing.sharing import end_rests, forget_old, hear, refuse, tell
from providers.routing.state import Routing
from providers.routing.table import CredentialRef, ErrorRule
from providers.routing.traces import MOST_WAITING, Traces, prune_traces
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.audit.models import AuditEvent
from tenants.errors import StaleVersion
from tenants.members.models import Tenant
from tenants.revisions.services import current
from tests.providers.routing.made import planned, standing, table, target

pytestmark = [pytest.mark.storage, pytest.mark.django_db]


@pytest.fixture(autouse=True)
def operator(db: None) -> Iterator[None]:
    with acting_as("command", None, "tests"), scope.platform("tests"):
        yield


@pytest.fixture
def provider() -> Provider:
    return register(slug="p", protocol="openai-completions", base_url="http://127.0.0.1:1")


def resting(provider: Provider, now: float) -> tuple[Cooldowns, Place]:
    known = Cooldowns()
    place = (str(provider.pk), "c", "m")
    known.failed(*place, outcome=Outcome.RATE, now=now, cooldown_seconds=30, retry_after_seconds=60)
    return known, place


def test_one_gateway_tells_and_the_others_hear(provider: Provider) -> None:
    now = clock.now().timestamp()
    here, place = resting(provider, now)
    there = Cooldowns()
    before = current()["rests"]
    tell(here.untold())
    tell(here.untold())
    assert current()["rests"] > before
    there.adopt(hear())
    rest = there.resting(*place, now)
    assert rest is not None
    assert rest.until == pytest.approx(now + 60, abs=0.01)
    there.succeeded(*place)
    tell(there.untold())
    assert hear() == {}


def test_a_registration_that_is_gone_is_left_out(provider: Provider) -> None:
    known, _ = resting(provider, clock.now().timestamp())
    provider.delete()
    tell(known.untold())
    assert hear() == {}


def test_an_operator_ends_rests_and_it_is_recorded(provider: Provider) -> None:
    known, _ = resting(provider, clock.now().timestamp())
    tell(known.untold())
    assert end_rests(provider) == 1
    assert end_rests(provider) == 0
    (event,) = AuditEvent.objects.filter(action="provider.rests_ended")
    assert event.after == {"ended": 1}


def test_what_is_long_over_is_forgotten(provider: Provider) -> None:
    known, _ = resting(provider, clock.now().timestamp())
    tell(known.untold())
    assert forget_old(now=clock.now()) == 0
    assert forget_old(now=clock.now() + timedelta(hours=1)) == 1
    assert not Resting.objects.exists()


def ref(credential: Credential) -> CredentialRef:
    return CredentialRef(id=str(credential.pk), version=credential.version)


def test_a_refused_key_needs_a_new_one(provider: Provider) -> None:
    key = store_key(provider=provider, label="one", secret=Secret("sk-test"))
    seen = ref(key)
    # Somebody replaces it while the refusal is on its way: the new one is not to blame.
    change_credential(key, secret=Secret("sk-newer"))
    assert refuse({seen.id: (seen, "refused")}) == 0
    key.refresh_from_db()
    assert refuse({seen.id: (ref(key), "The provider refused it (401).")}) == 1
    key.refresh_from_db()
    assert (key.state, key.state_reason) == ("needs_login", "The provider refused it (401).")
    assert refuse({seen.id: (ref(key), "again")}) == 0
    assert AuditEvent.objects.filter(action="credential.refused").count() == 1


def test_when_a_refusal_is_proof() -> None:
    times = [1_000.0]
    routing = Routing(lambda: times[0])
    one = target("p", credentials=1)
    (credential,) = one.endpoint.credentials

    def refused(outcome: Outcome, count: int) -> bool:
        for _ in range(count):
            routing.failed(one, credential, outcome)
        found = credential.id in routing.refused
        routing.refused.clear()
        return found

    assert refused(Outcome.AUTH, 1)
    assert not refused(Outcome.FORBIDDEN, 2)
    assert refused(Outcome.FORBIDDEN, 1)
    # It worked a moment ago: once may be a hiccup, and being forbidden one model is no proof.
    routing.succeeded(one, credential, is_whole=True)
    assert not refused(Outcome.AUTH, 2)
    assert refused(Outcome.AUTH, 1)
    assert not refused(Outcome.FORBIDDEN, 50)
    times[0] += 3_600
    assert refused(Outcome.FORBIDDEN, 3)


def test_rules_are_replaced_whole_and_recorded(provider: Provider) -> None:
    set_error_rules(provider, [ErrorRule(action="stop", status=400, contains="x")])
    set_error_rules(provider, [ErrorRule(action="cooldown", contains="busy")])
    assert [str(rule) for rule in provider.error_rules.all()] == ["any busy"]
    with pytest.raises(BadRule):
        set_error_rules(provider, [ErrorRule(action="stop")])
    with pytest.raises(BadRule):
        set_error_rules(provider, [ErrorRule(action="stop", status=400)] * 51)
    with pytest.raises(Exception, match="less than or equal to 599"):
        set_error_rules(provider, [ErrorRule(action="stop", status=900)])
    with pytest.raises(StaleVersion):
        set_error_rules(provider, [], expected_version=1)
    events = AuditEvent.objects.filter(action="provider.error_rules_changed")
    assert events.count() == 2


# --- traces ---------------------------------------------------------------------------------------


def decision(tenant: Tenant, *outcomes: Outcome) -> Decision:
    one = target("p")
    made = Decision(tenant_id=tenant.id, plan=planned(table(one), standing()))
    made.tries = [Try(one, one.endpoint.credentials[0], outcome) for outcome in outcomes]
    return made


@pytest.mark.parametrize(
    ("outcomes", "wanted"),
    [
        ((Outcome.OK,), "ok"),
        ((Outcome.RATE, Outcome.OK), "rescued"),
        ((Outcome.RATE,), "failed"),
        ((Outcome.CANCELLED,), "left"),
        ((), "refused"),
    ],
    ids=str,
)
def test_a_trace_says_how_it_ended(
    tenant: Tenant, outcomes: tuple[Outcome, ...], wanted: str
) -> None:
    traces = Traces()
    traces.note("request", decision(tenant, *outcomes))
    assert traces.flush() == 1
    assert not traces.has_waiting()
    trace = RouteTrace.objects.get()
    assert (trace.outcome, trace.tenant_id, trace.request_id) == (wanted, tenant.id, "request")
    assert [each["outcome"] for each in trace.decision["tried"]] == [o.value for o in outcomes]
    # Written with SQL of its own: what the ORM reads must be what the ORM would have written.
    assert trace.pk.version == 7
    assert trace.at == trace.created_at
    assert RouteTrace.objects.filter(pk=trace.pk, at__lte=datetime.now(UTC)).exists()


@pytest.mark.parametrize(("kept", "count"), [("all", 2), ("failures", 1), ("off", 0)])
def test_which_are_kept(tenant: Tenant, settings: Any, kept: str, count: int) -> None:
    settings.ROUTING_TRACES = kept
    traces = Traces()
    traces.note("fine", decision(tenant, Outcome.OK))
    traces.note("rescued", decision(tenant, Outcome.RATE, Outcome.OK))
    assert traces.flush() == count


def test_what_cannot_be_written_now_waits(tenant: Tenant) -> None:
    traces = Traces()
    traces.note("one", decision(tenant, Outcome.OK))

    def away(*_: Any, **__: Any) -> None:
        raise OSError("the database is away")

    with connection.execute_wrapper(away), pytest.raises(OSError, match="away"):
        traces.flush()
    assert traces.flush() == 1


def test_memory_is_bounded(tenant: Tenant, caplog: pytest.LogCaptureFixture) -> None:
    traces = Traces()
    made = decision(tenant, Outcome.OK)
    for number in range(MOST_WAITING + 3):
        traces.note(str(number), made)
    assert traces.flush() > 0
    assert "3 decision traces were lost" in caplog.text


def test_old_ones_go(tenant: Tenant, settings: Any) -> None:
    settings.ROUTING_TRACE_KEEP_DAYS = 2
    traces = Traces()
    traces.note("one", decision(tenant, Outcome.OK))
    traces.flush()
    now = datetime.now(UTC)
    assert prune_traces(now=now) == 0
    assert prune_traces(now=now + timedelta(days=3)) == 1
