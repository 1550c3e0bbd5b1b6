"""How a child tells the supervisor that it works: one byte in a pipe.

A byte is written where the work is done (in the gateway's event loop, in a job's thread), so
that a process which merely exists falls silent. The pipe asks nothing of the database: when that
is away, running streams must not be cut by a restart.
"""

from __future__ import annotations

import os
import signal

_fd: int | None = None


def write_to(fd: int) -> None:
    """Called by the supervisor in a fresh child; grandchildren inherit it."""
    global _fd
    os.set_blocking(fd, False)
    _fd = fd


def beat() -> None:
    """Nothing happens in a process that no supervisor started."""
    if _fd is None:
        return
    try:
        os.write(_fd, b".")
    except BlockingIOError:
        # The pipe is full: the supervisor is stopped, and will see what is in there.
        return
    except BrokenPipeError:
        # Nobody holds the other end: the supervisor is gone, so we go too.
        os.kill(os.getpid(), signal.SIGKILL)
