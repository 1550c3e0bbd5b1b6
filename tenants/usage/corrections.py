"""New entries that set earlier ones right: history itself is never changed."""

from __future__ import annotations

import uuid
from datetime import datetime

from django.conf import settings
from django.db import transaction
from django.db.models import Max, QuerySet, Sum

from controlplane.kit import clock, json
from tenants.audit.actor import current_actor
from tenants.audit.services import record
from tenants.direct_sql import DirectSQL
from tenants.errors import NotFound, StateConflict
from tenants.members.models import Tenant
from tenants.quotas.models import Counter, Limit
from tenants.quotas.policy import Amounts, Kind, Scope
from tenants.quotas.redis_store import RedisStore
from tenants.quotas.store import Change, StoreAway
from tenants.usage import writing
from tenants.usage.counting import Counting
from tenants.usage.models import Posting, UsageEvent
from tenants.usage.outcome import COUNTS, Held, Outcome, Settled, TargetFacts
from tenants.usage.writing import Entry, Part


@transaction.atomic
def correct(
    *, tenant: Tenant, request_id: str, charge_nanos: int, reason: str, now: datetime | None = None
) -> UsageEvent:
    """Charges or refunds the tenant for one request: a new entry with its reason and author, and
    its postings. In the tenant's scope. Raises NotFound, StateConflict."""
    now = now or clock.now()
    events = UsageEvent.objects.filter(request_id=request_id)
    first = events.order_by("part").first()
    # Without the request itself (dropped, for its age) nobody could say what is left of it.
    if first is None or first.part != 0:
        raise NotFound("There is no request with this id in the ledger.", param="request_id")
    charged = events.aggregate(total=Sum("charge_nanos"))["total"] or 0
    if charged + charge_nanos < 0:
        raise StateConflict(
            "A refund cannot be more than what was charged: "
            f"{charged} nano-dollars are left of this request.",
            param="charge_nanos",
        )
    changes = _counted_changes(events, charge_nanos)
    held = Held(
        request_id=request_id,
        tenant_id=tenant.id,
        taken_at=first.created_at.timestamp(),
        model=first.model_asked,
        key_id=first.key_id,
        member_id=first.member_id,
        operation=first.operation,
        client_protocol=first.client_protocol,
        is_stream=first.is_stream,
        trace_id=first.trace_id,
    )
    author = current_actor()
    part = Part(
        Outcome(status=first.status),
        TargetFacts(provider=first.provider, model=first.model_served),
        (),
        part=(events.aggregate(last=Max("part"))["last"] or 0) + 1,
        entry=UsageEvent.Entry.CORRECTION.value,
        reason=reason,
        author=author.label or author.kind.value,
    )
    difference = Settled(
        counts=(None,) * len(COUNTS),
        is_reported=True,
        estimated_input=0,
        estimated_output=0,
        cost_nanos=None,
        charge_nanos=charge_nanos,
        estimated_nanos=0,
        amounts=Amounts(),
    )
    entry = writing.make_entry(held, part, difference, changes=changes, now=now)
    # What the tenant pays more or less, the platform gains or gives.
    account = Posting.Account
    entry.postings = [
        (account.SPEND.value, "", charge_nanos),
        (account.ADJUSTMENT.value, "", -charge_nanos),
    ]
    _write(entry)
    found: UsageEvent = events.get(part=part.part)
    record(
        tenant_id=tenant.id,
        action="usage.corrected",
        target=found,
        after={"request_id": request_id, "charge_nanos": charge_nanos, "reason": reason},
    )
    return found


def _write(entry: Entry) -> None:
    """As a settlement is written: the counters' place is held until the transaction ends."""
    counting = Counting()
    sql = DirectSQL()
    place = counting.look(sql)
    writing.append(sql, [entry])
    counting.database.settle(sql, entry.changes)
    if place.is_cache and settings.REDIS_URL and entry.changes:
        transaction.on_commit(lambda: _tell_cache(place.epoch, entry.changes))


def _tell_cache(epoch: str, changes: list[Change]) -> None:
    cache = RedisStore(settings.REDIS_URL, epoch)
    try:
        cache.settle(changes)
    except StoreAway:
        # The rows have it: whoever seeds the next epoch counts it.
        return
    finally:
        cache.close()


def _counted_changes(events: QuerySet[UsageEvent], charge_nanos: int) -> list[Change]:
    """The money that the tenant's budgets counted moves with the charge, in the same buckets."""
    keys = {
        key
        for counted in events.exclude(counted="").values_list("counted", flat=True)
        for key, _ in json.loads(counted)
    }
    ids = {key.partition(":")[0] for key in keys}
    budgets = {
        limit.id.hex
        for limit in Limit.objects.filter(pk__in=[uuid.UUID(one) for one in ids])
        if limit.kind == Kind.MONEY and limit.scope_kind not in _AT_COST
    }
    return [
        Change(counter.key, 0, charge_nanos, counter.ends_at)
        for counter in Counter.objects.filter(key__in=keys)
        if counter.key.partition(":")[0] in budgets
    ]


_AT_COST = {Scope.PLATFORM.value, Scope.PROVIDER.value, Scope.CREDENTIAL.value}
