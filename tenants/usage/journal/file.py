"""One journal file: appended to and never changed, each record sealed for its place.

    8 bytes   what it is
    4 bytes   length of the header, then the header as JSON: process, key, who wrapped it
    4 bytes   length of a record, then the record, sealed; and so on

A record counts when it was flushed to the disk. A process that is killed while it appends leaves a
torn last record, of which nobody was told. The writer holds the file's lock for as long as it
lives: who gets the lock has a file whose writer is gone.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from tenants.vault.errors import CannotUnseal
from tenants.vault.file_keys import FileKey, open_file_key
from tenants.vault.wrapping.contract import Wrapped

SUFFIX: Final = ".journal"
_DAMAGED: Final = ".damaged"
_MAGIC: Final = b"PCPJRNL1"
_LENGTH_BYTES: Final = 4


class _Header(msgspec.Struct):
    process_id: uuid.UUID
    key_id: uuid.UUID
    wrapped_by: str
    wrapped: bytes


class JournalFile:
    """Being written. `append` returns when the record is on the disk."""

    def __init__(self, folder: Path, key: FileKey, process_id: uuid.UUID) -> None:
        """Raises OSError."""
        check_folder(folder)
        self.path = folder / f"{key.id.hex}{SUFFIX}"
        self._key = key
        self._records = 0
        self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self.size = 0
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            header = msgspec.json.encode(
                _Header(process_id, key.id, key.wrapped.wrapped_by, key.wrapped.blob)
            )
            self._write(_MAGIC + _framed(header))
            _flush_folder(folder)
        except OSError:
            self.close()
            raise

    def append(self, record: bytes) -> None:
        """Raises OSError; then the file is as it was before."""
        self._write(_framed(self._key.seal(self._records, record)))
        self._records += 1

    def close(self) -> None:
        """Gives the lock up: whoever comes may read it."""
        os.close(self._descriptor)

    def _write(self, content: bytes) -> None:
        try:
            left = memoryview(content)
            while left:
                left = left[os.write(self._descriptor, left) :]
            os.fsync(self._descriptor)
        except OSError:
            # What was written of it would be taken for the begin of the next record.
            os.ftruncate(self._descriptor, self.size)
            os.lseek(self._descriptor, self.size, os.SEEK_SET)
            raise
        self.size += len(content)


@dataclass(slots=True)
class Contents:
    process_id: uuid.UUID
    records: list[bytes] = field(default_factory=list)
    # Records that do not open, by place: altered on the disk, or put there by somebody else.
    damaged: list[int] = field(default_factory=list)


@contextlib.contextmanager
def abandoned(path: Path) -> Iterator[bool]:
    """Holds the lock of a file whose writer is gone; False while somebody else holds it, or when
    the file is no more."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        yield False
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        # Whoever had the lock before us may have removed it.
        yield os.fstat(descriptor).st_nlink > 0
    finally:
        os.close(descriptor)


def read(path: Path) -> Contents | None:
    """None when not even its header was written. Raises KeyRingProblem, KeyServiceUnavailable,
    CannotUnseal (no journal of ours) and OSError."""
    content = path.read_bytes()
    frames = _frames(content[len(_MAGIC) :])
    encoded = next(frames, None)
    if encoded is None and _MAGIC.startswith(content[: len(_MAGIC)]):
        return None
    try:
        header = msgspec.json.decode(encoded or b"", type=_Header)
    except msgspec.MsgspecError:
        raise CannotUnseal from None
    key = open_file_key(header.key_id, Wrapped(header.wrapped_by, header.wrapped))
    found = Contents(header.process_id)
    for place, sealed in enumerate(frames):
        try:
            found.records.append(key.unseal(place, sealed))
        except CannotUnseal:
            found.damaged.append(place)
    return found


def check_folder(folder: Path) -> None:
    """Makes it where it is missing. Raises OSError when nothing could be written there."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"{folder} cannot be written to: set USAGE_JOURNAL_FOLDER.")


def waiting_in(folder: Path) -> tuple[int, int]:
    """How many journals there are on this machine, damaged ones included, and their bytes."""
    sizes = []
    for path in [*folder.glob(f"*{SUFFIX}"), *folder.glob(f"*{_DAMAGED}")]:
        # Another process may have written it to the ledger at this moment.
        with contextlib.suppress(FileNotFoundError):
            sizes.append(path.stat().st_size)
    return len(sizes), sum(sizes)


def remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    _flush_folder(path.parent)


def set_aside(path: Path) -> Path:
    """Out of the way, for somebody to look at. Its new name."""
    aside = path.with_suffix(_DAMAGED)
    path.rename(aside)
    _flush_folder(path.parent)
    return aside


def _framed(content: bytes) -> bytes:
    return len(content).to_bytes(_LENGTH_BYTES, "big") + content


def _frames(content: bytes) -> Iterator[bytes]:
    """Up to the first that is not whole."""
    at = 0
    while len(content) - at > _LENGTH_BYTES:
        length = int.from_bytes(content[at : at + _LENGTH_BYTES], "big")
        at += _LENGTH_BYTES
        if not 0 < length <= len(content) - at:
            return
        yield content[at : at + length]
        at += length


def _flush_folder(folder: Path) -> None:
    """A new name, or one that is gone, is on the disk as well."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
