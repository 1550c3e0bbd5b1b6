"""Alerts on their way to a real HTTP receiver, which checks every signature."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from controlplane.kit import clock, json
from controlplane.kit.jobs.models import Job
from controlplane.kit.secret import Secret
from providers.notices import tasks
from tenants import scope
from tenants.alerts import policy, receivers
from tenants.alerts.kinds import AlertKind
from tenants.alerts.models import Alert, AlertDelivery, AlertReceiver
from tenants.alerts.services import DELIVER_JOB, alert
from tenants.alerts.signing import is_genuine
from tenants.audit.actor import acting_as
from tenants.audit.models import AuditEvent
from tenants.members.models import Tenant
from tests.conftest import ROOT
from tests.running import served

pytestmark = [pytest.mark.storage, pytest.mark.django_db(transaction=True)]

State = AlertDelivery.State
HERE = ["127.0.0.0/8"]


@dataclass
class Receiver:
    """Keeps what it got. `answers` are its statuses, then 204 for ever; `on_message` is called
    before it answers."""

    url: str = ""
    answers: list[int] = field(default_factory=list)
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    on_message: Callable[[], None] = lambda: None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.got.append((headers, body))
        self.on_message()
        status = self.answers.pop(0) if self.answers else 204
        extra = [(b"location", b"http://127.0.0.1:1/")] if 300 <= status < 400 else []
        await send({"type": "http.response.start", "status": status, "headers": extra})
        await send({"type": "http.response.body", "body": b""})

    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _ in self.got]


@pytest.fixture(autouse=True)
def operator(db: None, settings: Any) -> Iterator[None]:
    settings.UPSTREAM_ALLOWED_NETWORKS_FOR_TENANTS = HERE
    with acting_as("command", None, "tests"), scope.platform("tests"):
        yield


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    with ExitStack() as running:
        made.url = running.enter_context(served(made, lifespan="off")) + "/alerts?a=b"
        yield made


def hook(owner: Tenant | None, url: str) -> tuple[AlertReceiver, Secret]:
    row, secret = receivers.create_receiver(
        tenant=owner, label="hook", channel="webhook", address=url
    )
    assert secret is not None
    return row, secret


def tell(owner: Tenant | None, key: str = "a") -> AlertDelivery:
    """The delivery of a new alert to the one webhook of this owner."""
    owner_id = owner.id if owner is not None else None
    assert alert(AlertKind.QUOTA, tenant_id=owner_id, key=key, title="80 %", text="Much is used.")
    made: AlertDelivery = AlertDelivery.objects.get(
        channel="webhook", alert__key__endswith=f":{key}"
    )
    return made


def attempt(delivery: AlertDelivery) -> Any:
    due_at = tasks.deliver(delivery_id=str(delivery.pk))
    delivery.refresh_from_db()
    return due_at


def test_the_receiver_can_prove_who_sent_it(tenant: Tenant, receiver: Receiver) -> None:
    row, secret = hook(tenant, receiver.url)
    delivery = tell(tenant)
    assert attempt(delivery) is None
    ((headers, body),) = receiver.got
    now = int(clock.now().timestamp())
    assert is_genuine(secret, headers, body, now_seconds=now)
    assert not is_genuine(secret, headers, body.replace(b"80", b"10"), now_seconds=now)
    assert headers["webhook-id"] == str(delivery.pk)
    assert headers["content-type"] == "application/json"
    said = json.loads_dict(body)
    assert said["type"] == "alert.quota"
    assert said["data"]["tenant"] == "acme"
    assert said["data"]["text"] == "Much is used."
    assert (delivery.state, delivery.attempts) == (State.SENT, 1)
    row.refresh_from_db()
    assert row.last_sent_at is not None
    # Run again, as a job may be: nothing is sent a second time.
    assert attempt(delivery) is None
    assert len(receiver.got) == 1


def test_while_a_secret_is_replaced_both_sign(tenant: Tenant, receiver: Receiver) -> None:
    row, old = hook(tenant, receiver.url)
    row, new = receivers.rotate_secret(receiver=row, version=1, overlap=timedelta(hours=1))
    attempt(tell(tenant, "during"))
    AlertReceiver.objects.update(previous_until=clock.now())
    attempt(tell(tenant, "after"))
    now = int(clock.now().timestamp())
    proved = [
        [is_genuine(secret, *message, now_seconds=now) for secret in (new, old)]
        for message in receiver.got
    ]
    assert proved == [[True, True], [True, False]]


def test_failures_are_tried_again_with_the_same_id_and_body(
    tenant: Tenant, receiver: Receiver
) -> None:
    row, secret = hook(tenant, receiver.url)
    receiver.answers = [500, 302, 404]
    delivery = tell(tenant)
    words = []
    for _ in range(3):
        before = clock.now()
        due_at = attempt(delivery)
        assert due_at == delivery.due_at > before
        words.append(delivery.last_error)
    assert words[0] == "The receiver answered with 500."
    assert "redirect" in words[1]
    row.refresh_from_db()
    assert row.failing_since is not None
    assert attempt(delivery) is None
    assert (delivery.state, delivery.attempts) == (State.SENT, 4)
    assert receiver.ids() == [str(delivery.pk)] * 4
    assert len({body for _, body in receiver.got}) == 1
    now = int(clock.now().timestamp())
    assert all(is_genuine(secret, *message, now_seconds=now) for message in receiver.got)
    row.refresh_from_db()
    assert (row.failing_since, row.last_error) == (None, "")


def test_it_ends_after_a_stated_time(tenant: Tenant, receiver: Receiver) -> None:
    hook(tenant, receiver.url)
    receiver.answers = [500]
    delivery = tell(tenant)
    AlertDelivery.objects.update(created_at=clock.now() - policy.GIVEN_UP_AFTER)
    assert attempt(delivery) is None
    assert delivery.state == State.GIVEN_UP
    assert delivery.last_error == "The receiver answered with 500."


def test_a_webhook_that_fails_for_days_is_switched_off_and_says_so(
    tenant: Tenant, receiver: Receiver
) -> None:
    row, _ = hook(tenant, receiver.url)
    receiver.answers = [500, 500]
    first = tell(tenant, "first")
    attempt(first)
    assert AlertReceiver.objects.get().is_on
    since = clock.now() - policy.SWITCHED_OFF_AFTER
    AlertReceiver.objects.update(failing_since=since)
    attempt(tell(tenant, "second"))
    row.refresh_from_db()
    assert not row.is_on
    assert "5 days" in row.off_reason
    assert AuditEvent.objects.filter(action="alert_receiver.switched_off").count() == 1
    told = Alert.objects.get(kind=AlertKind.RECEIVER_OFF)
    # By letter: the webhook itself hears no more.
    assert [one.channel for one in told.deliveries.all()] == ["email"]
    # What still waited ends there, and is not sent.
    sent = len(receiver.got)
    assert attempt(first) is None
    assert (first.state, len(receiver.got)) == (State.GIVEN_UP, sent)
    row = receivers.update_receiver(receiver=row, version=row.version, is_on=True)
    assert (row.failing_since, row.off_reason) == (None, "")


def test_a_test_is_tried_once_even_when_it_is_switched_off(
    tenant: Tenant, receiver: Receiver
) -> None:
    row, _ = hook(tenant, receiver.url)
    receivers.update_receiver(receiver=row, version=1, is_on=False)
    delivery = receivers.send_test(receiver=row)
    assert attempt(delivery) is None
    assert delivery.state == State.SENT
    receiver.answers = [503]
    delivery = receivers.send_test(receiver=row, now=clock.now() + timedelta(minutes=1))
    assert attempt(delivery) is None
    assert (delivery.state, delivery.attempts) == (State.GIVEN_UP, 1)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"],
)
def test_tenants_cannot_reach_this_machine(
    tenant: Tenant, receiver: Receiver, settings: Any, host: str
) -> None:
    settings.UPSTREAM_ALLOWED_NETWORKS = HERE
    settings.UPSTREAM_ALLOWED_NETWORKS_FOR_TENANTS = []
    hook(tenant, receiver.url.replace("127.0.0.1", host))
    delivery = tell(tenant)
    attempt(delivery)
    assert "UPSTREAM_ALLOWED_NETWORKS_FOR_TENANTS" in delivery.last_error
    assert receiver.got == []


def test_what_the_operator_opened_for_the_platform_is_the_platforms(
    receiver: Receiver, settings: Any
) -> None:
    settings.UPSTREAM_ALLOWED_NETWORKS = HERE
    settings.UPSTREAM_ALLOWED_NETWORKS_FOR_TENANTS = []
    hook(None, receiver.url)
    delivery = tell(None)
    assert attempt(delivery) is None
    assert delivery.state == State.SENT


def test_nobody_listens(tenant: Tenant, receiver: Receiver) -> None:
    hook(tenant, "http://127.0.0.1:1/")
    delivery = tell(tenant)
    assert attempt(delivery) is not None
    assert "refused the connection" in delivery.last_error


def test_a_job_that_was_lost_is_found(tenant: Tenant, receiver: Receiver) -> None:
    hook(tenant, receiver.url)
    delivery = tell(tenant)
    Job.objects.all().delete()
    tasks.sweep()
    assert not Job.objects.filter(key=str(delivery.pk)).exists(), "it is not late yet"
    AlertDelivery.objects.update(due_at=clock.now() - timedelta(minutes=5))
    tasks.sweep()
    tasks.sweep()
    assert Job.objects.filter(kind=DELIVER_JOB, key=str(delivery.pk)).count() == 1


def test_killed_between_the_sending_and_the_note(tenant: Tenant, receiver: Receiver) -> None:
    """At least once, and both times with the same id."""
    hook(tenant, receiver.url)
    delivery = tell(tenant)
    AlertDelivery.objects.filter(channel="email").delete()
    Job.objects.exclude(key=str(delivery.pk)).delete()
    has_started = threading.Event()
    command = [
        *(sys.executable, str(Path(__file__).with_name("killed_sender.py"))),
        str(connection.settings_dict["NAME"]),
    ]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "UPSTREAM_ALLOWED_NETWORKS_FOR_TENANTS": HERE[0],
    }
    with subprocess.Popen(command, env=environment) as process:

        def kill() -> None:
            # It has sent all of its message and hears no answer any more.
            assert has_started.wait(60)
            process.send_signal(signal.SIGKILL)
            process.wait(60)

        receiver.on_message = kill
        has_started.set()
        assert process.wait(120) == -signal.SIGKILL
    delivery.refresh_from_db()
    assert delivery.state == State.WAITING
    job = Job.objects.get(kind=DELIVER_JOB)
    assert job.state == Job.State.RUNNING
    assert job.lease_until is not None
    later = job.lease_until + timedelta(seconds=1)
    assert Job.objects.next_ids(now=later, kinds=[DELIVER_JOB], limit=9) == [job.pk]
    receiver.on_message = lambda: None
    assert attempt(delivery) is None
    assert delivery.state == State.SENT
    assert receiver.ids() == [str(delivery.pk)] * 2
