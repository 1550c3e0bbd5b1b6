"""A file that is either whole or not there, and that nobody but its owner reads."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from controlplane.backup.errors import BackupFailed


@contextmanager
def made_whole(target: Path) -> Iterator[Path]:
    """Yields a path in a folder beside `target`; moved to `target` when all went well, else gone.
    Raises BackupFailed where `target` is there: nothing is ever written over."""
    _refuse(target)
    try:
        # mkdtemp gives it to its owner alone; beside the target, so that moving is one step.
        with tempfile.TemporaryDirectory(prefix=".pcp-", dir=target.absolute().parent) as folder:
            part = Path(folder) / target.name
            yield part
            part.chmod(0o600)
            with part.open("rb") as file:
                os.fsync(file.fileno())
            _refuse(target)
            part.rename(target)
    except OSError as error:
        raise BackupFailed(f"{target}: {error.strerror}.") from None


def _refuse(target: Path) -> None:
    if target.exists():
        raise BackupFailed(f"{target} is there already: name another file, or move it away.")
