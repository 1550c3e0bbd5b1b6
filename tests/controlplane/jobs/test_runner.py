from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from controlplane.kit import clock
from controlplane.kit.jobs import runner, services
from controlplane.kit.jobs.errors import GiveUp
from controlplane.kit.jobs.models import Job
from controlplane.kit.jobs.registry import RECURRING_KEY, Handler, Outcome

from .conftest import LEASE

pytestmark = [pytest.mark.storage, pytest.mark.django_db]

Handle = Callable[[Callable[..., Outcome]], None]


@pytest.fixture
def handle(handlers: dict[str, Handler]) -> Handle:
    def put(run: Callable[..., Outcome], every: timedelta | None = None) -> None:
        handlers["test.note"] = Handler("test.note", run, LEASE, 3, every)

    return put


def enqueue(key: str = "a", *, due_at: datetime | None = None, **args: object) -> None:
    due_at = due_at or clock.now()
    assert services.enqueue(kind="test.note", key=key, args=args, due_at=due_at)


def run_due(**options: object) -> int:
    return runner.run_due(**{"budget_seconds": 10, **options})  # type: ignore[arg-type]


def test_due_jobs_run_with_their_arguments(handle: Handle) -> None:
    seen: list[object] = []
    handle(lambda **args: seen.append(args))
    for number in range(70):
        enqueue(str(number), number=number)
    enqueue("later", due_at=clock.now() + timedelta(hours=1), number=-1)
    assert run_due() == 70
    assert sorted(args["number"] for args in seen) == list(range(70))  # type: ignore[index]
    assert set(Job.objects.values_list("state", "key").filter(state="waiting")) == {
        ("waiting", "later")
    }
    assert run_due() == 0


def test_an_error_means_another_attempt(handle: Handle, caplog: pytest.LogCaptureFixture) -> None:
    def fail(**_: object) -> Outcome:
        raise RuntimeError("token=hunter2")

    handle(fail)
    enqueue()
    assert run_due() == 1
    job = Job.objects.get()
    assert (job.state, job.attempts) == ("waiting", 1)
    assert job.last_error.startswith("RuntimeError in test_runner.py:")
    assert job.due_at > clock.now()
    assert "hunter2" not in caplog.text
    assert "test_runner.py" in caplog.text
    assert " < runner.py:" in caplog.text, "how it came to it"


def test_giving_up_ends_the_job_at_once(handle: Handle) -> None:
    def refuse(**_: object) -> Outcome:
        raise GiveUp("the login was cancelled")

    handle(refuse)
    enqueue()
    assert run_due() == 1
    job = Job.objects.get()
    assert (job.state, job.last_error) == ("given_up", "GiveUp: the login was cancelled")


def test_a_handler_names_the_time_of_its_next_run(handle: Handle) -> None:
    at = clock.now() + timedelta(seconds=5)
    handle(lambda **_: at)
    enqueue()
    assert run_due() == 1
    job = Job.objects.get()
    assert (job.state, job.due_at, job.attempts) == ("waiting", at, 0)


def test_a_recurring_job_comes_back_at_its_pace(handlers: dict[str, Handler]) -> None:
    handlers["test.note"] = Handler("test.note", lambda **_: None, LEASE, 3, timedelta(hours=1))
    services.ensure_recurring(now=clock.now())
    before = clock.now()
    assert run_due() == 1
    job = Job.objects.get()
    assert (job.state, job.key) == ("waiting", RECURRING_KEY)
    assert before + timedelta(hours=1) <= job.due_at <= clock.now() + timedelta(hours=1)


def test_other_jobs_of_a_recurring_kind_run_once(handlers: dict[str, Handler]) -> None:
    handlers["test.note"] = Handler("test.note", lambda **_: None, LEASE, 3, timedelta(hours=1))
    enqueue("by hand")
    assert run_due() == 1
    assert Job.objects.get().state == "done"


def test_jobs_of_another_version_wait_for_it(handle: Handle, handlers: dict[str, Handler]) -> None:
    handle(lambda **_: None)
    enqueue()
    del handlers["test.note"]
    assert run_due() == 0
    assert Job.objects.get().state == "waiting"


def test_a_stop_is_noticed_between_jobs(handle: Handle) -> None:
    done: list[str] = []
    handle(lambda **_: done.append("x"))
    for number in range(5):
        enqueue(str(number))
    assert run_due(is_stopping=lambda: len(done) >= 2) == 2
    assert Job.objects.filter(state="waiting").count() == 3


def test_a_budget_that_is_used_up_starts_nothing(handle: Handle) -> None:
    handle(lambda **_: None)
    enqueue()
    assert run_due(budget_seconds=0) == 0
    assert Job.objects.get().state == "waiting"


def test_an_attempt_that_lost_its_lease_changes_nothing(
    handle: Handle, caplog: pytest.LogCaptureFixture
) -> None:
    def outlive_the_lease(**_: object) -> Outcome:
        late = clock.now() + 2 * LEASE
        assert services.claim(job_id=Job.objects.get().pk, now=late) is not None
        return None

    handle(outlive_the_lease)
    enqueue()
    assert run_due() == 1
    job = Job.objects.get()
    assert (job.state, job.attempts) == ("running", 2), "it belongs to the second attempt"
    assert "job lease lost" in caplog.text


def test_pruning_goes_on_while_batches_are_full(
    handlers: dict[str, Handler], monkeypatch: pytest.MonkeyPatch
) -> None:
    from controlplane.kit.jobs import tasks

    monkeypatch.setattr(services, "PRUNE_BATCH", 2)
    long_ago = clock.now() - timedelta(days=99)
    for number in range(3):
        enqueue(str(number), due_at=long_ago)
        claim = services.claim(job_id=Job.objects.get(key=str(number)).pk, now=long_ago)
        assert claim is not None
        services.finish(claim=claim, now=long_ago)
    assert tasks.prune() is not None
    assert tasks.prune() is None
    assert not Job.objects.exists()
