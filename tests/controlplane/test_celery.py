"""Bar A4: messages are JSON with ids only, pickle is refused, nothing is stored or controlled."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from celery import current_app
from django.db import OperationalError
from kombu import Connection, Queue
from kombu.exceptions import ContentDisallowed

from controlplane import celery
from controlplane.kit.jobs import runner, services
from controlplane.kit.jobs.models import Heartbeat, Job


def test_messages_are_json_and_nothing_else() -> None:
    conf = celery.app.conf
    assert current_app.main == "controlplane"
    assert (conf.task_serializer, conf.accept_content) == ("json", ["json"])
    assert conf.result_backend is None
    assert conf.task_ignore_result is True
    assert conf.worker_enable_remote_control is False
    assert conf.worker_send_task_events is False


def test_a_pickled_message_is_refused() -> None:
    with Connection("memory://localhost") as connection, connection.channel() as channel:
        queue = Queue("test-pickle", channel=channel)
        queue.declare()
        connection.Producer(channel).publish(
            pickle.dumps({"x": 1}),
            routing_key="test-pickle",
            content_type="application/x-python-serialize",
            content_encoding="binary",
        )
        message = queue.get(no_ack=True, accept=celery.app.conf.accept_content)
        assert message is not None
        with pytest.raises(ContentDisallowed):
            message.decode()


def test_beat_only_says_look() -> None:
    entries = celery.app.conf.beat_schedule.values()
    assert [entry["task"] for entry in entries] == ["jobs.tick"]
    assert not any(entry.get("args") or entry.get("kwargs") for entry in entries)
    own = {name for name in celery.app.tasks if not name.startswith("celery.")}
    assert own == {"jobs.tick"}, "work is a job row with a handler, not a task"


# transaction=True: a tick starts by closing worn-out connections, as it does outside of tests.
@pytest.mark.storage
@pytest.mark.django_db(transaction=True)
def test_a_tick_beats_and_makes_recurring_jobs() -> None:
    celery.tick()
    assert Heartbeat.objects.get().name == celery.HEARTBEAT
    assert Job.objects.get(kind="jobs.prune").state == Job.State.WAITING
    celery.tick(some_argument_of_a_later_version=1)


@pytest.mark.django_db(transaction=True)
def test_a_tick_outlives_an_absent_database(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    beats: list[str] = []
    monkeypatch.setattr(celery.pulse, "beat", lambda: beats.append("beat"))

    def fail(*_: Any, **__: Any) -> None:
        raise OperationalError("connection to me:hunter2@db refused")

    monkeypatch.setattr(services, "heartbeat", fail)
    monkeypatch.setattr(runner, "run_due", fail)
    celery.tick()
    assert beats == ["beat"], "a restart would not bring the database back"
    assert "the database does not answer" in caplog.text
    assert "hunter2" not in caplog.text
