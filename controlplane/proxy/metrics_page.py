"""What providers did lately: for a tenant's programs, and for Prometheus."""

from __future__ import annotations

import contextlib
from pathlib import Path

from django.conf import settings
from django.db import DatabaseError
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from controlplane.health import may_see_details
from controlplane.kit import clock, json
from controlplane.kit.database_threads import database_threads
from controlplane.proxy import respond
from controlplane.proxy.exchange import Answer, Exchange
from providers.metrics.shown import prometheus_text, tenant_view
from providers.routing.table import RouteTable
from tenants.keys.snapshot import KeyRecord
from tenants.usage.journal.file import waiting_in


async def answer(exchange: Exchange, caller: KeyRecord, table: RouteTable) -> Answer:
    """GET /v1/metrics/providers: what the tenant's own requests showed, a few seconds old."""
    usable = {
        target.endpoint.provider_id: target.endpoint.slug
        for name, targets in table.targets.items()
        if caller.allows_model(name)
        for target in targets
    }
    body = await database_threads.run(tenant_view, caller.tenant_id, usable, clock.now())
    return Answer(200, respond.json_headers(exchange.shown_id), json.dumps(body))


@require_safe
@never_cache
def prometheus(request: HttpRequest) -> HttpResponse:
    """Without the token there is no such page (bar A7)."""
    if not may_see_details(request):
        raise Http404
    text = _journal_text()
    with contextlib.suppress(DatabaseError):
        # Away, and whoever watches asks just then: what does not need it is told all the same.
        text = prometheus_text(clock.now()) + text
    return HttpResponse(text, content_type="text/plain; version=0.0.4; charset=utf-8")


def _journal_text() -> str:
    files, size = waiting_in(Path(settings.USAGE_JOURNAL_FOLDER))
    return (
        "# HELP gateway_journal_files Usage journals that wait for the database, on this machine.\n"
        "# TYPE gateway_journal_files gauge\n"
        f"gateway_journal_files {files}\n"
        "# HELP gateway_journal_bytes How much is in them.\n"
        "# TYPE gateway_journal_bytes gauge\n"
        f"gateway_journal_bytes {size}\n"
    )
