"""Say that something changed; ask what has changed since."""

from __future__ import annotations

import logging
from functools import partial
from typing import Final

from django.db import transaction
from django.db.models import F

from controlplane.kit import clock
from tenants.revisions import wake
from tenants.revisions.models import Revision

log = logging.getLogger(__name__)

TOPICS: Final = frozenset(
    {"credentials", "keys", "limits", "registrations", "rests", "routes", "tenants"}
)


def bump(topic: str) -> None:
    """In the caller's transaction, so that the change and its revision show together.

    The row stays locked until that transaction ends: bump last. Where one transaction bumps
    two topics, do so in alphabetical order, or two of them may wait for each other.
    """
    if topic not in TOPICS:
        raise ValueError(f"{topic!r} is not a topic; there are {', '.join(sorted(TOPICS))}.")
    if not transaction.get_connection().in_atomic_block:
        raise transaction.TransactionManagementError("bump() belongs in the change's transaction.")
    moved = {"value": F("value") + 1, "changed_at": clock.now()}
    if not Revision.objects.filter(topic=topic).update(**moved):
        # Two first bumps may meet: one row, both counted.
        Revision.objects.bulk_create([Revision(topic=topic)], ignore_conflicts=True)
        Revision.objects.filter(topic=topic).update(**moved)
    transaction.on_commit(partial(wake.publish, topic))


def current() -> dict[str, int]:
    """Every topic's revision, by one query. 0 = never changed."""
    return dict.fromkeys(TOPICS, 0) | dict(Revision.objects.values_list("topic", "value"))
