"""Where counters are kept now, and how they move between the database and Redis.

The database alone decides where: one row names the epoch and the place. Whoever counts reads that
row shared, in the transaction that commits the hold or its settlement; whoever moves the counters
locks it alone, so that no count is ever between two places. A grant of Redis is worth something
only when the transaction that writes its hold still meets the epoch it was granted in. So a Redis
that dies, restarts empty or comes back old over-admits nothing: its grants without a committed
hold are void, and all others are counted again from the rows.
"""

from __future__ import annotations

import logging
import secrets
import time
from dataclasses import dataclass
from typing import Final

from django.db import transaction
from django.db.models import F

from tenants.direct_sql import DirectSQL
from tenants.quotas.database_store import DatabaseStore
from tenants.quotas.models import Counter, CounterState
from tenants.quotas.redis_store import RedisStore
from tenants.quotas.store import StoreAway
from tenants.usage.models import Hold
from tenants.usage.writing import read_held

log = logging.getLogger(__name__)

_LOOK: Final = "SELECT epoch, is_shared_cache FROM tenants_counterstate WHERE id = 1"
_MAKE: Final = (
    "INSERT INTO tenants_counterstate (id, epoch, is_shared_cache) VALUES (1, %s, false)"
    " ON CONFLICT (id) DO NOTHING"
)
_LOOK_SHARED: Final = f"{_LOOK} FOR SHARE"


@dataclass(frozen=True, slots=True)
class Place:
    epoch: str
    is_cache: bool


class Counting:
    """What one process knows of the place. All calls in the platform scope."""

    def __init__(self, redis_url: str = "") -> None:
        self.database = DatabaseStore()
        self.cache = RedisStore(redis_url) if redis_url else None
        self.place: Place | None = None

    def current(self, sql: DirectSQL | None = None) -> Place:
        """The place as last seen; asks when nobody has yet."""
        return self.place or self.look(sql or DirectSQL())

    def look(self, sql: DirectSQL) -> Place:
        """Reads the place, shared until the caller's transaction ends."""
        rows = sql.rows(_LOOK_SHARED if sql.is_postgresql else _LOOK)
        if not rows:
            sql.change(_MAKE, [_new_epoch()])
            return self.look(sql)
        epoch, is_cache = rows[0]
        return self._adopt(Place(epoch, bool(is_cache)))

    def move_to_database(self, *, epoch: str | None = None) -> Place:
        """Counts all reservations anew from the open holds and counts in the database from then
        on. With `epoch`, only if that is still the one: of many who notice, one moves."""
        with transaction.atomic():
            state = self._lock()
            if epoch is not None and state.epoch != epoch:
                return self._adopt(Place(state.epoch, state.is_shared_cache))
            reserved: dict[str, list[int]] = {}
            for facts in Hold.objects.values_list("facts", flat=True).iterator(chunk_size=2000):
                for take in read_held(facts).takes:
                    row = reserved.setdefault(take.key, [0, take.ends_at])
                    row[0] += take.reserved
            Counter.objects.exclude(reserved=0).update(reserved=0)
            # Set, never added: who does this twice gets the same.
            Counter.objects.bulk_create(
                [
                    Counter(key=key, reserved=amount, ends_at=ends_at)
                    for key, (amount, ends_at) in sorted(reserved.items())
                ],
                update_conflicts=True,
                unique_fields=["key"],
                update_fields=["reserved"],
            )
            place = Place(_new_epoch(), is_cache=False)
            self._save(place)
        log.info("Limits are counted in the database.")
        return self._adopt(place)

    def move_to_cache(self) -> bool:
        """Seeds Redis with what the database holds, and counts there. False: Redis is away."""
        if self.cache is None or not self.cache.is_there():
            return False
        with transaction.atomic():
            state = self._lock()
            if state.is_shared_cache:
                self._adopt(Place(state.epoch, is_cache=True))
                return True
            place = Place(_new_epoch(), is_cache=True)
            live = Counter.objects.filter(ends_at__gt=int(time.time()))
            used = live.annotate(total=F("settled") + F("reserved") + F("opening"))
            try:
                self.cache.seed(place.epoch, used.values_list("key", "total", "ends_at"))
            except StoreAway:
                return False
            # From here on reservations live in Redis and in the holds.
            Counter.objects.exclude(reserved=0).update(reserved=0)
            self._save(place)
        log.info("Limits are counted in Redis.")
        self._adopt(place)
        return True

    def close(self) -> None:
        if self.cache is not None:
            self.cache.close()

    def _lock(self) -> CounterState:
        found = CounterState.objects.select_for_update().filter(pk=1).first()
        if found is None:
            CounterState.objects.bulk_create(
                [CounterState(id=1, epoch=_new_epoch())], ignore_conflicts=True
            )
            found = CounterState.objects.select_for_update().get(pk=1)
        return found

    def _save(self, place: Place) -> None:
        CounterState.objects.filter(pk=1).update(epoch=place.epoch, is_shared_cache=place.is_cache)

    def _adopt(self, place: Place) -> Place:
        if place != self.place:
            # Counters may have been pruned under another place.
            self.database.forget()
        if self.cache is not None and place.is_cache:
            self.cache.epoch = place.epoch
        self.place = place
        return place


def _new_epoch() -> str:
    return secrets.token_hex(16)
