"""Which function runs which kind of job."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeVar

from django.utils.module_loading import autodiscover_modules

from controlplane.kit.jobs.errors import UnknownKind

# None: done. A datetime: well so far, run me again then.
Outcome = datetime | None
Run = Callable[..., Outcome]
RunT = TypeVar("RunT", bound=Run)

RECURRING_KEY: Final = "recurring"
DEFAULT_LEASE: Final = timedelta(seconds=60)
DEFAULT_MAX_ATTEMPTS: Final = 12


@dataclass(frozen=True, slots=True)
class Handler:
    kind: str
    run: Run
    lease: timedelta
    max_attempts: int
    every: timedelta | None


_handlers: dict[str, Handler] = {}
_load_lock = threading.Lock()
_is_loaded = False


def handler(
    kind: str,
    *,
    every: timedelta | None = None,
    lease: timedelta = DEFAULT_LEASE,
    max_attempts: int = DEFAULT_MAX_ATTEMPTS,
) -> Callable[[RunT], RunT]:
    """Register the decorated function for `kind`. It lives in some app's `tasks.py`.

    The function gets the job's args by keyword (plus `**_` for those a later version adds),
    must be harmless when run twice, and stays well under `lease`: long work goes in steps.
    It returns None when done, or the time at which to run the same job again; it raises
    `errors.GiveUp` when trying again is pointless; any other exception means a retry.

    `every` keeps one job of this kind (key "recurring") alive for ever; it runs at that pace
    unless the function returns its own time.
    """
    if not kind or len(kind) > 100:
        raise ValueError(f"A job's kind has 1 to 100 characters: {kind!r}.")
    if max_attempts < 1 or lease <= timedelta(0):
        raise ValueError(f"Job kind {kind!r} needs at least one attempt and a positive lease.")

    def register(run: RunT) -> RunT:
        known = _handlers.get(kind)
        if known is not None and known.run is not run:
            raise ValueError(f"Job kind {kind!r} has two handlers.")
        _handlers[kind] = Handler(kind, run, lease, max_attempts, every)
        return run

    return register


def find(kind: str) -> Handler:
    """The handler of `kind`. Raises UnknownKind."""
    try:
        return loaded()[kind]
    except KeyError:
        raise UnknownKind(
            f"No handler for job kind {kind!r}: register one in the tasks.py of an installed app."
        ) from None


def loaded() -> dict[str, Handler]:
    """All handlers. Imports every installed app's tasks.py at the first call."""
    global _is_loaded
    if not _is_loaded:
        with _load_lock:
            autodiscover_modules("tasks")
            _is_loaded = True
    return _handlers
