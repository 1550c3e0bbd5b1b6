"""A body that lies on the disk while it is looked at and sent on: memory holds a piece of it."""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterator
from typing import Final

PIECE: Final = 256 * 1024


class Spooled:
    """Without a name in any folder: closed, it is gone, also where the process dies."""

    __slots__ = ("_file", "_view", "size")

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  (lives as long as its request)
        self._view: mmap.mmap | None = None
        self.size = 0

    def write(self, piece: bytes) -> None:
        self._file.write(piece)
        self.size += len(piece)

    def view(self) -> bytes | mmap.mmap:
        """To search and cut. Nothing may be written any more."""
        if not self.size:
            return b""
        if self._view is None:
            self._file.flush()
            self._view = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._view

    def pieces(self) -> Iterator[bytes]:
        view = self.view()
        for start in range(0, self.size, PIECE):
            yield view[start : start + PIECE]

    def close(self) -> None:
        if self._view is not None:
            self._view.close()
            self._view = None
        self._file.close()
