"""The background side: one process without Redis, a worker with a pool and a beat with it.

Without Redis, worker and beat are threads of one process around the memory transport. Celery's
own `worker -B` forks the beat, which outlives a killed worker; here it is a thread and cannot.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import warnings
from typing import Any

from celery import beat
from celery.exceptions import CPendingDeprecationWarning
from celery.platforms import SecurityWarning
from django.conf import settings

from controlplane.celery import app
from controlplane.supervisor import pulse

log = logging.getLogger(__name__)


def run_embedded() -> None:
    """Worker and beat in this process, until SIGTERM."""
    is_over = threading.Event()
    scheduler = _scheduler()

    def run_beat() -> None:
        try:
            scheduler.start()
        finally:
            # Without ticks the worker would wait for ever: end, and be started again.
            if not is_over.is_set():
                os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=run_beat, name="beat", daemon=True).start()
    _work(pool="threads")
    is_over.set()
    scheduler.stop()


def run_worker() -> None:
    """A pool of processes on the Redis broker, until SIGTERM."""
    _work(pool="prefork")


def run_beat() -> None:
    """Beat alone. Two of them are harmless: they only say "look" twice."""
    scheduler = _scheduler(PulsingScheduler)
    signal.signal(signal.SIGTERM, lambda *_: scheduler.stop())
    scheduler.start()


class QuietScheduler(beat.Scheduler):  # type: ignore[misc]  # celery has no types
    """One line when the broker is away, where Celery logs two stacks each second."""

    is_broker_away = False

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        try:
            self.apply_async(entry, producer=producer, advance=False)
        except beat.SchedulingError as error:
            if not self.is_broker_away:
                log.warning("beat waits for the broker: %s", error)
            self.is_broker_away = True
        else:
            if self.is_broker_away:
                log.warning("beat reaches the broker again")
            self.is_broker_away = False


class PulsingScheduler(QuietScheduler):
    """In a process of its own: says that it works each time it has gone through the table."""

    def tick(self, *args: Any, **kwargs: Any) -> Any:
        seconds = super().tick(*args, **kwargs)
        pulse.beat()
        return seconds


def _scheduler(scheduler: type = QuietScheduler) -> Any:
    # The plain scheduler keeps its table in memory: what must survive is in the jobs table.
    _be_quiet()
    return beat.Service(app, max_interval=1, scheduler_cls=scheduler, remote_control=False)


def _work(*, pool: str) -> None:
    _be_quiet()
    # Celery would run Django's system checks again; `manage.py serve` just did.
    os.environ["CELERY_SKIP_CHECKS"] = "1"
    worker = app.Worker(
        pool=pool,
        concurrency=settings.WORKER_CONCURRENCY,
        quiet=True,
        # Workers need not know each other: rows decide who does what.
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    worker.start()
    if worker.exitcode:
        raise SystemExit(worker.exitcode)


def _be_quiet() -> None:
    """Three lines a second about ticks would bury what jobs have to say."""
    for name in ("celery", "kombu"):
        logger = logging.getLogger(name)
        if logger.getEffectiveLevel() == logging.INFO:
            logger.setLevel(logging.WARNING)
    # About what happens to unacknowledged messages when the broker goes: there are none.
    warnings.filterwarnings("ignore", category=CPendingDeprecationWarning)
    # It warns root because pickled messages run code. Ours are JSON; pickle is refused.
    warnings.filterwarnings("ignore", category=SecurityWarning)
