"""What was decided for a request, kept for some days: collected in memory, written in batches away
from the hot path. No prompt, no answer, no secret, no other tenant's name."""

from __future__ import annotations

import logging
import uuid
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.db import connection

from controlplane.kit import clock, json
from controlplane.kit.ids import uuid7
from controlplane.kit.json import JSONDict
from providers.routing.decision import Decision, Try
from providers.routing.loader import load_table
from providers.routing.models import RouteTrace
from providers.routing.needs import BITS, Needs
from providers.routing.outcomes import Outcome
from providers.routing.plan import Plan, Rejected, plan
from providers.routing.sharing import standing_of_all
from tenants import scope
from tenants.direct_sql import DirectSQL

log = logging.getLogger(__name__)

# Requests come faster than rows are written only while the database is slow or away.
MOST_WAITING: Final = 20_000
# Few: while a batch is made, the event loop waits for the interpreter, and while it is written,
# whoever commits a request waits for SQLite's one writer.
BATCH: Final = 32
PRUNE_BATCH: Final = 1_000
_MOST_NAMED: Final = 20
# A row for each request: through the ORM it cost as much as half of all else that is done for one.
_INSERT: Final = (
    "INSERT INTO providers_routetrace (id, created_at, tenant_id, request_id, at, model, strategy,"
    " served_by, outcome, attempts, decision)"
    " VALUES {rows}"
)


class Traces:
    """Of one process. `note` in the event loop, `flush` in a database thread."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[str, datetime, Decision]] = deque(maxlen=MOST_WAITING)
        self._lost = 0

    def note(self, request_id: str, decision: Decision) -> None:
        if settings.ROUTING_TRACES == "off" or decision.tenant_id is None:
            return
        if settings.ROUTING_TRACES == "failures" and _outcome(decision) is RouteTrace.Outcome.OK:
            return
        if len(self._waiting) == MOST_WAITING:
            self._lost += 1
        self._waiting.append((request_id, clock.now(), decision))

    def has_waiting(self) -> bool:
        return bool(self._waiting)

    def flush(self) -> int:
        """Returns how many rows were written; one batch at a time."""
        taken = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
        if not taken:
            return 0
        try:
            is_plain = connection.vendor == "sqlite"
            rows = [_row(*entry, is_plain=is_plain) for entry in taken]
            with scope.platform("decision traces"):
                sql = DirectSQL()
                with sql.transaction():
                    sql.change_many(_INSERT, rows)
        except BaseException:
            self._waiting.extendleft(reversed(taken))
            raise
        if self._lost:
            log.warning("%d decision traces were lost: the database was too slow.", self._lost)
            self._lost = 0
        return len(rows)


def prune_traces(*, now: datetime) -> int:
    """Forgets what is older than the operator keeps, at most one batch. Returns how many."""
    before = now - timedelta(days=settings.ROUTING_TRACE_KEEP_DAYS)
    with scope.platform("decision traces that grew old"):
        old = RouteTrace.objects.filter(at__lt=before)
        ids = list(old.values_list("pk", flat=True)[:PRUNE_BATCH])
        return RouteTrace.objects.filter(pk__in=ids).delete()[0]


def _row(request_id: str, at: datetime, decision: Decision, *, is_plain: bool) -> Sequence[Any]:
    """In the order of _INSERT. `is_plain`: SQLite keeps ids and times as text."""
    tenant_id, made = decision.tenant_id, decision.plan
    assert isinstance(tenant_id, uuid.UUID)
    assert made is not None
    last = decision.tries[-1] if decision.tries else None
    outcome = _outcome(decision)
    is_served = outcome in (RouteTrace.Outcome.OK, RouteTrace.Outcome.RESCUED)
    row_id = uuid7()
    moment = at.astimezone(UTC).replace(tzinfo=None).isoformat(" ") if is_plain else at
    return (
        row_id.hex if is_plain else row_id,
        moment,
        tenant_id.hex if is_plain else tenant_id,
        request_id,
        moment,
        made.name[:255],
        made.strategy,
        _name(last)[:320] if last is not None and is_served else "",
        outcome.value,
        len(decision.tries),
        json.dumps_str(decision_shown(decision)),
    )


def _outcome(decision: Decision) -> RouteTrace.Outcome:
    if not decision.tries:
        return RouteTrace.Outcome.REFUSED
    match decision.tries[-1].outcome:
        case Outcome.OK:
            is_first = len(decision.tries) == 1
            return RouteTrace.Outcome.OK if is_first else RouteTrace.Outcome.RESCUED
        case Outcome.CANCELLED:
            return RouteTrace.Outcome.LEFT
        case _:
            return RouteTrace.Outcome.FAILED


def decision_shown(decision: Decision) -> JSONDict:
    chosen = decision.plan
    assert chosen is not None
    tried = {(made.target.endpoint.provider_id, made.target.spec.id) for made in decision.tries}
    left = [each.target for each in chosen.candidates if each.target.place not in tried]
    return {
        "needs": {
            "features": chosen.needs.names(),
            "fewest_tokens": chosen.needs.fewest_tokens,
            "most_tokens": chosen.needs.most_tokens,
            "max_output": chosen.needs.max_output,
        },
        "keeps_conversation": bool(chosen.needs.session),
        "is_last_resort": chosen.is_last_resort,
        "is_out_of_budget": decision.is_out_of_budget,
        "planning_microseconds": round(decision.planning_seconds * 1e6),
        "tried": [_try_shown(made) for made in decision.tries],
        "next": [f"{t.endpoint.slug}/{t.spec.id}" for t in left[:_MOST_NAMED]],
        "refused": refused_shown(chosen),
    }


def decided_again(trace: RouteTrace) -> JSONDict:
    """How the same needs would be routed now, by what all gateways know. Takes nobody's turn. Of
    the conversation only its being one was kept, so equals stand in their own order."""
    needs = trace.decision.get("needs", {})
    routes = load_table(trace.tenant_id)
    made = plan(
        trace.model,
        routes,
        lambda _: True,
        standing_of_all(clock.now().timestamp()),
        needs=Needs(
            bits=sum(BITS.get(name, 0) for name in needs.get("features", ())),
            fewest_tokens=needs.get("fewest_tokens", 0),
            most_tokens=needs.get("most_tokens", 0),
            max_output=needs.get("max_output", 0),
        ),
        kind="",
        is_real=False,
    )
    return {
        "is_known": made.is_known,
        "strategy": made.strategy,
        "order": [f"{t.endpoint.slug}/{t.spec.id}" for t in made.targets[:_MOST_NAMED]],
        "refused": refused_shown(made),
    }


def refused_shown(made: Plan) -> list[JSONDict]:
    return [_refused(entry) for entry in made.rejected[:_MOST_NAMED]]


def _refused(entry: Rejected) -> JSONDict:
    return {
        "target": f"{entry.target.endpoint.slug}/{entry.target.spec.id}",
        "code": entry.code,
        "limit": entry.limit,
        "asked": entry.asked,
        "detail": entry.detail,
    }


def _try_shown(made: Try) -> JSONDict:
    return {
        "target": _name(made),
        # For those who may know: pages for tenants leave it out where it is the platform's.
        "credential": made.credential.label if made.credential is not None else "",
        "outcome": made.outcome.value,
        "code": made.code,
        "mended": made.mended,
        "milliseconds": round(made.seconds * 1_000),
    }


def _name(made: Try) -> str:
    return f"{made.target.endpoint.slug}/{made.target.spec.id}"
