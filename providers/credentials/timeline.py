"""What happened to a credential, oldest first, kept for some weeks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from providers.credentials.events import CredentialEvent
from providers.credentials.models import Credential

KEEP: Final = timedelta(days=60)
PRUNE_BATCH: Final = 1_000
_ROW_ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def note(credential: Credential, kind: str, sentence: str, *, now: datetime) -> None:
    """One line of the timeline. Never with a secret in it."""
    CredentialEvent.objects.create(
        tenant_id=credential.tenant_id,
        credential=credential,
        at=now,
        kind=kind,
        state=credential.state,
        sentence=sentence[:500],
    )


def note_rests(rests: Mapping[str, tuple[str, datetime]], *, now: datetime) -> None:
    """Credentials, by id, that begin to rest after failures: why, and until when."""
    # A key that a caller brought is no row of ours.
    ids = [one for one in rests if _ROW_ID.fullmatch(one)]
    for row in Credential.objects.filter(pk__in=ids).defer("sealed"):
        why, until = rests[str(row.pk)]
        sentence = f"Rests until {until:%H:%M:%S} UTC after failures ({why})."
        note(row, CredentialEvent.Kind.COOLDOWN, sentence, now=now)


def events_of(credential: Credential, *, limit: int = 60) -> list[CredentialEvent]:
    rows = CredentialEvent.objects.filter(credential=credential).order_by("-at", "-pk")
    return list(rows[:limit])[::-1]


def prune(*, now: datetime) -> int:
    """At most one batch. Returns how many."""
    old = CredentialEvent.objects.filter(at__lt=now - KEEP).values_list("pk", flat=True)
    return CredentialEvent.objects.filter(pk__in=list(old[:PRUNE_BATCH])).delete()[0]
