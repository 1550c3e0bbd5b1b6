"""The secrets of a new installation: random, one file each, for the owner's eyes only.

Django's settings need them before anything can be looked at, and whether they may be made
depends on what the database holds. So values are first lent to this process alone, and written
once it is known that nothing was made with others.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from controlplane.first_run.errors import CannotStart
from controlplane.settings import env, paths

_lent: dict[str, str] = {}


def lend() -> None:
    """Gives this process a value for every secret that nobody has set. Writes nothing."""
    for name, file in paths.MADE_AT_FIRST_START.items():
        if not env.has_secret(name) and not file.exists():
            _lent[name] = secrets.token_urlsafe(48)
            env.lend(name, _lent[name])


def missing() -> list[Path]:
    """The files of the secrets that are lent and not yet written."""
    return [paths.MADE_AT_FIRST_START[name] for name in _lent]


def write() -> None:
    """Writes what was lent; from then on every process reads the files."""
    while _lent:
        name, value = next(iter(_lent.items()))
        write_new(paths.MADE_AT_FIRST_START[name], value + "\n")
        del _lent[name]
        env.take_back(name)


def write_new(path: Path, text: str) -> None:
    """The whole file or none, mode 0600 from the first byte. Raises CannotStart."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            # A link fails where a rename would overwrite: two first starts make one secret.
            os.link(temporary, path)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()
    except OSError as error:
        reason = error.strerror or str(error)
        raise CannotStart(f"{path} cannot be written: {reason}. Mend that, start again.") from None
