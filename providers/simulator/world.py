"""All state of one simulation: seed, clock, what arrived, what was wrong with it."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from controlplane.kit.json import JSONDict
from providers.simulator.connection import wait
from providers.simulator.http import Request

MAX_RECORDS: Final = 10_000
# All bodies kept together: a load test must not fill the memory.
MAX_RECORDED_BYTES: Final = 64 * 1024 * 1024
MAX_RECORDED_BODY: Final = 65_536
_SECRET_HEADERS: Final = frozenset(
    {
        "authorization",
        "proxy-authorization",
        "x-api-key",
        "api-key",
        "x-goog-api-key",
        "x-amz-security-token",
        "cookie",
        "cf-aig-authorization",
    }
)
# Fields of logins and exchanges whose values are secrets.
_SECRET_FIELD: Final = re.compile(
    r'("(?:access_?token|refresh_?token|client_?secret|id_?token|device_?code|code|code_?verifier'
    r'|password|api_?key|device_auth_id|token)"\s*:\s*")[^"]*(")',
    re.IGNORECASE,
)
_SECRET_PAIR: Final = re.compile(
    r"((?:access_token|refresh_token|client_secret|id_token|device_code|code|code_verifier"
    r"|password|key|token)=)[^&\s]*",
    re.IGNORECASE,
)


@dataclass(slots=True)
class Recorded:
    """What arrived, secrets masked. The body is masked when it is asked for: under load nobody
    asks."""

    number: int
    at: datetime
    vendor: str
    method: str
    path: str
    query: str
    headers: dict[str, str]
    raw: bytes = field(default=b"", repr=False)

    @property
    def body(self) -> str:
        text = _SECRET_FIELD.sub(r"\1…\2", self.raw.decode("utf-8", "replace"))
        if "=" in text and not text.startswith("{"):
            text = _SECRET_PAIR.sub(r"\1…", text)
        return text

    def shown(self) -> JSONDict:
        return {
            "number": self.number,
            "at": self.at,
            "vendor": self.vendor,
            "method": self.method,
            "path": self.path,
            "query": self.query,
            "headers": self.headers,
            "body": self.body,
        }


@dataclass(frozen=True, slots=True)
class Violation:
    """A request that the real vendor would refuse, or must never receive."""

    at: datetime
    vendor: str
    rule: str
    detail: str


@lru_cache(maxsize=256)
def masked(text: str) -> str:
    """Enough of a secret to tell two apart, never enough to use one."""
    return f"…{hashlib.sha256(text.encode()).hexdigest()[:8]}"


@dataclass(slots=True)
class World:
    """Deterministic: ids, texts and tokens derive from `seed` and a counter. The clock runs
    with the machine's until it is set; `advance` moves it without waiting."""

    seed: str = "sim"
    frozen_at: datetime | None = None
    skew: timedelta = timedelta()
    # A running clock may start elsewhere and run faster than the machine's: a day in an hour.
    speed: float = 1.0
    started_at: datetime | None = None
    # Requests that have not been answered to their end yet.
    answering: int = 0
    requests: deque[Recorded] = field(default_factory=deque)
    violations: deque[Violation] = field(default_factory=lambda: deque(maxlen=MAX_RECORDS))
    counters: dict[str, int] = field(default_factory=dict)
    # What other parts of the simulation keep: one entry per part, made on first use.
    parts: dict[str, Any] = field(default_factory=dict)
    _recorded_bytes: int = 0

    def now(self) -> datetime:
        if self.frozen_at is not None:
            return self.frozen_at + self.skew
        machine = datetime.now(UTC)
        if self.started_at is not None:
            machine = self.started_at + (machine - self.started_at) * self.speed
        return machine + self.skew

    def set_clock(self, at: datetime | None) -> None:
        """Freeze at a moment, or let the machine's clock run again (None)."""
        self.frozen_at = at
        self.skew = timedelta()
        self.speed, self.started_at = 1.0, None

    def run_clock(self, at: datetime | None, speed: float = 1.0) -> None:
        """Let the clock run from a moment (None = now), `speed` simulated seconds a second."""
        started_at = datetime.now(UTC)
        self.frozen_at = None
        self.speed, self.started_at = speed, started_at
        self.skew = (at or started_at) - started_at

    def advance(self, seconds: float) -> None:
        """Raises ValueError beyond the calendar's ends, and then changes nothing."""
        try:
            step = timedelta(seconds=seconds)
            # A margin, because others add hours and days to the time.
            _ = self.now() + step + timedelta(days=3660) - timedelta(days=7320)
        except OverflowError:
            raise ValueError(f"no calendar reaches {seconds} seconds from now") from None
        self.skew += step

    def count(self, kind: str) -> int:
        """1, 2, 3 … per kind."""
        number = self.counters.get(kind, 0) + 1
        self.counters[kind] = number
        return number

    def token(self, kind: str, length: int = 32) -> str:
        """The next token of a kind: looks random, is the same in every run of this seed."""
        return self.digest(kind, self.count(kind), length)

    def digest(self, kind: str, number: int, length: int = 32) -> str:
        raw = hashlib.sha256(f"{self.seed}/{kind}/{number}".encode()).hexdigest()
        while len(raw) < length:
            raw += hashlib.sha256(raw.encode()).hexdigest()
        return raw[:length]

    def record(self, request: Request, vendor: str) -> None:
        headers = dict(request.headers)
        for name in _SECRET_HEADERS.intersection(headers):
            headers[name] = masked(headers[name])
        query = request.query_string
        kept = Recorded(
            number=self.count("request"),
            at=self.now(),
            vendor=vendor,
            method=request.method,
            path=request.path,
            query=_SECRET_PAIR.sub(r"\1…", query) if query else "",
            headers=headers,
            raw=request.body[:MAX_RECORDED_BODY],
        )
        if not self.requests:
            self._recorded_bytes = 0
        self.requests.append(kept)
        self._recorded_bytes += len(kept.raw)
        while len(self.requests) > MAX_RECORDS or self._recorded_bytes > MAX_RECORDED_BYTES:
            self._recorded_bytes -= len(self.requests.popleft().raw)

    def violation(self, vendor: str, rule: str, detail: str) -> None:
        self.violations.append(Violation(self.now(), vendor, rule, detail))

    async def pause(self, seconds: float) -> None:
        """A vendor taking its time. A frozen clock moves on instead of waiting."""
        if self.frozen_at is not None:
            self.advance(seconds)
            await asyncio.sleep(0)
        else:
            await wait(seconds)

    def reset(self) -> None:
        self.requests.clear()
        self._recorded_bytes = 0
        self.violations.clear()
        self.counters.clear()
        self.parts.clear()
        self.set_clock(None)
