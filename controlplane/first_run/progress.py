"""What a person sees while something is prepared: a line for each step."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


class Progress:
    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._is_live = out.isatty()

    @contextmanager
    def step(self, sentence: str) -> Iterator[None]:
        """Announces the step on a terminal, and says when it is done how long it took."""
        if self._is_live:
            self._write(f"  … {sentence}")
        began = time.monotonic()
        try:
            yield
        except BaseException:
            self._write("\n" if self._is_live else f"  ✗ {sentence}\n")
            raise
        self.done(f"{sentence} ({time.monotonic() - began:.1f} s)")

    def done(self, sentence: str) -> None:
        start = "\r" if self._is_live else ""
        self._write(f"{start}  ✓ {sentence}\n")

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()
