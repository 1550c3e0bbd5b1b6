"""manage.py audit: prove the audit log, and take it elsewhere."""

from __future__ import annotations

import contextlib
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO, cast

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.template.defaultfilters import pluralize

from controlplane.kit import clock
from controlplane.kit.progress import Progress
from tenants import scope
from tenants.audit import verify
from tenants.audit.chain import PLATFORM, chain_of
from tenants.audit.models import AuditEvent
from tenants.errors import TenantError
from tenants.members.models import Tenant


class Command(BaseCommand):
    help = "Prove that the audit log is whole, and take it elsewhere."

    def add_arguments(self, parser: CommandParser) -> None:
        todo = parser.add_subparsers(dest="todo", required=True, metavar="COMMAND")
        check = todo.add_parser("verify", help="find edits, deletions, insertions, reordering")
        check.add_argument("--chain", help="only this tenant (slug or id), or `platform`")
        check.add_argument(
            "--head", type=Path, metavar="FILE", help="also hold it against exported heads"
        )
        head = todo.add_parser("export-head", help="where every chain ends, as JSON")
        head.add_argument("--output", type=Path, metavar="FILE", help="default: standard output")
        export = todo.add_parser("export", help="events as JSON, one a line")
        export.add_argument("--chain", help="only this tenant (slug or id), or `platform`")
        export.add_argument("--since", type=_date, help="only from this date on: 2026-01-31")
        export.add_argument("--output", type=Path, metavar="FILE", help="default: standard output")

    def handle(self, *args: Any, todo: str, **options: Any) -> None:
        try:
            getattr(self, "_" + todo.replace("-", "_"))(**options)
        except TenantError as error:
            raise CommandError(str(error)) from None
        except BrokenPipeError:
            # `audit export | head`: the reader has enough. Python would complain at exit too.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            raise CommandError(f"{where}{error.strerror}.") from None

    def _verify(self, chain: str | None, head: Path | None, **options: Any) -> None:
        name = None if chain is None else _chain(chain)
        exported = {} if head is None else verify.read_heads(head.read_bytes())
        with scope.platform("audit verification"):
            events = AuditEvent.objects.all()
            total = events.count() if name is None else events.filter(chain=name).count()
        with Progress("Checking", total, cast(TextIO, self.stderr._out)) as progress:
            report = verify.verify(chain=name, exported=exported, on_progress=progress)
        for finding in report.findings:
            self.stdout.write(f"  {finding}")
        if report.has_more:
            self.stdout.write(f"  … and more than these {verify.MOST_FINDINGS}")
        if report.findings:
            raise CommandError(
                "The audit log was tampered with or damaged. Keep this database as it is and "
                "compare it with a backup."
            )
        self.stdout.write(
            f"{report.events:,} event{pluralize(report.events)} in {report.chains:,} "
            f"chain{pluralize(report.chains)}, whole and in order."
        )
        if head is None:
            self.stdout.write(
                "A cut-off end shows only against an exported head: see `audit export-head`."
            )

    def _export_head(self, output: Path | None, **options: Any) -> None:
        with self._lines(output) as write:
            write(verify.export_heads(clock.now()))

    def _export(
        self, chain: str | None, since: datetime | None, output: Path | None, **options: Any
    ) -> None:
        name = None if chain is None else _chain(chain)
        count = 0
        with scope.platform("audit export"), self._lines(output) as write:
            for event in verify.export_events(name, since):
                write(event)
                count += 1
        if output is not None:
            self.stdout.write(f"{count:,} event{pluralize(count)} written to {output}.")

    @contextlib.contextmanager
    def _lines(self, path: Path | None) -> Iterator[Callable[[bytes], None]]:
        """A new file for the owner's eyes only, never in place of another; or standard output."""
        if path is None:
            yield lambda line: self.stdout.write(line.decode())
            return
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:

            def write(line: bytes) -> None:
                file.write(line + b"\n")

            yield write


def _chain(text: str) -> str:
    """A deleted tenant is named by its id, or by the slug its events remember."""
    if text == PLATFORM:
        return PLATFORM
    with contextlib.suppress(ValueError):
        return chain_of(uuid.UUID(text))
    tenant_id = Tenant.objects.filter(slug=text).values_list("pk", flat=True).first()
    if tenant_id is not None:
        return chain_of(tenant_id)
    with scope.platform("audit of a deleted tenant"):
        remembered = AuditEvent.objects.filter(tenant_slug=text).order_by("-created_at").first()
    if remembered is not None:
        return str(remembered.chain)
    raise CommandError(f"There is no tenant {text!r}, nor was there one.")


def _date(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
