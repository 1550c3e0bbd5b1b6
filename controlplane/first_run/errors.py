"""Why a start is refused."""

from __future__ import annotations


class CannotStart(Exception):
    """One sentence that says what is wrong and what to do."""
