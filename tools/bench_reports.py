"""How long the pages of spending take with millions of rows, on PostgreSQL.

    make bench-reports
    make bench-reports BENCH="--events 1000000"

Fills a database of its own with a ledger and its rollups (SQL, generate_series), then asks what
people ask: the tenant's report, the ledger's pages, the console. Where DATABASE_URL names an empty
database, that one is filled and left; else a server of the test packages is started. The rows have
the shape and size of real ones, but no valid hashes: this measures reading.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

TARGET_MS: Final = 300
TENANTS: Final = 20
KEYS: Final = 40
MODELS: Final = 6
DAYS: Final = 120
_BATCH: Final = 500_000

# Half of the rows are the first tenant's. Time runs with the number, as the ids of events do.
EVENTS: Final = """
    INSERT INTO tenants_usageevent (
        id, created_at, settled_at, tenant_id, sequence, entry, request_id, part, key_id,
        operation, provider, credential_id, credential_label, model_asked, model_served,
        client_protocol, upstream_protocol, input, output, cache_read, usage_source,
        estimated_input, estimated_output, price_basis, price_version, cost_nanos, charge_nanos,
        estimated_nanos, currency_note, latency_ms, first_byte_ms, status, error_code,
        finish_reason, is_stream, is_interrupted, trace_id, counted, would_refuse, reason, author,
        format, previous_hash, hash
    )
    SELECT
        (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' ||
            substr(md5(n::text), 1, 3) || '8' || substr(md5(n::text), 4, 15))::uuid,
        at, at + interval '2 seconds',
        tenant.id,
        n, 'usage', md5('request' || n), 0,
        md5('key' || tenant.number || ':' || n %% %(keys)s)::uuid,
        'chat', 'provider-' || n %% 4, '', 'default', 'model-' || n %% %(models)s,
        'model-' || n %% %(models)s || '-2026-01-01', 'openai-completions', 'anthropic-messages',
        200 + n %% 900, 50 + n %% 300, 0, 'reported', 0, 0, 'price', '2026-11-01',
        1000000 + n %% 100000, 1000000 + n %% 100000, 0, '', 900, 200,
        CASE WHEN n %% 50 = 0 THEN 503 ELSE 200 END,
        CASE WHEN n %% 50 = 0 THEN 'upstream_error' ELSE '' END,
        'stop', true, false, md5('trace' || n),
        '[["' || md5(n::text) || '::1793491200",1100000]]', '', '', '', 1,
        md5(n::text) || md5('a' || n), md5('b' || n) || md5('c' || n)
    FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n
    CROSS JOIN LATERAL (SELECT now() - interval '1 hour'
        - (%(total)s - n) * (%(days)s * interval '1 day' / %(total)s) AS at) AS moment
    JOIN bench_tenants AS tenant ON tenant.number =
        CASE WHEN n %% 2 = 0 THEN 0 ELSE 1 + (n / 2) %% (%(tenants)s - 1) END
"""
ROLLUPS: Final = """
    INSERT INTO tenants_rollup (
        id, created_at, tenant_id, grain, starts_at, key_id, provider, model, "group", requests,
        errors, unknown, input_tokens, output_tokens, cost_nanos, charge_nanos, estimated_nanos
    )
    SELECT gen_random_uuid(), now(), tenant_id, %(grain)s,
        date_trunc(%(grain)s, created_at, 'UTC'), key_id, provider, model_asked,
        md5(key_id::text || provider || model_asked) || md5(model_asked),
        count(*), count(*) FILTER (WHERE status >= 400), 0, sum(input), sum(output),
        sum(cost_nanos), sum(charge_nanos), 0
    FROM tenants_usageevent
    WHERE created_at >= now() - %(days)s * interval '1 day'
    GROUP BY tenant_id, date_trunc(%(grain)s, created_at, 'UTC'), key_id, provider, model_asked
"""
SUMS: Final = """
    INSERT INTO tenants_rollup (
        id, created_at, tenant_id, grain, starts_at, provider, model, "group", requests, errors,
        unknown, input_tokens, output_tokens, cost_nanos, charge_nanos, estimated_nanos,
        last_sequence
    )
    SELECT gen_random_uuid(), now(), tenant_id, %(grain)s || '_sum',
        date_trunc(%(grain)s, created_at, 'UTC'), '', '', '',
        count(*), count(*) FILTER (WHERE status >= 400), 0, sum(input), sum(output),
        sum(cost_nanos), sum(charge_nanos), 0, max(sequence)
    FROM tenants_usageevent
    WHERE created_at >= now() - %(days)s * interval '1 day'
    GROUP BY tenant_id, date_trunc(%(grain)s, created_at, 'UTC')
"""
MARKS: Final = """
    INSERT INTO tenants_rollupmark (id, created_at, tenant_id, sequence)
    SELECT gen_random_uuid(), now(), tenant_id, max(sequence) FROM tenants_usageevent
    GROUP BY tenant_id
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--drop", type=int, default=20_000, help="how many events to drop at last")
    chosen = parser.parse_args()
    if not os.environ.get("DATABASE_URL", "").startswith("postgres"):
        print("Name an empty PostgreSQL database by DATABASE_URL; make bench-reports does.")
        return 2
    os.environ["DJANGO_SETTINGS_MODULE"] = "controlplane.settings.test"
    import django

    django.setup()
    from django.conf import settings

    settings.ALLOWED_HOSTS = ["testserver"]
    return bench(chosen.events, chosen.rounds, chosen.drop)


def bench(events: int, rounds: int, dropped: int) -> int:
    from django.core.management import call_command
    from django.db import connection

    from tenants import scope
    from tenants.usage.models import UsageEvent

    call_command("migrate", verbosity=0)
    with scope.platform("bench"):
        if UsageEvent.objects.exists():
            print("This database has a ledger: name an empty one.")
            return 2
        began = time.perf_counter()
        fill(events)
        print(f"{events:,} events and their rollups in {time.perf_counter() - began:.0f} s")
        with connection.cursor() as cursor:
            for table in ("tenants_usageevent", "tenants_rollup"):
                cursor.execute(
                    "SELECT pg_size_pretty(pg_total_relation_size(%s)), reltuples::bigint"
                    " FROM pg_class WHERE relname = %s",
                    [table, table],
                )
                size, rows = cursor.fetchone()
                print(f"{table}: {rows:,} rows, {size} with indexes")
    worst = 0.0
    print("\n| What is asked, ms | best | of it SQL | p50 | p95 |\n|---|---|---|---|---|")
    for name, ask in questions().items():
        best, in_database, p50, p95 = measure(ask, rounds)
        worst = max(worst, p95)
        shown = f"{p95:.0f}" if p95 <= TARGET_MS else f"**{p95:.0f}**"
        print(f"| {name} | {best:.0f} | {in_database:.0f} | {p50:.0f} | {shown} |", flush=True)
    if dropped:
        drop(dropped)
    return int(worst > TARGET_MS)


def fill(total: int) -> None:
    from django.db import connection

    from tenants.members.models import Tenant

    rows = [
        Tenant.objects.create(slug=f"tenant-{number}", name=f"Tenant {number}")
        for number in range(TENANTS)
    ]
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE bench_tenants (number int PRIMARY KEY, id uuid)")
        for number, row in enumerate(rows):
            cursor.execute("INSERT INTO bench_tenants VALUES (%s, %s)", [number, row.pk])
        for first in range(1, total + 1, _BATCH):
            cursor.execute(
                EVENTS,
                {
                    "first": first,
                    "last": min(total, first + _BATCH - 1),
                    "total": total,
                    "keys": KEYS,
                    "models": MODELS,
                    "days": DAYS,
                    "tenants": TENANTS,
                },
            )
            print(f"  {min(total, first + _BATCH - 1):,} events", file=sys.stderr, flush=True)
        # Hours are kept for 62 days, days for ever.
        for grain, days in (("day", DAYS + 1), ("hour", 62)):
            for added_up in (ROLLUPS, SUMS):
                cursor.execute(added_up, {"grain": grain, "days": days})
        cursor.execute(MARKS)
        cursor.execute("DROP TABLE bench_tenants")
        cursor.execute("VACUUM ANALYZE")


def questions() -> dict[str, Callable[[], Any]]:
    """What is asked, of the tenant with the most rows and of one with few."""
    from django.test import Client
    from django.urls import reverse

    from controlplane.kit import clock
    from tenants.members.models import Tenant, User

    staff = User.objects.create_superuser("bench@platform.test", "correct horse battery")
    client = Client()
    client.force_login(staff)
    now = clock.now()
    month = (now - timedelta(days=30)).strftime("%Y-%m-%d")
    lately = now.strftime("%Y-%m")
    before = (now.replace(day=1) - timedelta(days=1)).strftime("%Y-%m")
    ledger = reverse("admin:tenants_usageevent_changelist")
    spending = reverse("admin:tenants_usageevent_spending")
    found: dict[str, Callable[[], Any]] = {}

    def asks(name: str, path: str) -> None:
        def ask() -> None:
            answer = client.get(path)
            body = b"".join(answer) if answer.streaming else answer.content
            assert answer.status_code == 200, (path, answer.status_code, body[:300])

        found[name] = ask

    for words, number in (("big", 0), ("small", 7)):
        tenant = Tenant.objects.get(slug=f"tenant-{number}")
        report = reverse("api-usage-report", args=[tenant.pk])
        for by in ("day", "model", "key", "hour"):
            asks(f"report of 30 days by {by}, {words} tenant", f"{report}?by={by}&since={month}")
        errors = reverse("api-usage-errors", args=[tenant.pk])
        asks(f"errors of 30 days, {words} tenant", f"{errors}?since={month}")
        asks(f"console: spending, {words} tenant", f"{spending}?tenant={tenant.slug}")
        events = reverse("api-usage-events", args=[tenant.pk])
        asks(f"ledger by API, first page, {words} tenant", events)
        asks(f"budgets, {words} tenant", reverse("api-usage-budgets", args=[tenant.pk]))
        asks(f"console: ledger, {words} tenant", f"{ledger}?tenant={tenant.slug}")
        statement = reverse("api-usage-statement", args=[tenant.pk])
        asks(f"statement of this month, {words} tenant", f"{statement}?month={lately}")
        asks(f"statement of last month, {words} tenant", f"{statement}?month={before}")
    asks("console: ledger, every tenant", ledger)
    asks("console: spending, every tenant", spending)
    asks("console: overview", reverse("admin:index"))
    return found


def measure(ask: Callable[[], Any], rounds: int) -> tuple[float, float, float, float]:
    """Milliseconds: the best, its share in the database, the median and the 95th percentile. On a
    busy machine the best says most."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    ask()
    took = []
    for _ in range(rounds):
        with CaptureQueriesContext(connection) as captured:
            began = time.perf_counter()
            ask()
            whole = (time.perf_counter() - began) * 1000
        took.append((whole, sum(float(query["time"]) for query in captured) * 1000))
    took.sort()
    best, in_database = took[0]
    p95 = took[min(len(took) - 1, int(len(took) * 0.95))][0]
    return best, in_database, took[len(took) // 2][0], p95


def drop(count: int) -> None:
    """What deleting costs, beside what DROP TABLE of a partition would. Without checking hashes,
    which these rows do not have: the statements alone."""
    from django.db import transaction

    from tenants import scope
    from tenants.members.models import Tenant
    from tenants.usage import retention
    from tenants.usage.models import UsageEvent

    tenant = Tenant.objects.get(slug="tenant-0")
    with scope.platform("bench"):
        last = UsageEvent.objects.filter(tenant=tenant).order_by("sequence")[count].sequence
        began = time.perf_counter()
        with transaction.atomic():
            retention.delete_up_to(tenant.pk, last)
        took = time.perf_counter() - began
    print(f"\n{count:,} events deleted in {took:.1f} s: {count / took:,.0f} a second")


if __name__ == "__main__":
    raise SystemExit(main())
