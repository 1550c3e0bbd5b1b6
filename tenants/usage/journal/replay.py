"""What journals hold is written to the ledger: once, whoever is killed on the way.

What the ledger has already is left out: events by their request, holds by their id. The rest is
held and settled as any request, and a settlement whose hold is gone is either known or corrects
what was presumed (tenants/usage/group.py). So a replay that was cut off is simply done again.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, TypeVar

import msgspec
from django.conf import settings

from controlplane.kit import clock
from controlplane.kit.errors import GatewayError
from tenants import scope
from tenants.alerts.kinds import AlertKind
from tenants.alerts.services import alert
from tenants.usage import writing
from tenants.usage.group import Begin, DatabaseAway, Group, Operation, Settle
from tenants.usage.journal import file, records
from tenants.usage.journal.records import Begun, Ended, Line, Returned
from tenants.usage.models import UsageEvent

log = logging.getLogger(__name__)

_BATCH: Final = 128
T = TypeVar("T", Begin, Settle)


def write_all(folder: Path) -> bool:
    """Writes every journal whose process is gone or has closed it. False: one has to be tried
    again."""
    is_done = True
    for path in sorted(folder.glob(f"*{file.SUFFIX}")):
        with file.abandoned(path) as is_ours:
            if is_ours:
                is_done &= _write(path)
    return is_done


def begin_again(group: Group, begins: Sequence[Begin]) -> list[Begin]:
    """Holds those that the ledger does not know; those that could not be held. Raises
    DatabaseAway."""
    failed: list[Begin] = []
    for some in _batches(begins):
        known, settled = _known(some)
        failed += _execute(
            group,
            [
                one
                for one in some
                if one.hold_id not in known and one.held.request_id not in settled
            ],
        )
    return failed


def _write(path: Path) -> bool:
    try:
        contents = file.read(path)
        lines = [] if contents is None else _lines(contents.records)
    except (GatewayError, OSError, msgspec.MsgspecError) as error:
        _tell_stuck(path, f"it cannot be read ({error})")
        return False
    if contents is None:
        file.remove(path)
        return True
    # In the name of the process that let them in: if that is dead, so are they.
    group = Group(settings.REDIS_URL, process_id=contents.process_id)
    try:
        failed = _replay(group, lines)
    except DatabaseAway as error:
        log.warning("A usage journal could not be written to the ledger yet: %s", error)
        return False
    finally:
        group.counting.close()
    if failed:
        _tell_stuck(path, f"{failed} of its requests could not be written to the ledger")
        return False
    if contents.damaged:
        _tell_stuck(file.set_aside(path), f"{len(contents.damaged)} of its records were altered")
        return True
    _tell(lines)
    file.remove(path)
    return True


def _lines(found: Iterable[bytes]) -> list[Line]:
    return [line for record in found for line in records.decode(record)]


def _replay(group: Group, lines: Sequence[Line]) -> int:
    """How many requests could not be written."""
    ended = [line for line in lines if isinstance(line, Ended)]
    returned = {
        hold_id for line in lines if isinstance(line, Returned) for hold_id in line.hold_ids
    }
    # What was let in and never happened left no trace: there is nothing to write.
    never = {line.hold_id for line in ended if not line.parts}
    failed: list[Begin] | list[Settle] = begin_again(
        group,
        [
            records.begin_of(line)
            for line in lines
            if not isinstance(line, Returned)
            and (isinstance(line, Begun) or not line.has_row)
            and line.hold_id not in returned
            and line.hold_id not in never
        ],
    )
    count = len(failed)
    for some in _batches([records.settle_of(line) for line in ended]):
        # Held by us after another had settled it: this hold is one too many.
        known, settled = _known(some)
        _execute(
            group,
            [
                Settle(one.hold_id, one.held)
                for one in some
                if one.hold_id in known and one.held.request_id in settled
            ],
        )
        count += len(_execute(group, some))
    return count


def _known(some: Sequence[Begin] | Sequence[Settle]) -> tuple[set[uuid.UUID], set[str]]:
    """Which of them the ledger holds, by id, and which are settled, by request."""
    with scope.platform("requests of a journal"):
        settled = UsageEvent.objects.filter(request_id__in=[one.held.request_id for one in some])
        return (
            writing.find_holds({one.hold_id for one in some}),
            set(settled.values_list("request_id", flat=True)),
        )


def _execute(group: Group, operations: Sequence[T]) -> list[T]:
    """Those that failed."""
    if operations:
        group.execute(list[Operation](operations))
    return [one for one in operations if one.error is not None]


def _tell(lines: Sequence[Line]) -> None:
    """Once in an hour, whatever the number of gateways and files."""
    taken = [line.held.taken_at for line in lines if isinstance(line, Begun)]
    ended = sum(isinstance(line, Ended) and bool(line.parts) for line in lines)
    if not ended and not taken:
        return
    log.info("A usage journal was written to the ledger: %d requests ended in it.", ended)
    now = clock.now()
    alert(
        AlertKind.JOURNAL,
        tenant_id=None,
        key=f"written:{now:%Y-%m-%dT%H}",
        title="The database was away: usage was kept in a journal",
        text=f"While the database did not answer, a gateway let {len(taken)} requests in and saw "
        f"{ended} end. All are in the ledger now.",
        facts={"let_in": len(taken), "ended": ended},
        now=now,
    )


def _tell_stuck(path: Path, what: str) -> None:
    log.error("The usage journal %s: %s.", path, what)
    now = clock.now()
    alert(
        AlertKind.JOURNAL,
        tenant_id=None,
        key=f"stuck:{path.stem}:{now:%Y-%m-%d}",
        title="A usage journal could not be written to the ledger",
        text=f"{path.name}: {what}. The ledger lacks what is in it. Keep the file, and the vault "
        "keys of its time: it is tried again while it is called .journal.",
        facts={"file": path.name},
        now=now,
    )


def _batches(items: Sequence[T]) -> Iterable[Sequence[T]]:
    return (items[start : start + _BATCH] for start in range(0, len(items), _BATCH))
