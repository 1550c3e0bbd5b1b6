"""Everything that changes a job. Each is one conditional UPDATE whose row count decides."""

from __future__ import annotations

import os
import re
import socket
import traceback
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from controlplane.kit.errors import GatewayError
from controlplane.kit.jobs import backoff, registry
from controlplane.kit.jobs.errors import GiveUp
from controlplane.kit.jobs.models import Heartbeat, Job

KEEP_DONE: Final = timedelta(days=3)
KEEP_GIVEN_UP: Final = timedelta(days=30)
PRUNE_BATCH: Final = 1_000
DAY: Final = timedelta(days=1)
# What runs once a day is heavy and never urgent: it stays out of the way of a first start.
FIRST_DAILY: Final = timedelta(hours=1)
_MAX_ARGS: Final = 8
_ERROR_LENGTH: Final = 300

# A slug, a UUID, a number as text. Long or spaced text is data, and data stays in its own row.
_IDENTIFIER: Final = re.compile(r"[A-Za-z0-9_.:@/+-]{1,100}")


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to run one attempt. Worth nothing once the lease went to another owner."""

    job_id: UUID
    kind: str
    key: str
    args: dict[str, Any]
    attempts: int
    max_attempts: int
    owner: str
    lease_until: datetime


def enqueue(*, kind: str, key: str, args: Mapping[str, object], due_at: datetime) -> bool:
    """Write a job in the caller's transaction. False: an unfinished one with this key exists.

    `args` are identifiers only (UUID, int, or short text without spaces): what a job needs to
    know it reads from their rows. Raises ValueError on anything else and UnknownKind. A job that
    wants to run again returns the time instead of enqueueing itself: its own row is unfinished.
    """
    handler = registry.find(kind)
    if not 0 < len(key) <= 200:
        raise ValueError(f"A job's key has 1 to 200 characters; this one of {kind!r} does not.")
    if due_at.tzinfo is None:
        raise ValueError(f"due_at of job {kind!r} has no time zone: pass an aware datetime.")
    job = Job(
        kind=kind,
        key=key,
        args=_identifiers(kind, args),
        due_at=due_at,
        max_attempts=handler.max_attempts,
    )
    # The unique constraint decides the race, without an error that would end the transaction.
    Job.objects.bulk_create([job], ignore_conflicts=True)
    return Job.objects.filter(pk=job.pk).exists()


def claim(*, job_id: UUID, now: datetime) -> Claim | None:
    """Take the job for one attempt. None: somebody else has it, or it is not due any more."""
    job = Job.objects.filter(pk=job_id).first()
    if job is None:
        return None
    lease_until = now + registry.find(job.kind).lease
    # New for each claim, so that an attempt whose lease ran out cannot finish a later one.
    owner = f"{process_name()}:{uuid.uuid4().hex}"
    taken = (
        Job.objects.claimable(now)
        .filter(pk=job_id, attempts=job.attempts)
        .update(
            state=Job.State.RUNNING,
            lease_owner=owner,
            lease_until=lease_until,
            attempts=job.attempts + 1,
        )
    )
    if not taken:
        return None
    return Claim(
        job_id=job.pk,
        kind=job.kind,
        key=job.key,
        args=job.args,
        attempts=job.attempts + 1,
        max_attempts=job.max_attempts,
        owner=owner,
        lease_until=lease_until,
    )


def finish(*, claim: Claim, now: datetime) -> bool:
    """Done. False: the lease went to another owner, whose attempt counts instead."""
    return _end(claim, Job.State.DONE, now=now)


def give_up(*, claim: Claim, error: BaseException, now: datetime) -> bool:
    """Failed for good. False as for `finish`."""
    return _end(claim, Job.State.GIVEN_UP, now=now, last_error=describe(error))


def run_again(*, claim: Claim, due_at: datetime) -> bool:
    """Well so far; the same row is due again at `due_at`. False as for `finish`."""
    return _release(claim, due_at=due_at, attempts=0, last_error="")


def retry(*, claim: Claim, error: BaseException, now: datetime) -> bool:
    """Failed; due again after a rest, or given up after the last attempt. False as above."""
    if claim.attempts >= claim.max_attempts:
        return give_up(claim=claim, error=error, now=now)
    return _release(claim, due_at=now + backoff.rest(claim.attempts), last_error=describe(error))


def give_up_exhausted(*, now: datetime) -> int:
    """Close jobs whose last allowed attempt died with its process. Returns how many."""
    return Job.objects.exhausted(now).update(
        state=Job.State.GIVEN_UP,
        lease_owner="",
        lease_until=None,
        finished_at=now,
        last_error="The process died or the lease ran out during the last attempt.",
    )


def ensure_recurring(*, now: datetime) -> int:
    """Write the rows of recurring jobs that are not there. Returns how many."""
    paces = {
        kind: handler.every
        for kind, handler in registry.loaded().items()
        if handler.every is not None
    }
    there = Job.objects.unfinished().filter(kind__in=paces, key=registry.RECURRING_KEY)
    missing = paces.keys() - set(there.values_list("kind", flat=True))
    return sum(
        enqueue(
            kind=kind,
            key=registry.RECURRING_KEY,
            args={},
            due_at=now + (FIRST_DAILY if paces[kind] >= DAY else timedelta(0)),
        )
        for kind in sorted(missing)
    )


def prune(*, now: datetime) -> int:
    """Delete finished rows that nobody will ask about any more, at most one batch."""
    old = Job.objects.filter(state=Job.State.DONE, finished_at__lte=now - KEEP_DONE)
    older = Job.objects.filter(state=Job.State.GIVEN_UP, finished_at__lte=now - KEEP_GIVEN_UP)
    # By id: a DELETE with LIMIT is not portable, and one of a million rows would block writers.
    ids = list((old | older).values_list("pk", flat=True)[:PRUNE_BATCH])
    return Job.objects.filter(pk__in=ids, finished_at__isnull=False).delete()[0]


def heartbeat(name: str, *, now: datetime) -> None:
    """Say that the part called `name` works. One statement."""
    Heartbeat.objects.bulk_create(
        [Heartbeat(name=name, beat_at=now, process=process_name())],
        update_conflicts=True,
        unique_fields=["name"],
        update_fields=["beat_at", "process"],
    )


def process_name() -> str:
    return f"{socket.gethostname()[:60]}:{os.getpid()}"


def describe(error: BaseException) -> str:
    """What may be stored of an error: our own words, or only the kind and place of a foreign one,
    whose message may quote a secret."""
    name = type(error).__name__
    if isinstance(error, GatewayError | GiveUp):
        text = f"{name}: {error}" if str(error) else name
    else:
        frames = traceback.extract_tb(error.__traceback__)
        text = f"{name} in {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else name
    return text[:_ERROR_LENGTH]


def trail(error: BaseException) -> str:
    """How it came to the error, innermost first, for the log: places without words or values."""
    frames = reversed(traceback.extract_tb(error.__traceback__))
    return " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames)


def _end(claim: Claim, state: Job.State, *, now: datetime, last_error: str = "") -> bool:
    mine = Job.objects.held_by(claim.owner).filter(pk=claim.job_id)
    return bool(
        mine.update(
            state=state,
            finished_at=now,
            lease_owner="",
            lease_until=None,
            last_error=last_error,
        )
    )


def _release(claim: Claim, *, due_at: datetime, **changes: Any) -> bool:
    mine = Job.objects.held_by(claim.owner).filter(pk=claim.job_id)
    return bool(
        mine.update(
            state=Job.State.WAITING, due_at=due_at, lease_owner="", lease_until=None, **changes
        )
    )


def _identifiers(kind: str, args: Mapping[str, object]) -> dict[str, str | int]:
    if len(args) > _MAX_ARGS:
        raise ValueError(f"Job {kind!r} has more than {_MAX_ARGS} arguments: pass ids of rows.")
    plain: dict[str, str | int] = {}
    for name, value in args.items():
        match value:
            case UUID():
                plain[name] = str(value)
            case bool():
                raise ValueError(f"Argument {name} of job {kind!r} is no identifier.")
            case int():
                plain[name] = value
            case str() if _IDENTIFIER.fullmatch(value):
                plain[name] = value
            case _:
                # The value itself is not named: it may be what must not be written anywhere.
                raise ValueError(
                    f"Argument {name} of job {kind!r} is no identifier: pass a UUID, a number or "
                    "a short text without spaces, and let the handler read the rest from its row."
                )
    return plain
