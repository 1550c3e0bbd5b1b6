"""Guessing stops here: 5 failures per account and 20 per address in any 5 minutes.

Each try takes one slot per bucket before the password is looked at, and gives it back when it
was right. A slot is taken by one conditional UPDATE (or one INSERT under a unique constraint),
so that no number of processes trying at once gets more tries than there are slots.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.db import IntegrityError, transaction

from controlplane.console.sign_in.models import SignInSlot

WINDOW: Final = timedelta(minutes=5)
ACCOUNT_FAILURES: Final = 5
ADDRESS_FAILURES: Final = 20
# Slots that have been free this long are swept away when a new one is made.
_KEEP: Final = timedelta(days=1)


class LockedOut(Exception):
    """Too many failures. `until` is when the next try is allowed."""

    def __init__(self, until: datetime) -> None:
        super().__init__("Too many failed sign-ins.")
        self.until = until


@dataclass
class Try:
    """One attempt under way. It counts as a failure unless `forgive()` is called."""

    taken: list[tuple[int, datetime]] = field(default_factory=list)

    def forgive(self) -> None:
        for pk, free_at in self.taken:
            # Only if still ours: after the window it may be somebody else's failure.
            SignInSlot.objects.filter(pk=pk, free_at=free_at).update(free_at=free_at - WINDOW)
        self.taken.clear()


@contextmanager
def attempt(*, account: str, address: str, now: datetime) -> Iterator[Try]:
    """Take a slot of each bucket. Raises LockedOut when one has none left.

    `account` must be the same for every spelling of one account: pass its id, or the canonical
    form of a name that belongs to nobody.
    """
    current = Try()
    try:
        for bucket, limit in (
            (_bucket("account", account), ACCOUNT_FAILURES),
            (_bucket("address", address), ADDRESS_FAILURES),
        ):
            current.taken.append(_take(bucket, limit, now))
    except LockedOut:
        # The other bucket is not to blame for a try that never took place.
        current.forgive()
        raise
    yield current


def _bucket(kind: str, name: str) -> str:
    # Keyed, so that the table does not list who tried to sign in from where.
    key = settings.SECRET_KEY.encode()
    return hmac.new(key, f"sign-in:{kind}:{name}".encode(), hashlib.sha256).hexdigest()


def _take(bucket: str, limit: int, now: datetime) -> tuple[int, datetime]:
    free_at = now + WINDOW
    while True:
        slots = list(SignInSlot.objects.filter(bucket=bucket).order_by("number"))
        for slot in slots:
            if slot.free_at <= now and (
                SignInSlot.objects.filter(pk=slot.pk, free_at=slot.free_at).update(free_at=free_at)
            ):
                return slot.pk, free_at
        unused = set(range(limit)) - {slot.number for slot in slots}
        if unused:
            SignInSlot.objects.filter(free_at__lt=now - _KEEP).delete()
            try:
                with transaction.atomic():
                    made = SignInSlot.objects.create(
                        bucket=bucket, number=min(unused), free_at=free_at
                    )
                return made.pk, free_at
            except IntegrityError:
                continue  # another process was first: look again
        busy = [slot.free_at for slot in slots if slot.free_at > now]
        if len(busy) >= limit:
            raise LockedOut(min(busy))
        # A slot was free when read and taken before we came: read again.
