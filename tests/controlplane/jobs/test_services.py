from __future__ import annotations

import threading
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest
from django.db import IntegrityError, connection, transaction

from controlplane.kit import clock
from controlplane.kit.errors import GatewayError
from controlplane.kit.jobs import services
from controlplane.kit.jobs.errors import GiveUp, UnknownKind
from controlplane.kit.jobs.models import Heartbeat, Job
from controlplane.kit.jobs.registry import RECURRING_KEY, Handler
from controlplane.kit.jobs.services import Claim
from tests.patience import LONG_SECONDS

from .conftest import LEASE, START, do_nothing

pytestmark = [pytest.mark.storage, pytest.mark.django_db, pytest.mark.usefixtures("handlers")]


def enqueue(key: str = "a", due_at: datetime = START) -> bool:
    return services.enqueue(kind="test.note", key=key, args={}, due_at=due_at)


def claimed(key: str = "a", now: datetime = START) -> Claim:
    claim = services.claim(job_id=Job.objects.unfinished().get(key=key).pk, now=now)
    assert claim is not None
    return claim


# --- Enqueue -------------------------------------------------------------------------------------


def test_one_unfinished_job_per_kind_and_key(handlers: dict[str, Handler]) -> None:
    handlers["test.other"] = Handler("test.other", do_nothing, LEASE, 3, None)
    assert enqueue()
    assert not enqueue()
    assert enqueue(key="b")
    assert services.enqueue(kind="test.other", key="a", args={}, due_at=START)
    assert Job.objects.count() == 3


def test_a_finished_job_makes_room_for_the_next() -> None:
    assert enqueue()
    claim = claimed()
    assert not enqueue(), "a running job is unfinished"
    assert services.finish(claim=claim, now=START)
    assert enqueue()


def test_a_job_is_part_of_the_callers_transaction() -> None:
    with transaction.atomic():
        assert enqueue()
        assert not enqueue()
        transaction.set_rollback(True)
    assert not Job.objects.exists()


def test_a_duplicate_leaves_the_transaction_usable() -> None:
    assert enqueue()
    with transaction.atomic():
        assert not enqueue()
        assert enqueue(key="b")
    assert Job.objects.count() == 2


def test_identifiers_are_kept_as_json() -> None:
    row_id = uuid4()
    args = {"login_id": row_id, "count": 3, "slug": "openai-responses"}
    services.enqueue(kind="test.note", key="a", args=args, due_at=START)
    assert claimed().args == {"login_id": str(row_id), "count": 3, "slug": "openai-responses"}


@pytest.mark.parametrize(
    "value",
    [
        "a prompt with spaces",
        "x" * 101,
        "",
        "line\nbreak",
        1.5,
        None,
        True,
        b"bytes",
        {"a": 1},
        [1],
    ],
)
def test_anything_but_an_identifier_is_refused_unnamed(value: object) -> None:
    with pytest.raises(ValueError, match="no identifier") as caught:
        services.enqueue(kind="test.note", key="a", args={"text": value}, due_at=START)
    if isinstance(value, str) and value:
        assert value not in str(caught.value)
    assert not Job.objects.exists()


def test_bad_calls_are_refused_with_a_reason() -> None:
    with pytest.raises(UnknownKind):
        services.enqueue(kind="test.nothing", key="a", args={}, due_at=START)
    with pytest.raises(ValueError, match="time zone"):
        enqueue(due_at=datetime(2026, 3, 1))
    with pytest.raises(ValueError, match="1 to 200 characters"):
        enqueue(key="")
    many = {f"id_{n}": n for n in range(9)}
    with pytest.raises(ValueError, match="more than 8"):
        services.enqueue(kind="test.note", key="a", args=many, due_at=START)
    assert not Job.objects.exists()


# --- Claim, lease, fence -------------------------------------------------------------------------


def test_a_job_is_claimed_once_and_only_when_due() -> None:
    enqueue(due_at=START)
    job_id = Job.objects.get().pk
    assert services.claim(job_id=job_id, now=START - timedelta(microseconds=1)) is None
    assert services.claim(job_id=job_id, now=START) is not None
    assert services.claim(job_id=job_id, now=START) is None
    assert services.claim(job_id=uuid4(), now=START) is None


def test_an_expired_lease_goes_to_the_next_and_fences_the_first_off() -> None:
    enqueue()
    first = claimed()
    assert Job.objects.next_ids(now=START + LEASE / 2, kinds=["test.note"], limit=9) == []
    later = START + LEASE
    second = claimed(now=later)
    assert second.owner != first.owner
    assert second.attempts == 2

    error = RuntimeError()
    assert not services.finish(claim=first, now=later)
    assert not services.give_up(claim=first, error=error, now=later)
    assert not services.retry(claim=first, error=error, now=later)
    assert not services.run_again(claim=first, due_at=later)
    assert Job.objects.get().state == Job.State.RUNNING

    assert services.finish(claim=second, now=later)
    assert not services.finish(claim=second, now=later), "finished twice"
    job = Job.objects.get()
    assert (job.state, job.finished_at, job.lease_owner) == (Job.State.DONE, later, "")


def test_a_late_owner_may_still_finish_while_nobody_else_took_over() -> None:
    enqueue()
    claim = claimed()
    assert services.finish(claim=claim, now=START + 2 * LEASE)


@pytest.mark.django_db(transaction=True)
def test_of_many_claimers_one_wins() -> None:
    claims: list[Claim | None] = []
    errors: list[Exception] = []
    rounds, threads = 10, 8
    for number in range(rounds):
        enqueue(key=str(number))
    ids = list(Job.objects.values_list("pk", flat=True))
    barrier = threading.Barrier(threads)

    def race() -> None:
        try:
            for job_id in ids:
                barrier.wait(timeout=LONG_SECONDS)
                claims.append(services.claim(job_id=job_id, now=START))
        except Exception as error:  # noqa: BLE001  (shown by the main thread)
            errors.append(error)
            barrier.abort()
        finally:
            connection.close()

    runners = [threading.Thread(target=race) for _ in range(threads)]
    for runner in runners:
        runner.start()
    for runner in runners:
        runner.join(timeout=60)
    assert not errors
    won = [claim.job_id for claim in claims if claim is not None]
    assert (len(claims), sorted(won)) == (rounds * threads, sorted(ids))


# --- Retry, give up ------------------------------------------------------------------------------


def test_a_failure_rests_and_the_last_one_gives_up() -> None:
    enqueue()
    now = START
    for attempt in (1, 2):
        claim = claimed(now=now)
        assert claim.attempts == attempt
        assert services.retry(claim=claim, error=GiveUp("not yet"), now=now)
        job = Job.objects.get()
        assert job.state == Job.State.WAITING
        assert timedelta(seconds=attempt) <= job.due_at - now <= timedelta(seconds=2 * attempt)
        now = job.due_at
    assert services.retry(claim=claimed(now=now), error=GiveUp("never"), now=now)
    job = Job.objects.get()
    assert (job.state, job.finished_at) == (Job.State.GIVEN_UP, now)
    assert job.last_error == "GiveUp: never"


def test_running_again_forgets_earlier_failures() -> None:
    enqueue()
    assert services.retry(claim=claimed(), error=RuntimeError(), now=START)
    later = START + timedelta(minutes=1)
    again = later + timedelta(minutes=1)
    assert services.run_again(claim=claimed(now=later), due_at=again)
    job = Job.objects.get()
    assert (job.state, job.attempts, job.last_error, job.due_at) == ("waiting", 0, "", again)


def test_a_job_that_kills_its_process_each_time_is_given_up() -> None:
    enqueue()
    now = START
    for _ in range(3):
        assert services.give_up_exhausted(now=now) == 0
        claimed(now=now)
        now += LEASE
    assert Job.objects.next_ids(now=now, kinds=["test.note"], limit=9) == []
    assert services.claim(job_id=Job.objects.get().pk, now=now) is None
    assert services.give_up_exhausted(now=now) == 1
    job = Job.objects.get()
    assert job.state == Job.State.GIVEN_UP
    assert "died" in job.last_error


def test_foreign_errors_are_stored_without_their_words() -> None:
    try:
        raise ConnectionError("https://user:hunter2@host refused")
    except ConnectionError as error:
        text = services.describe(error)
    assert "hunter2" not in text
    assert text.startswith("ConnectionError in test_services.py:")
    assert services.describe(GatewayError("no such login")) == "GatewayError: no such login"
    assert len(services.describe(GatewayError("x" * 999))) == 300


@pytest.mark.parametrize(
    "changes",
    [
        {"state": "done"},
        {"state": "running"},
        {"finished_at": START},
        {"lease_owner": "somebody"},
        {"lease_until": START},
    ],
    ids=lambda changes: ",".join(changes),
)
def test_the_database_refuses_half_states(changes: dict[str, object]) -> None:
    enqueue()
    with pytest.raises(IntegrityError), transaction.atomic():
        Job.objects.update(**changes)


# --- Recurring, prune, heartbeat -----------------------------------------------------------------


def test_recurring_jobs_exist_once(handlers: dict[str, Handler]) -> None:
    handlers["test.hourly"] = Handler("test.hourly", do_nothing, LEASE, 3, timedelta(hours=1))
    assert services.ensure_recurring(now=START) == 1
    assert services.ensure_recurring(now=START) == 0
    job = Job.objects.get()
    assert (job.kind, job.key, job.due_at) == ("test.hourly", RECURRING_KEY, START)


def test_daily_work_does_not_disturb_a_first_start(handlers: dict[str, Handler]) -> None:
    handlers["test.daily"] = Handler("test.daily", do_nothing, LEASE, 3, timedelta(days=1))
    services.ensure_recurring(now=START)
    assert Job.objects.get().due_at == START + services.FIRST_DAILY


def test_finished_rows_go_after_their_time_and_unfinished_ones_stay() -> None:
    for key in ("done", "given up", "waiting"):
        enqueue(key=key)
    services.finish(claim=claimed("done"), now=START)
    services.give_up(claim=claimed("given up"), error=GiveUp(), now=START)

    assert services.prune(now=START + services.KEEP_DONE - timedelta(seconds=1)) == 0
    assert services.prune(now=START + services.KEEP_DONE) == 1
    assert services.prune(now=START + services.KEEP_GIVEN_UP) == 1
    assert services.prune(now=START + timedelta(days=9999)) == 0
    assert [job.key for job in Job.objects.all()] == ["waiting"]


def test_a_heartbeat_is_one_row_that_moves() -> None:
    services.heartbeat("background", now=START)
    services.heartbeat("background", now=START + timedelta(seconds=1))
    row = Heartbeat.objects.get()
    assert row.beat_at == START + timedelta(seconds=1)
    assert row.process == services.process_name()


def test_looking_for_due_jobs_uses_the_index_of_unfinished_ones() -> None:
    query = Job.objects.claimable(clock.now()).order_by("due_at", "id")[:32]
    if connection.vendor == "postgresql":
        # A table of a few rows is read whole unless told otherwise.
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL enable_seqscan = off")
    assert "job_unfinished_due" in query.explain()


def test_ids_are_uuids() -> None:
    enqueue()
    assert isinstance(claimed().job_id, UUID)
