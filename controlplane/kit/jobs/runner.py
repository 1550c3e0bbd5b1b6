"""Claims due jobs and runs them, until none is due, time is up, or the process is to stop."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import Final

from controlplane.kit import clock
from controlplane.kit.jobs import registry, services
from controlplane.kit.jobs.errors import GiveUp
from controlplane.kit.jobs.models import Job
from controlplane.kit.jobs.services import Claim

log = logging.getLogger(__name__)

# Runners that look at the same moment see the same rows: they try them in different order.
_CANDIDATES: Final = 32


def run_due(
    *,
    budget_seconds: float,
    is_stopping: Callable[[], bool] = lambda: False,
    before_each: Callable[[], None] = lambda: None,
) -> int:
    """Run due jobs one after the other. Returns how many attempts were made.

    A running attempt is never cut: the budget and `is_stopping` are looked at in between.
    """
    deadline = time.monotonic() + budget_seconds
    attempts = 0
    while True:
        ids = Job.objects.next_ids(
            now=clock.now(), kinds=registry.loaded().keys(), limit=_CANDIDATES
        )
        if not ids:
            return attempts
        random.shuffle(ids)
        for job_id in ids:
            if is_stopping() or time.monotonic() >= deadline:
                return attempts
            claim = services.claim(job_id=job_id, now=clock.now())
            if claim is not None:
                before_each()
                run(claim)
                attempts += 1


def run(claim: Claim) -> None:
    """One attempt, and what follows from how it went."""
    handler = registry.find(claim.kind)
    try:
        run_at = handler.run(**claim.args)
    except GiveUp as error:
        log.warning("job given up: %s %s: %s", claim.kind, claim.key, services.describe(error))
        is_ours = services.give_up(claim=claim, error=error, now=clock.now())
    except Exception as error:  # noqa: BLE001  (whatever a handler raises means a retry)
        log.warning(
            "job failed: %s %s, attempt %d of %d: %s; %s",
            claim.kind,
            claim.key,
            claim.attempts,
            claim.max_attempts,
            services.describe(error),
            services.trail(error),
        )
        is_ours = services.retry(claim=claim, error=error, now=clock.now())
    else:
        now = clock.now()
        if run_at is None and handler.every is not None and claim.key == registry.RECURRING_KEY:
            run_at = now + handler.every
        if run_at is None:
            is_ours = services.finish(claim=claim, now=now)
        else:
            is_ours = services.run_again(claim=claim, due_at=run_at)
    if not is_ours:
        log.warning(
            "job lease lost: %s %s took longer than its lease and runs elsewhere",
            claim.kind,
            claim.key,
        )
