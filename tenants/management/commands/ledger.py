"""`manage.py ledger`: does everything that was counted follow from what was written, and does a
statement's receipt still hold?"""

from __future__ import annotations

import contextlib
import uuid
from typing import Any, TextIO, cast

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.template.defaultfilters import pluralize

from controlplane.kit.progress import Progress
from tenants import scope
from tenants.members.models import Tenant
from tenants.usage.models import LedgerHead
from tenants.usage.receipts import broken_receipt, read_receipt
from tenants.usage.rollups import roll_up
from tenants.usage.verify import MOST_FINDINGS, verify


class Command(BaseCommand):
    help = "Checks the usage ledger: chains, postings, counters, reservations."

    def add_arguments(self, parser: CommandParser) -> None:
        todo = parser.add_subparsers(dest="todo", required=True)
        check = todo.add_parser("verify", help="find what does not add up")
        check.add_argument("--tenant", help="only this tenant's chain and postings (slug or id)")
        receipt = todo.add_parser("receipt", help="check a statement's receipt against the chain")
        receipt.add_argument("--tenant", required=True, help="slug or id")
        receipt.add_argument(
            "receipt", nargs="+", help="as the statement prints it: place and hash"
        )
        todo.add_parser("roll-up", help="bring the rollups up to the ledger's head now")

    def handle(self, *args: Any, todo: str, **options: Any) -> None:
        if todo == "roll-up":
            added = roll_up()
            self.stdout.write(f"{added:,} event{pluralize(added)} added to the rollups.")
            return
        tenant_id = _tenant_id(options["tenant"]) if options["tenant"] else None
        if todo == "receipt":
            assert tenant_id is not None, "the parser asks for it"
            _check_receipt(tenant_id, " ".join(options["receipt"]))
        with scope.platform("verification of the ledger"):
            heads = LedgerHead.objects.all()
            if tenant_id is not None:
                heads = heads.filter(tenant_id=tenant_id)
            total = sum(heads.values_list("sequence", flat=True))
        with Progress("Checking", total, cast(TextIO, self.stderr._out)) as progress:
            report = verify(tenant_id=tenant_id, on_progress=progress)
        for finding in report.findings:
            self.stdout.write(f"  {finding}")
        if report.has_more:
            self.stdout.write(f"  … and more than these {MOST_FINDINGS}")
        if report.findings:
            raise CommandError(
                "The ledger does not add up. Keep this database as it is and compare it with a "
                "backup."
            )
        self.stdout.write(
            f"{report.events:,} event{pluralize(report.events)} in {report.chains:,} "
            f"chain{pluralize(report.chains)} and {report.counters:,} "
            f"counter{pluralize(report.counters)}: everything adds up."
        )
        if todo == "receipt":
            self.stdout.write("The receipt holds: nothing that it covers was rewritten.")


def _check_receipt(tenant_id: uuid.UUID, text: str) -> None:
    receipt = read_receipt(text)
    if receipt is None:
        raise CommandError("A receipt is a number and 64 hexadecimal digits, as in: 12 3f9a…")
    wrong = broken_receipt(tenant_id=tenant_id, sequence=receipt[0], digest=receipt[1])
    if wrong:
        raise CommandError(f"The receipt does not hold. {wrong}")


def _tenant_id(text: str) -> uuid.UUID:
    by: dict[str, Any] = {"slug": text}
    with contextlib.suppress(ValueError):
        by = {"pk": uuid.UUID(text)}
    found = Tenant.objects.filter(**by).values_list("pk", flat=True).first()
    if found is None:
        raise CommandError(f"There is no tenant {text!r}.")
    return found
