"""What the gateways tell each other of targets: rows, written away from the hot path.

A place that begins or ends to rest is written within a second and read by the others as soon as
the revision says so. While the database is away each gateway goes by what it knows itself.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from django.db import transaction
from django.db.models import Q, QuerySet

from controlplane.kit import clock
from providers.catalog.models import Provider
from providers.credentials import timeline
from providers.credentials.services import refuse_credential
from providers.routing.cooldown import Cooldowns, Place, Rest
from providers.routing.loads import Loads
from providers.routing.models import Resting
from providers.routing.plan import Standing
from providers.routing.strategies import Turns
from providers.routing.table import CredentialRef
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.audit.services import record
from tenants.revisions.services import bump


@transaction.atomic
def tell(changed: Mapping[Place, Rest | None]) -> None:
    """Writes what one gateway learned. A registration that is gone meanwhile is left out."""
    with scope.platform("rests of targets"):
        known = Provider.objects.filter(pk__in={place[0] for place in changed})
        there = set(map(str, known.values_list("pk", flat=True)))
        rows = []
        for place, rest in changed.items():
            if rest is None:
                _at(place).delete()
            elif place[0] in there:
                rows.append(_row(place, rest))
        _note_new(rows)
        Resting.objects.bulk_create(
            rows,
            update_conflicts=True,
            unique_fields=["provider", "credential_id", "model"],
            update_fields=["outcome", "since", "until", "is_shut", "times"],
        )
    bump("rests")


def _note_new(rows: Sequence[Resting]) -> None:
    """A line in the timeline of each credential that begins to rest, not at each prolongation."""
    ids = {row.credential_id for row in rows if row.credential_id}
    if not ids:
        return
    resting = set(
        Resting.objects.filter(credential_id__in=ids).values_list("credential_id", flat=True)
    )
    rests = {row.credential_id: (row.outcome, row.until) for row in rows}
    timeline.note_rests({one: rests[one] for one in sorted(ids - resting)}, now=clock.now())


def hear() -> dict[Place, Rest]:
    """What all gateways know together."""
    with scope.platform("rests of targets"):
        rows = list(Resting.objects.all())
    return {
        (str(row.provider_id), row.credential_id, row.model): Rest(
            until=row.until.timestamp(),
            since=row.since.timestamp(),
            outcome=row.outcome,
            is_shut=row.is_shut,
            times=row.times,
        )
        for row in rows
    }


def standing_of_all(now: float) -> Standing:
    """What a plan goes by outside of a gateway: the rests that all know of. Whose turn it is, and
    who is busy or fast, each gateway knows for itself."""
    cooldowns = Cooldowns()
    cooldowns.adopt(hear())
    return Standing(
        cooldowns=cooldowns,
        turns=Turns(),
        loads=Loads(lambda: now),
        draw=lambda _: 0,
        now=now,
    )


@transaction.atomic
def end_rests(provider: Provider, ids: Iterable[uuid.UUID] | None = None) -> int:
    """Lets targets of a registration be used again at once; None = all of them. Returns how
    many."""
    rows = Resting.objects.filter(provider=provider)
    if ids is not None:
        rows = rows.filter(pk__in=list(ids))
    ended = rows.delete()[0]
    if ended:
        record(
            tenant_id=provider.tenant_id,
            action="provider.rests_ended",
            target=provider,
            after={"ended": ended},
        )
        bump("rests")
    return ended


def forget_old(*, now: datetime) -> int:
    """A rest that is long over and that no probe ended: nobody asked for it since."""
    with scope.platform("rests that are over"):
        return Resting.objects.filter(until__lt=now).delete()[0]


def refuse(refused: Mapping[str, tuple[CredentialRef, str]]) -> int:
    """Marks credentials that their vendor does not take any more. Returns how many."""
    with scope.platform("credentials that were refused"), acting_as("system", None, "gateway"):
        return sum(
            refuse_credential(credential_id, version=ref.version, reason=reason)
            for credential_id, (ref, reason) in refused.items()
        )


def _at(place: Place) -> QuerySet[Resting]:
    return Resting.objects.filter(
        Q(provider_id=place[0]) & Q(credential_id=place[1]) & Q(model=place[2])
    )


def _row(place: Place, rest: Rest) -> Resting:
    return Resting(
        provider_id=place[0],
        credential_id=place[1],
        model=place[2],
        outcome=rest.outcome,
        since=datetime.fromtimestamp(rest.since, UTC),
        until=datetime.fromtimestamp(rest.until, UTC),
        is_shut=rest.is_shut,
        times=rest.times,
    )
