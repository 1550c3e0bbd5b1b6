"""One group of begun and settled requests, decided and written together: one transaction."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from django.db import DatabaseError, InterfaceError, OperationalError, connection

from controlplane.kit import clock
from tenants import scope
from tenants.direct_sql import DirectSQL
from tenants.quotas.database_store import LostRace
from tenants.quotas.policy import Decision, Take
from tenants.quotas.store import Change, StoreAway
from tenants.usage import writing
from tenants.usage.counting import Counting, Place
from tenants.usage.late import replacing
from tenants.usage.models import UsageEvent
from tenants.usage.outcome import Held, HeldTake
from tenants.usage.writing import Part

log = logging.getLogger(__name__)

# Counters that keep moving between two places are a fault of the installation.
_MOST_MOVES = 5


@dataclass(slots=True)
class Begin:
    """A request that wants to be held; or, with `extends`, one that is held and wants more."""

    hold_id: uuid.UUID
    held: Held
    takes: Sequence[Take]
    has_row: bool = True
    extends: bool = False
    decision: Decision | None = None
    error: Exception | None = None


@dataclass(slots=True)
class Settle:
    """A request that ended. Without parts it never happened: everything is given back."""

    hold_id: uuid.UUID
    held: Held
    parts: Sequence[Part] = ()
    # Takes that this request asked for without hearing the answer: given back if granted.
    unsure: tuple[Begin, Sequence[HeldTake]] | None = None
    would_refuse: str = ""
    has_row: bool = True
    # Another process took the hold over, because ours seemed dead.
    is_late: bool = False
    changes: list[Change] = field(default_factory=list)
    error: Exception | None = None


Operation = Begin | Settle


class DatabaseAway(Exception):
    """Nothing of the group happened, and nobody knows when it can."""


class _Moved(Exception):
    """The counters moved while we decided: decide again."""


class Group:
    """Executes groups, one after the other, in whichever thread calls."""

    def __init__(self, redis_url: str = "", process_id: uuid.UUID | None = None) -> None:
        self.counting = Counting(redis_url)
        self.process_id = process_id or uuid.uuid4()
        # The epoch in which Redis may hold more than the rows say.
        self._recount: str | None = None

    def execute(self, operations: Sequence[Operation]) -> None:
        """Fills in each operation's result, or its error. Raises DatabaseAway."""
        try:
            self._execute(operations)
        except (OperationalError, InterfaceError) as error:
            if not _is_alive():
                self._once_more(operations, error)
            elif len(operations) == 1:
                raise DatabaseAway(str(error)) from error
            else:
                self._one_by_one(operations)
        except (DatabaseError, AssertionError, ValueError, TypeError) as error:
            # One that cannot be written must not take the others with it.
            if len(operations) == 1:
                log.exception("A request could not be metered.")
                operations[0].error = error
                return
            self._one_by_one(operations)

    def _once_more(self, operations: Sequence[Operation], error: Exception) -> None:
        """The connection broke: another one may work. Whether the transaction was committed
        before it broke, its holds tell; a settlement finds its hold gone and does nothing."""
        connection.close()
        begins = {one.hold_id for one in operations if isinstance(one, Begin) and not one.extends}
        try:
            with scope.platform("metering"):
                written = writing.find_holds(begins)
            rest = [one for one in operations if one.hold_id not in written]
            if rest:
                self._execute(rest)
        except (OperationalError, InterfaceError):
            connection.close()
            raise DatabaseAway(str(error)) from error

    def _one_by_one(self, operations: Sequence[Operation]) -> None:
        for operation in operations:
            self.execute([operation])

    def _execute(self, operations: Sequence[Operation]) -> None:
        with scope.platform("metering"):
            self._write(DirectSQL(), operations)

    def write(self, sql: DirectSQL, operations: Sequence[Operation]) -> None:
        """For the event loop: either all of it is committed and their results are filled in, or
        nothing happened and it raises. Only where no cache counts."""
        with scope.platform("metering"):
            self._write(sql, operations)

    def _write(self, sql: DirectSQL, operations: Sequence[Operation]) -> None:
        begins = [one for one in operations if isinstance(one, Begin)]
        settles = [one for one in operations if isinstance(one, Settle)]
        wanting = [one for one in begins if one.takes]
        if self._recount is not None:
            self.counting.move_to_database(epoch=self._recount)
            self._recount = None
        place = self.counting.current(sql)
        for _ in range(_MOST_MOVES):
            try:
                place = self._try(sql, place, begins, wanting, settles)
                break
            except _Moved:
                place = self.counting.current(sql)
        else:
            raise OperationalError("The counters keep moving.")
        if place.is_cache and self.counting.cache is not None:
            self._settle_in_cache([change for one in settles for change in one.changes])

    def _try(
        self,
        sql: DirectSQL,
        place: Place,
        begins: list[Begin],
        wanting: list[Begin],
        settles: list[Settle],
    ) -> Place:
        takes = [one.takes for one in wanting]
        database = self.counting.database
        if takes and place.is_cache:
            self._take_in_cache(place, wanting)
        elif takes:
            database.prepare(sql, takes)
        try:
            with sql.transaction():
                if self.counting.look(sql) != place:
                    raise _Moved
                changes = self._settle(sql, place, settles)
                if place.is_cache:
                    database.settle(sql, changes)
                else:
                    decisions = database.move(sql, changes, takes)
                    for begin, decision in zip(wanting, decisions, strict=True):
                        begin.decision = decision
                self._write_holds(sql, begins)
        except (OperationalError, InterfaceError):
            # Perhaps it was committed: what Redis granted must not be given back, and what it
            # holds too much is counted anew from the rows.
            if place.is_cache and takes:
                self._recount = place.epoch
            database.forget()
            raise
        except BaseException as error:
            if place.is_cache:
                self._give_back(wanting)
            # Counters that this transaction made are gone with it.
            database.forget()
            if isinstance(error, LostRace):
                raise _Moved from error
            raise
        return place

    def _take_in_cache(self, place: Place, wanting: list[Begin]) -> None:
        cache = self.counting.cache
        if cache is None:
            # This process was not told where Redis is: the others must come to the database.
            self.counting.move_to_database(epoch=place.epoch)
            raise _Moved
        try:
            decisions = cache.take([one.takes for one in wanting])
        except StoreAway:
            self.counting.move_to_database(epoch=place.epoch)
            raise _Moved from None
        for begin, decision in zip(wanting, decisions, strict=True):
            begin.decision = decision

    def _give_back(self, wanting: list[Begin]) -> None:
        """The transaction failed: what Redis granted for it is void."""
        changes = [
            Change(take.key, take.amount, 0, take.ends_at)
            for one in wanting
            if one.decision is not None and one.decision.refused is None
            for take in one.takes
        ]
        self._settle_in_cache(changes)

    def _settle_in_cache(self, changes: list[Change]) -> None:
        if not changes or self.counting.cache is None:
            return
        try:
            self.counting.cache.settle(changes)
        except StoreAway as error:
            # The rows have it: whoever seeds the next epoch counts it.
            log.info("Redis did not take a settlement, the next epoch will have it: %s", error)

    def _settle(self, sql: DirectSQL, place: Place, settles: list[Settle]) -> list[Change]:
        """Writes what was used; what it changes in the counters of the database."""
        if not settles:
            return []
        there = writing.remove_holds(sql, [one.hold_id for one in settles if one.has_row])
        now = clock.now()
        entries = []
        changes: list[Change] = []
        for one in settles:
            one.is_late = one.has_row and one.hold_id not in there
            if one.is_late:
                continue
            made = writing.entries_of(one.held, one.parts, one.would_refuse, now)
            entries += made
            one.changes = [change for entry in made for change in entry.changes]
            one.changes += [
                Change(take.key, take.reserved, 0, take.ends_at) for take in _given_back(one)
            ]
            changes += one.changes
        late = [one for one in settles if one.is_late]
        if late:
            found = _late_entries(late, now)
            entries += [entry for _, entry in found]
            for one, entry in found:
                one.changes = entry.changes
                changes += entry.changes
        writing.append(sql, entries)
        if place.is_cache:
            # Reservations are Redis's; what is settled is in the rows as well.
            changes = [Change(one.key, 0, one.settled, one.ends_at) for one in changes]
        return changes

    def _write_holds(self, sql: DirectSQL, begins: list[Begin]) -> None:
        new = []
        for one in begins:
            if one.decision is not None and one.decision.refused is not None:
                continue
            if one.extends:
                writing.replace_facts(sql, one.hold_id, one.held)
            elif one.has_row:
                new.append((one.hold_id, one.held))
        if new:
            writing.insert_holds(sql, new, self.process_id)


def _given_back(one: Settle) -> Sequence[HeldTake]:
    """Takes that no part settles."""
    unsure: Sequence[HeldTake] = ()
    is_granted = False
    if one.unsure is not None:
        begin, unsure = one.unsure
        is_granted = begin.decision is not None and begin.decision.refused is None
    if one.parts:
        return unsure if is_granted else ()
    if is_granted:
        return one.held.takes
    return one.held.takes[: len(one.held.takes) - len(unsure)]


def _late_entries(late: list[Settle], now: datetime) -> list[tuple[Settle, writing.Entry]]:
    """A hold that somebody else settled, since its process seemed dead, and whose request did end
    after all: the difference is a correction. One that was settled properly stays as it is."""
    presumed = {
        event.request_id: event
        for event in UsageEvent.objects.filter(
            request_id__in=[one.held.request_id for one in late],
            entry=UsageEvent.Entry.PRESUMED,
            part=0,
        )
    }
    corrected = set(
        UsageEvent.objects.filter(
            request_id__in=list(presumed), entry=UsageEvent.Entry.CORRECTION
        ).values_list("request_id", flat=True)
    )
    found = []
    for one in late:
        event = presumed.get(one.held.request_id)
        if event is None or one.held.request_id in corrected or not one.parts:
            continue
        found.append((one, replacing(event, one.held, one.parts[-1], now=now)))
    return found


def _is_alive() -> bool:
    try:
        connection.ensure_connection()
        return connection.is_usable()
    except DatabaseError:
        return False
