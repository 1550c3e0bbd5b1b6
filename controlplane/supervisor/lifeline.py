"""A child dies with its parent, also when the parent is killed and can say nothing."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NAME: Final = 15
_POLL_SECONDS: Final = 1.0


def die_with(parent: int) -> None:
    """Call first thing in a forked child, with the process id of the one that forked it."""
    if sys.platform == "linux":
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        threading.Thread(target=_watch, args=(parent,), name="lifeline", daemon=True).start()
    if os.getppid() != parent:
        # It died before we asked to be told.
        os.kill(os.getpid(), signal.SIGKILL)


def name_process(name: str) -> None:
    """What `ps -o comm` and `top` show, where the system lets us (15 characters)."""
    if sys.platform == "linux":
        _prctl(_PR_SET_NAME, ctypes.c_char_p(name.encode()[:15]))


def _prctl(option: int, value: int | ctypes.c_char_p) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl failed")


def _watch(parent: int) -> None:
    """Elsewhere: an orphan gets another parent, which shows within a second."""
    while os.getppid() == parent:
        threading.Event().wait(_POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)
