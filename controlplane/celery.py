"""The Celery application and the beat table. Tasks execute; rows remember.

One queue, one task: beat says "look" every second and whoever is free runs what is due in the
jobs table (`controlplane.kit.jobs`). A lost message costs a second, a lost process one lease.
Recurring work is not in the beat table: `@handler(kind, every=…)` keeps its time in a row, which
survives restarts.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from typing import Any, Final

from celery import Celery, signals
from django.conf import settings
from django.db import InterfaceError, OperationalError, close_old_connections
from kombu.entity import Queue

from controlplane.supervisor import pulse

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings.local")

log = logging.getLogger(__name__)

TICK_SECONDS: Final = 1.0
# How long one tick goes on while there is work. Further ticks take further threads or processes
# of the pool meanwhile, so a backlog gets all of them within seconds.
TICK_BUDGET_SECONDS: Final = 5.0
HEARTBEAT: Final = "background"
# Without Redis, worker and beat are threads of one process and the queue is its memory.
IS_EMBEDDED: Final = not settings.REDIS_URL

_TICKS = Queue("ticks", no_ack=True)  # type: ignore[no-untyped-call]  # kombu: partly typed

app = Celery("controlplane")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.update(
    # Nothing in the queue is worth keeping, so nothing is acknowledged: this also keeps the
    # bookkeeping of unacknowledged messages, which threads would share, out of the way.
    task_queues=[_TICKS],
    task_default_queue="ticks",
    beat_schedule={
        "look for due jobs": {
            "task": "jobs.tick",
            "schedule": TICK_SECONDS,
            "options": {"expires": 10 * TICK_SECONDS},
        },
    },
    broker_connection_retry_on_startup=True,
    # Celery would close the database connection after every task, each second. Django's own
    # CONN_MAX_AGE decides instead: see close_old_connections below.
    CELERY_DB_REUSE_MAX=sys.maxsize,
    broker_transport_options=(
        {"polling_interval": 0.2}  # seconds between looks into the queue; the default is 1
        if IS_EMBEDDED
        else {"health_check_interval": 10, "socket_keepalive": True}
    ),
)
app.autodiscover_tasks()

_is_stopping = threading.Event()


@app.task(name="jobs.tick", acks_late=False)  # type: ignore[untyped-decorator]  # celery has no types
def tick(**_: Any) -> None:
    """Run what is due. Proves on its way that beat, broker, pool and database work."""
    from controlplane.kit import clock
    from controlplane.kit.jobs import runner, services

    # The supervisor asks whether we are alive, not whether the database is: restarting this
    # process would not bring that back. /ready looks at the heartbeat row.
    pulse.beat()
    close_old_connections()
    try:
        now = clock.now()
        services.heartbeat(HEARTBEAT, now=now)
        services.give_up_exhausted(now=now)
        services.ensure_recurring(now=now)
        runner.run_due(
            budget_seconds=TICK_BUDGET_SECONDS,
            is_stopping=_is_stopping.is_set,
            before_each=pulse.beat,
        )
    except (OperationalError, InterfaceError) as error:
        log.warning("jobs wait: the database does not answer (%s)", type(error).__name__)
        close_old_connections()


@signals.setup_logging.connect  # type: ignore[untyped-decorator]  # celery has no types
def _leave_logging_alone(**_: Any) -> None:
    """Connected, so that Celery does not configure logging over Django's settings."""


@signals.worker_ready.connect  # type: ignore[untyped-decorator]  # celery has no types
def _look_at_once(**_: Any) -> None:
    tick.apply_async(expires=10 * TICK_SECONDS)


@signals.worker_shutting_down.connect  # type: ignore[untyped-decorator]  # celery has no types
def _stop_claiming(**_: Any) -> None:
    _is_stopping.set()
