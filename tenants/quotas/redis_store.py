"""Counters in Redis or Valkey: one Lua script decides a batch of requests in one round trip.

What is there may vanish at any time. Every key belongs to an epoch, whose name the server must
know: one that restarted empty, or was seeded anew by somebody else, answers that the epoch is
stale, and nothing is taken.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tenants.quotas.policy import Decision, Take
from tenants.quotas.store import Change, StaleEpoch, StoreAway

# One hash slot, so that a script may touch them all.
PREFIX: Final = "{control-plane:quotas}:"
EPOCH_KEY: Final = PREFIX + "epoch"
# How long a process waits for the server before it asks the database instead.
_TIMEOUT_SECONDS: Final = 1.0
_STALE: Final = "STALE"
# Counters of an epoch that nobody uses any more go by themselves.
_LONGEST_KEPT_SECONDS: Final = 40 * 86_400
# Money per period beyond 2^53 nano-dollars (9 million dollars) is compared as a double.

_TAKE: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return redis.error_reply('STALE') end
local p = KEYS[2]
local at = 3
local answer = {}
for _ = 1, tonumber(ARGV[2]) do
  local n = tonumber(ARGV[at]); at = at + 1
  local refused = 0
  local first = at
  for i = 1, n do
    local key, amount, cap = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
    local enforced, reads = ARGV[at + 3], tonumber(ARGV[at + 5])
    local used = 0
    if reads == 0 then
      used = tonumber(redis.call('GET', p .. key) or '0')
    else
      for r = 1, reads do
        used = used + tonumber(redis.call('GET', p .. ARGV[at + 5 + r]) or '0')
      end
    end
    answer[#answer + 1] = string.format('%.0f', used)
    if enforced == '1' and refused == 0 then
      if used + amount > cap or (amount <= 0 and used >= cap) then refused = i end
    end
    at = at + 6 + reads
  end
  if refused == 0 then
    local t = first
    for _ = 1, n do
      if ARGV[t + 1] ~= '0' then
        redis.call('INCRBY', p .. ARGV[t], ARGV[t + 1])
        redis.call('EXPIREAT', p .. ARGV[t], ARGV[t + 4])
      end
      t = t + 6 + tonumber(ARGV[t + 5])
    end
  end
  answer[#answer + 1] = refused
end
return answer
"""
_SETTLE: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return redis.error_reply('STALE') end
local p = KEYS[2]
for at = 2, #ARGV, 3 do
  redis.call('INCRBY', p .. ARGV[at], ARGV[at + 1])
  redis.call('EXPIREAT', p .. ARGV[at], ARGV[at + 2])
end
return 1
"""

T = TypeVar("T")


class RedisStore:
    """One epoch's counters; `epoch` is set by whoever learns of a new one."""

    def __init__(self, url: str, epoch: str = "", *, now: Callable[[], float] = time.time) -> None:
        self.epoch = epoch
        self._now = now
        # Never a second try inside the client: a script that ran before its answer was lost
        # would take twice.
        self._client = redis.Redis.from_url(
            url,
            socket_timeout=_TIMEOUT_SECONDS,
            socket_connect_timeout=0.5,
            retry=Retry(NoBackoff(), 0),
        )
        self._take = self._client.register_script(_TAKE)
        self._settle = self._client.register_script(_SETTLE)

    def take(self, requests: Sequence[Sequence[Take]]) -> list[Decision]:
        latest = int(self._now()) + _LONGEST_KEPT_SECONDS
        arguments: list[Any] = [self.epoch, len(requests)]
        for takes in requests:
            arguments.append(len(takes))
            for take in takes:
                reads = take.reads if len(take.reads) > 1 else ()
                arguments += (
                    take.key,
                    take.amount,
                    take.cap,
                    1 if take.is_enforced else 0,
                    min(take.ends_at, latest),
                    len(reads),
                    *reads,
                )
        answer = iter(self._ask(lambda: self._take(keys=self._keys(), args=arguments)))
        decisions = []
        for takes in requests:
            used = tuple(int(next(answer)) for _ in takes)
            refused = int(next(answer))
            decisions.append(Decision(used, refused - 1 if refused else None))
        return decisions

    def settle(self, changes: Sequence[Change]) -> None:
        latest = int(self._now()) + _LONGEST_KEPT_SECONDS
        summed: dict[str, list[int]] = {}
        for change in changes:
            row = summed.setdefault(change.key, [0, min(change.ends_at, latest)])
            row[0] += change.settled - change.reserved
        arguments: list[Any] = [self.epoch]
        for key, (delta, ends_at) in summed.items():
            if delta:
                arguments += (key, delta, ends_at)
        if len(arguments) > 1:
            self._ask(lambda: self._settle(keys=self._keys(), args=arguments))

    def used(self, keys: Sequence[str]) -> Mapping[str, int]:
        if not keys:
            return {}
        prefix = self._keys()[1]
        values = self._ask(lambda: self._client.mget([prefix + key for key in keys]))
        return {key: int(value or 0) for key, value in zip(keys, values, strict=True)}

    def seed(self, epoch: str, counters: Iterable[tuple[str, int, int]]) -> None:
        """Writes (key, used, ends_at) as a new epoch, whose name comes last: until then nobody
        can use it."""
        latest = int(self._now()) + _LONGEST_KEPT_SECONDS

        def write() -> None:
            pipe = self._client.pipeline(transaction=False)
            for key, used, ends_at in counters:
                pipe.set(f"{PREFIX}{epoch}:{key}", used, exat=min(ends_at, latest))
            pipe.execute()
            self._client.set(EPOCH_KEY, epoch)

        self._ask(write)
        self.epoch = epoch

    def is_there(self) -> bool:
        try:
            return bool(self._client.ping())
        except redis.RedisError:
            return False

    def close(self) -> None:
        self._client.close()

    def _keys(self) -> list[str]:
        return [EPOCH_KEY, f"{PREFIX}{self.epoch}:"]

    def _ask(self, question: Callable[[], T]) -> T:
        try:
            return question()
        except redis.ResponseError as error:
            if str(error).startswith(_STALE):
                raise StaleEpoch(self.epoch) from None
            raise StoreAway(str(error)) from error
        except redis.RedisError as error:
            raise StoreAway(str(error)) from error
