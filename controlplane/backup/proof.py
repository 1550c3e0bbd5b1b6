"""That a database is whole and belongs to the keys at hand: every secret opens, the audit chains
and the ledger add up."""

from __future__ import annotations

from dataclasses import dataclass

from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError

from controlplane.backup.errors import BackupFailed
from controlplane.first_run import obstacles
from controlplane.first_run.errors import CannotStart
from controlplane.kit.errors import GatewayError
from controlplane.supervisor import preflight
from tenants.audit import verify as audit
from tenants.usage import verify as ledger
from tenants.vault import ring, rotation


@dataclass(frozen=True)
class Proof:
    secrets: int
    audit_events: int
    ledger_events: int


def prove() -> Proof:
    """Reads only. Raises BackupFailed for the first thing that does not hold."""
    try:
        obstacles.check_migrations()
        missing = preflight.unapplied_migrations()
    except (CannotStart, DatabaseError) as error:
        raise BackupFailed(f"The backup is none of this version's: {error}") from None
    if missing:
        raise BackupFailed(
            f"The backup was made by an older version, which lacks {missing[0]}: restore it with "
            "that version, then upgrade."
        )
    try:
        ring.verify_before_start()
        opened = rotation.inspect()
    except (GatewayError, ImproperlyConfigured) as error:
        raise BackupFailed(f"The backup's secrets cannot be opened: {error}") from None
    damaged = [each for each in opened.unreadable if each.why != rotation.SHREDDED]
    if damaged:
        raise BackupFailed(
            f"{len(damaged)} of the backup's secrets cannot be opened, the first is {damaged[0]}. "
            "Put back the vault keys that belong to it."
        )
    events, book = audit.verify(), ledger.verify()
    if events.findings:
        raise BackupFailed(f"The backup's audit log does not verify: {events.findings[0]}.")
    if book.findings:
        raise BackupFailed(f"The backup's ledger does not add up: {book.findings[0]}.")
    return Proof(sum(opened.readable.values()), events.events, book.events)
