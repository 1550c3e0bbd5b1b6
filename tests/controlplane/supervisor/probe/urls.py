"""The system's paths and the probe's: enqueue, report, and an answer that takes its time."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

from django.db import connection, transaction
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

from controlplane import urls
from controlplane.kit import clock
from controlplane.kit.jobs import services
from controlplane.kit.jobs.models import Job


@transaction.atomic
def enqueue(request: HttpRequest, first: int, count: int) -> HttpResponse:
    for number in range(first, first + count):
        services.enqueue(
            kind="probe.note", key=str(number), args={"number": number}, due_at=clock.now()
        )
    return JsonResponse({"enqueued": count})


def report(request: HttpRequest) -> HttpResponse:
    jobs = Job.objects.filter(kind="probe.note").aggregate(
        jobs=Count("pk"),
        unfinished=Count("pk", filter=Q(finished_at=None)),
        done=Count("pk", filter=Q(state=Job.State.DONE)),
    )
    with connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*), COUNT(DISTINCT number) FROM probe_effect")
        effects, distinct = cursor.fetchone()
        cursor.execute(
            "SELECT COUNT(*) FROM (SELECT job FROM probe_finish GROUP BY job HAVING COUNT(*) > 1)"
            " AS twice"
        )
        (twice,) = cursor.fetchone()
    return JsonResponse(
        {**jobs, "effects": effects, "distinct_effects": distinct, "finished_twice": twice}
    )


async def slow(request: HttpRequest) -> HttpResponse:
    """The first chunk at once, the last when the file named by PROBE_RELEASE is there."""
    release = os.environ["PROBE_RELEASE"]

    async def chunks() -> AsyncIterator[bytes]:
        yield b"first\n"
        while not os.path.exists(release):  # noqa: ASYNC110, ASYNC240  (a test makes the file)
            await asyncio.sleep(0.05)
        yield b"last\n"

    return StreamingHttpResponse(chunks(), content_type="text/plain")


urlpatterns = [
    *urls.urlpatterns,
    path("probe/enqueue/<int:first>/<int:count>", enqueue),
    path("probe/report", report),
    path("probe/slow", slow),
]
