"""Usage while the database is away: kept in a file beside the gateway, written to the ledger later.

The metering thread asks `is_away` before each group. While it is true, `keep` takes requests that
no limit binds and every settlement: they count as committed once they are on the disk. Nobody is
let in whom a limit could refuse, since nobody can say what is left of it. A keeper thread tells
when the database is back: then the metering thread moves what is still open into rows, and goes on
as before. The file is the keeper's from then on: it writes what is in it to the ledger, once.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec
from django.db import DatabaseError, connection, connections

from controlplane.kit.errors import GatewayError
from controlplane.kit.ids import uuid7
from tenants.quotas.errors import LedgerUnavailable
from tenants.usage.group import Begin, Group, Operation, Settle
from tenants.usage.journal import file, records, replay
from tenants.usage.journal.records import Begun, Ended, Line, Returned
from tenants.usage.outcome import Held
from tenants.vault.file_keys import FileKey, make_file_key

log = logging.getLogger(__name__)

# Wrapping keys are dropped ten minutes after they went out of use (tenants/vault/ring.py).
_KEY_SECONDS: Final = 300.0
_LOOK_SECONDS: Final = 0.5
_IDLE_SECONDS: Final = 5.0
# After a journal that could not be written to the ledger.
_REPLAY_AGAIN_SECONDS: Final = 30.0
# How much more than new requests the settlements of running ones may take.
_ROOM_TO_END: Final = 1.25


class Journal:
    """One per process. `keep` and `come_back` in the metering thread."""

    def __init__(
        self, folder: Path, most_bytes: int, process_id: uuid.UUID, wake: Callable[[], None]
    ) -> None:
        """`wake` is called when the database is back."""
        self.is_away = False
        self.is_back = False
        self._folder = folder
        self._most_bytes = most_bytes
        self._process_id = process_id
        self._wake = wake
        self._file: file.JournalFile | None = None
        self._beside_bytes = 0
        # Let in by the journal, not ended yet: what must become a row when the database is back.
        self._open: dict[uuid.UUID, Begun] = {}
        self._key: FileKey | None = None
        self._key_at = float("-inf")
        self._replay_at = float("-inf")
        self._stopped = threading.Event()
        self._woken = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def is_full(self) -> bool:
        return self.is_away and self._most_bytes > 0 and not self._has_room(1.0)

    def start(self) -> None:
        self._stopped.clear()
        self._thread = threading.Thread(target=self._keep_watch, name="journal", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """In the metering thread, at its end. The file waits for whoever starts next."""
        self._stopped.set()
        self._woken.set()
        if self._thread is not None:
            self._thread.join(5.0)
            self._thread = None
        self._close()

    def leave(self, why: object) -> None:
        """The database did not answer."""
        if not self.is_away:
            log.warning("The database does not take usage: %s", why)
        self.is_away, self.is_back = True, False
        self._woken.set()

    def keep(self, operations: Sequence[Operation], *, was_tried: bool) -> list[Settle]:
        """Decides new requests, and writes down what happened; the settlements that found no room
        here. `was_tried`: perhaps the database has taken them, and did not get to say so."""
        lines: list[Line] = []
        begun: list[tuple[Begin, Begun]] = []
        left: list[Settle] = []
        for one in operations:
            if isinstance(one, Settle):
                ended = _ended(one)
                if ended is None or not self._has_room(_ROOM_TO_END):
                    left.append(one)
                else:
                    lines.append(ended)
                continue
            if was_tried and not one.extends:
                # Were it committed, nobody would ever end it.
                lines.append(Ended(one.hold_id, _copy(one), [], "", [], has_row=True))
                one.hold_id = uuid7()
            one.error = self._refusal(one)
            if one.error is None:
                held_back = _unreserved(one)
                if not one.extends:
                    begun.append((one, held_back))
                    lines.append(held_back)
        if lines and not self._write(lines):
            for begin, _ in begun:
                begin.error = _unavailable()
            return [one for one in operations if isinstance(one, Settle)]
        self._open.update((line.hold_id, line) for _, line in begun)
        for line in lines:
            if isinstance(line, Ended):
                self._open.pop(line.hold_id, None)
        return left

    def come_back(self, group: Group) -> None:
        """Holds what is still open in the database. Raises DatabaseAway."""
        begins = [records.begin_of(line) for line in self._open.values()]
        failed = {one.hold_id for one in replay.begin_again(group, begins)}
        self.is_away = self.is_back = False
        if self._file is not None:
            # Without it, what is open here would be held once more.
            self._write([Returned([one for one in self._open if one not in failed])])
            self._close()
        self._open.clear()
        log.info("Usage is recorded again.")
        self._replay_at = float("-inf")
        self._woken.set()

    def _refusal(self, begin: Begin) -> LedgerUnavailable | None:
        if any(take.is_enforced for take in begin.takes):
            return LedgerUnavailable(
                "What is left of your limits cannot be counted at the moment: try again soon.",
                retry_after=5.0,
            )
        if begin.extends:
            return None
        return None if self._has_room(1.0) else _unavailable()

    def _has_room(self, share: float) -> bool:
        size = 0 if self._file is None else self._file.size
        return self._beside_bytes + size < self._most_bytes * share

    def _write(self, lines: Sequence[Line]) -> bool:
        try:
            if self._file is None:
                if self._key is None:
                    return False
                # The next one gets a key of its own.
                key, self._key, self._key_at = self._key, None, float("-inf")
                self._woken.set()
                _, self._beside_bytes = file.waiting_in(self._folder)
                self._file = file.JournalFile(self._folder, key, self._process_id)
            self._file.append(records.encode(lines))
        except OSError as error:
            log.error("The usage journal in %s cannot be written: %s", self._folder, error)
            return False
        return True

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _keep_watch(self) -> None:
        try:
            while not self._stopped.is_set():
                self._woken.clear()
                try:
                    self._look_after()
                except Exception:  # the thread must live on: nobody else notices that it is back
                    log.exception("The usage journal could not be looked after.")
                self._woken.wait(_LOOK_SECONDS if self.is_away else _IDLE_SECONDS)
        finally:
            connections.close_all()

    def _look_after(self) -> None:
        now = time.monotonic()
        if self._most_bytes and now - self._key_at >= _KEY_SECONDS:
            try:
                # Better told now than when the database is away.
                file.check_folder(self._folder)
                self._key = make_file_key()
                self._key_at = now
            except (GatewayError, OSError) as error:
                log.warning("Usage could not be kept in a journal now: %s", error)
                self._key_at = now - _KEY_SECONDS + _REPLAY_AGAIN_SECONDS
        if self.is_away:
            if not self.is_back and _answers():
                self.is_back = True
                self._wake()
        elif now >= self._replay_at:
            is_done = replay.write_all(self._folder)
            self._replay_at = now + (0 if is_done else _REPLAY_AGAIN_SECONDS)


def _answers() -> bool:
    connection.close()
    try:
        connection.ensure_connection()
        return connection.is_usable()
    except DatabaseError:
        return False


def _unavailable() -> LedgerUnavailable:
    return LedgerUnavailable(
        "Usage cannot be recorded at the moment: try again soon.", retry_after=5.0
    )


def _ended(settle: Settle) -> Ended | None:
    try:
        line = records.ended(settle)
        records.encode([line])
    except (ValueError, TypeError, OverflowError):
        # It waits in memory, and fails when its turn comes, as it would have without a journal.
        log.exception("A settlement does not fit a journal.")
        return None
    return line


def _copy(begin: Begin) -> Held:
    return msgspec.structs.replace(begin.held, takes=list(begin.held.takes))


def _unreserved(begin: Begin) -> Begun:
    """Nothing is reserved in the counters of a request that they did not see: limits that only
    watch learn of it when it is settled."""
    held = begin.held
    first = len(held.takes) - len(begin.takes)
    held.takes = [
        *held.takes[:first],
        *(msgspec.structs.replace(take, reserved=0) for take in held.takes[first:]),
    ]
    begin.decision = None
    return Begun(begin.hold_id, held)
