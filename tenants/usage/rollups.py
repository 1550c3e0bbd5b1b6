"""Usage by hour and day, added up event by event in the order of each tenant's chain.

The mark says up to which place of the chain the rollups count. It moves in the transaction that
adds what lies between, so that running this twice, or twice at once, adds nothing twice.
"""

from __future__ import annotations

import hashlib
import uuid
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from django.db import transaction
from django.db.models import F

from tenants import scope
from tenants.members.models import Tenant
from tenants.usage.models import LedgerHead, Rollup, RollupMark, UsageEvent

# A step holds a lock that requests wait for where the database is SQLite: a tenth of a second.
_STEP: Final = 500
_FIGURES: Final = Rollup.FIGURES
_COLUMNS: Final = (
    *("sequence", "created_at", "entry", "part", "key_id", "member_id", "provider"),
    *("model_asked", "status", "cost_nanos", "charge_nanos", "estimated_nanos"),
    *("input", "cache_read", "cache_write", "output", "estimated_input", "estimated_output"),
)
_ALL: Final = (None, None, "", "")
Key = tuple[str, datetime, uuid.UUID | None, uuid.UUID | None, str, str]


def roll_up() -> int:
    """Brings every tenant's rollups up to its head; how many events were added."""
    with scope.platform("rollups"):
        behind = [
            head.tenant_id
            for head in LedgerHead.objects.all()
            if head.sequence > _mark(head.tenant_id)
        ]
    total = 0
    for tenant_id in behind:
        while added := roll_up_step(tenant_id):
            total += added
    return total


@transaction.atomic
def roll_up_step(tenant_id: uuid.UUID) -> int:
    """One step for one tenant; 0 = nothing was left, or somebody else is at it."""
    with scope.tenant(tenant_id):
        zone = ZoneInfo(Tenant.objects.values_list("time_zone", flat=True).get(pk=tenant_id))
        RollupMark.objects.bulk_create([RollupMark(tenant_id=tenant_id)], ignore_conflicts=True)
        mark = RollupMark.objects.select_for_update().get()
        rows = list(
            UsageEvent.objects.filter(sequence__gt=mark.sequence)
            .order_by("sequence")
            .values(*_COLUMNS)[:_STEP]
        )
        if not rows:
            return 0
        sums: dict[Key, list[int]] = defaultdict(lambda: [0] * len(_FIGURES))
        last: dict[datetime, int] = {}
        for row in rows:
            figures = _figures(row)
            whose = (row["key_id"], row["member_id"], row["provider"], row["model_asked"])
            for grain, starts_at in _starts(row["created_at"], zone):
                for key in ((grain, starts_at, *whose), (f"{grain}_sum", starts_at, *_ALL)):
                    group = sums[key]
                    for index, figure in enumerate(figures):
                        group[index] += figure
                if grain == "day":
                    # Rows come in the chain's order: the last one stays.
                    last[starts_at] = row["sequence"]
        moved = RollupMark.objects.filter(sequence=mark.sequence).update(
            sequence=rows[-1]["sequence"]
        )
        if moved != 1:
            return 0
        _add(tenant_id, sums, last)
        return len(rows)


def _add(tenant_id: uuid.UUID, sums: dict[Key, list[int]], last: dict[datetime, int]) -> None:
    wanted = {(key[0], key[1], _group(key)): key for key in sums}
    Rollup.objects.bulk_create(
        [
            Rollup(
                tenant_id=tenant_id,
                grain=key[0],
                starts_at=key[1],
                key_id=key[2],
                member_id=key[3],
                provider=key[4],
                model=key[5],
                group=group,
            )
            for (_, _, group), key in sorted(wanted.items(), key=lambda pair: pair[0])
        ],
        ignore_conflicts=True,
    )
    for (grain, starts_at, group), key in sorted(wanted.items(), key=lambda pair: pair[0]):
        Rollup.objects.filter(grain=grain, starts_at=starts_at, group=group).update(
            **{name: F(name) + sums[key][index] for index, name in enumerate(_FIGURES)}
        )
    for starts_at, sequence in sorted(last.items()):
        Rollup.objects.filter(grain="day_sum", starts_at=starts_at).update(last_sequence=sequence)


def _group(key: Key) -> str:
    text = "\n".join("" if part is None else str(part) for part in key[2:])
    return hashlib.sha256(text.encode()).hexdigest()


def _figures(row: dict[str, Any]) -> tuple[int, ...]:
    is_request = row["part"] == 0 and row["entry"] in ("usage", "presumed")
    prompt = sum(row[name] or 0 for name in ("input", "cache_read", "cache_write"))
    return (
        int(is_request),
        int(is_request and (row["status"] >= 400 or row["status"] == 0)),
        int(is_request and row["cost_nanos"] is None),
        prompt + row["estimated_input"],
        (row["output"] or 0) + row["estimated_output"],
        row["cost_nanos"] or 0,
        row["charge_nanos"] or 0,
        row["estimated_nanos"],
    )


def _starts(at: datetime, zone: ZoneInfo) -> tuple[tuple[str, datetime], tuple[str, datetime]]:
    hour = at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    day = at.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    return ("hour", hour), ("day", day.astimezone(UTC))


def prune_hours(*, now: datetime, keep_days: int = 62) -> int:
    """Days stay for ever; hours are for looking closely at what was lately."""
    with scope.platform("rollups that grew old"):
        old = Rollup.objects.filter(
            grain__startswith="hour", starts_at__lt=now - timedelta(days=keep_days)
        )
        return old.delete()[0]


def _mark(tenant_id: uuid.UUID) -> int:
    found: int | None = (
        RollupMark.objects.filter(tenant_id=tenant_id).values_list("sequence", flat=True).first()
    )
    return found or 0
