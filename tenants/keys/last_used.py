"""When keys were last used: noted in memory for each request, written for many keys at once."""

from __future__ import annotations

import uuid
from collections import defaultdict
from datetime import datetime
from typing import Final

from django.db.models import Q

from tenants import scope
from tenants.keys.models import ApiKey

# Times are kept to this step, so that keys used together share one UPDATE.
_STEP_SECONDS: Final = 10
# Below SQLite's and PostgreSQL's limits on parameters.
_BATCH: Final = 500


FLUSH_SECONDS: Final = 15.0


class LastUsed:
    def __init__(self) -> None:
        self._noted: dict[uuid.UUID, datetime] = {}
        self._flushed_at = 0.0

    def note(self, key_id: uuid.UUID, now: datetime) -> None:
        self._noted[key_id] = now

    def flush_if_due(self, monotonic_now: float) -> int:
        if monotonic_now - self._flushed_at < FLUSH_SECONDS:
            return 0
        # Set first: a database that refuses is asked again at the next turn, not at once.
        self._flushed_at = monotonic_now
        return self.flush()

    def flush(self) -> int:
        """Writes what was noted since the last call; how many keys. Blocks: call it in a thread.

        A time never moves backwards, whichever process writes last. If the database refuses,
        the notes are kept for the next call, and the error is the caller's."""
        noted, self._noted = self._noted, {}
        if not noted:
            return 0
        by_time: dict[datetime, list[uuid.UUID]] = defaultdict(list)
        for key_id, used_at in noted.items():
            second = used_at.second - used_at.second % _STEP_SECONDS
            by_time[used_at.replace(second=second, microsecond=0)].append(key_id)
        try:
            with scope.platform("last use of keys"):
                for used_at, ids in by_time.items():
                    earlier = Q(last_used_at=None) | Q(last_used_at__lt=used_at)
                    for start in range(0, len(ids), _BATCH):
                        batch = ids[start : start + _BATCH]
                        ApiKey.objects.filter(earlier, pk__in=batch).update(last_used_at=used_at)
        except Exception:
            self._noted = noted | self._noted
            raise
        return len(noted)
