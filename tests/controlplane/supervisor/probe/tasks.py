"""A job that leaves a trace and then takes a moment, in which a kill may find it."""

from __future__ import annotations

import random
import threading
from datetime import timedelta

from django.db import connection

from controlplane.kit.jobs.registry import handler


@handler("probe.note", lease=timedelta(seconds=2), max_attempts=50)
def note(*, number: int, **_: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO probe_effect (number) VALUES (%s)", [number])
    threading.Event().wait(random.uniform(0, 0.02))
