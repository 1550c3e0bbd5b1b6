"""A progress bar for long commands: on a terminal a bar, in a log a line now and then."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Final, Self, TextIO

_BAR_WIDTH: Final = 30
_TERMINAL_SECONDS: Final = 0.1
_LOG_SECONDS: Final = 10.0


class Progress:
    """with Progress("Sealing", total) as progress: progress(1) after each piece of work.

    The total may be off: rows come and go while the command runs.
    """

    def __init__(self, what: str, total: int, stream: TextIO | None = None) -> None:
        self._what = what
        self._total = total
        self._stream = sys.stderr if stream is None else stream
        self._is_terminal = self._stream.isatty()
        self._done = 0
        self._began_at = time.monotonic()
        self._shown_at = self._began_at

    def __enter__(self) -> Self:
        if self._is_terminal:
            self._show()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._is_terminal:
            self._show()
            self._stream.write("\n")
        elif self._shown_at != self._began_at:
            self._show()
        self._stream.flush()

    def __call__(self, count: int) -> None:
        self._done += count
        now = time.monotonic()
        if now - self._shown_at >= (_TERMINAL_SECONDS if self._is_terminal else _LOG_SECONDS):
            self._shown_at = now
            self._show()

    def _show(self) -> None:
        self._stream.write(("\r" + self.text()) if self._is_terminal else (self.text() + "\n"))
        self._stream.flush()

    def text(self) -> str:
        done, total = self._done, max(self._total, self._done)
        share = done / total if total else 1.0
        full = int(share * _BAR_WIDTH)
        seconds = time.monotonic() - self._began_at
        left = f", {(total - done) * seconds / done:.0f} s left" if 0 < done < total else ""
        bar = "█" * full + "░" * (_BAR_WIDTH - full)
        return f"{self._what} {bar} {share:4.0%}  {done:,} of {total:,}, {seconds:.0f} s{left}   "
