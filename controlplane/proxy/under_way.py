"""Requests with an Idempotency-Key that this process answers at the moment, each in a task of its
own: who asks meanwhile joins it, and who leaves does not end it.

What is kept: every whole answer, and refusals of the provider that asking again would not change.
What failed, broke off or never left this machine is not: the key is free again, and a repetition
is a request of its own.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final

from django.conf import settings
from django.db import DatabaseError

from controlplane.kit import clock
from controlplane.kit.database_threads import database_threads
from controlplane.kit.errors import GatewayError
from controlplane.kit.secret import Secret
from controlplane.logs import get_logger
from controlplane.proxy import kept_outcome
from controlplane.proxy.errors import Overloaded
from controlplane.proxy.exchange import Answer, Exchange
from controlplane.proxy.faults import fault_of
from controlplane.proxy.kept_outcome import KeptOutcome
from controlplane.proxy.refusing import refused
from controlplane.proxy.shared_answer import Reader, SharedAnswer
from tenants.idempotency import claims
from tenants.idempotency.claims import Asked, Claim
from tenants.idempotency.errors import IdempotencyUnavailable, OutcomeTooLarge, RequestUnderWay

log = get_logger(__name__)

Serve = Callable[[], Awaitable[Answer]]

RENEW_SECONDS: Final = claims.LEASE.total_seconds() / 3
# How long one waits for an answer that another process is at, and how often it looks.
WAIT_SECONDS: Final = 20.0
_LOOK_FIRST: Final = 0.05
_LOOK_AT_LEAST: Final = 1.0
_PIECE: Final = 64 * 1024
# Asked again a moment later, these may end otherwise.
_MAY_CHANGE: Final = frozenset({401, 402, 403, 408, 409, 425, 429})


class Running:
    """One request, from the claim of its key to the row that keeps its outcome."""

    def __init__(self, under_way: UnderWay, asked: Asked, exchange: Exchange, serve: Serve) -> None:
        self.asked = asked
        self.exchange = exchange
        # Of the request whose outcome it is: an earlier one's where it was found.
        self.request_id = exchange.request_id
        self.is_recalled = False
        self.is_stream = False
        self._under_way = under_way
        self._serve = serve
        self._shared = SharedAnswer(under_way.limit_bytes, deserted=self._deserted)
        self._leaving: asyncio.TimerHandle | None = None
        self.task = asyncio.get_running_loop().create_task(self._run())

    def join(self) -> Reader:
        """Raises OutcomeTooLarge when the beginning is gone."""
        if self._shared.is_too_large:
            raise _too_large()
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None
        return self._shared.reader()

    def _deserted(self) -> None:
        """Nobody listens: it goes on to its end, for a while."""
        seconds = self._under_way.finish_seconds
        self._leaving = asyncio.get_running_loop().call_later(seconds, self.task.cancel)

    async def _run(self) -> None:
        try:
            found = await self._claimed()
            if isinstance(found, Claim):
                await self._act(found)
            else:
                self._recall(kept_outcome.read(found))
        except asyncio.CancelledError:
            self._shared.end(
                Overloaded(
                    "The request was broken off before its end. Send it again.",
                    retry_after_seconds=1,
                )
            )
        except GatewayError as error:
            self._shared.end(error)
        except Exception as error:  # whoever reads raises it; perhaps nobody does
            log.exception("bug in the proxy", request_id=self.request_id)
            self._shared.end(error)
        else:
            self._shared.end()
        finally:
            self._under_way.forget(self)
            if self._leaving is not None:
                self._leaving.cancel()

    async def _claimed(self) -> Claim | Secret:
        """Waits while another process is at it. Raises RequestUnderWay when that takes long."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._under_way.wait_seconds
        pause = _LOOK_FIRST
        while True:
            try:
                found = await database_threads.run(_claim, self.asked)
            except DatabaseError:
                log.warning("an idempotency key cannot be claimed now", exc_info=True)
                raise IdempotencyUnavailable(
                    "Nobody can tell now whether this request was answered before. Try again, or "
                    "send it without an Idempotency-Key.",
                    retry_after_seconds=1,
                ) from None
            if found is not None:
                return found
            if loop.time() >= until:
                raise RequestUnderWay(
                    "A request with this Idempotency-Key is still being answered. Send it again "
                    "in a moment.",
                    retry_after_seconds=5,
                )
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LOOK_AT_LEAST)

    def _recall(self, kept: KeptOutcome) -> None:
        if kept.content is None:
            raise _too_large()
        self.is_recalled = True
        self.request_id = kept.request_id
        content = zlib.decompress(kept.content)
        if not kept.is_stream:
            self._shared.begin(Answer(kept.status, kept.pairs(), content))
            return
        self.is_stream = True
        self._shared.begin(Answer(kept.status, kept.pairs()))
        for start in range(0, len(content), _PIECE):
            self._shared.add(content[start : start + _PIECE])

    async def _act(self, claim: Claim) -> None:
        renewing = asyncio.get_running_loop().create_task(_keep_renewing(claim))
        is_kept = False
        try:
            answer = await self._answered()
            if answer.stream is None:
                await self._keep(claim, answer, answer.body)
                is_kept = True
                self._shared.begin(answer)
            else:
                self.is_stream = True
                self._shared.begin(answer)
                is_kept = await self._streamed(claim, answer)
        finally:
            renewing.cancel()
            if not is_kept:
                await _release(claim)

    async def _answered(self) -> Answer:
        try:
            return await self._serve()
        except GatewayError as error:
            fault = fault_of(error)
            hold = self.exchange.hold
            if hold is None or not hold.was_sent:
                raise
            if fault.http_status >= 500 or fault.http_status in _MAY_CHANGE:
                raise
            answer = refused(self.exchange.route.dialect, fault, self.exchange.shown_id)
            answer.headers += hold.headers
            return answer

    async def _streamed(self, claim: Claim, answer: Answer) -> bool:
        """Whether it came to its end and is kept. The pieces that end it wait for that."""
        shared, stream = self._shared, answer.stream
        assert stream is not None
        last: list[bytes] = []
        try:
            async for piece in stream:
                if self.exchange.seen.is_whole:
                    last.append(piece)
                    continue
                shared.add(piece)
                await shared.room()
        finally:
            close = getattr(stream, "aclose", None)
            if close is not None:
                await close()
        is_whole = self.exchange.seen.is_whole
        if is_whole:
            await self._keep(claim, answer, None, last)
        for piece in last:
            shared.add(piece)
        return is_whole

    async def _keep(
        self, claim: Claim, answer: Answer, body: bytes | None, last: list[bytes] | None = None
    ) -> None:
        """Where it cannot be written the answer goes out all the same: after the lease a
        repetition is a request of its own."""
        content = body
        if content is None and not self._shared.is_too_large:
            content = b"".join([self._shared.content(), *(last or ())])
        if content is not None and len(content) > self._under_way.limit_bytes:
            content = None
        try:
            await database_threads.run(_finish, claim, answer, content, self.request_id)
        except (DatabaseError, GatewayError):
            log.exception("an outcome could not be kept", request_id=self.request_id)


class UnderWay:
    """All of one process, by the digest of their keys."""

    def __init__(self) -> None:
        self.limit_bytes: int = settings.IDEMPOTENCY_LIMIT_BYTES
        self.finish_seconds: float = settings.IDEMPOTENCY_FINISH_SECONDS
        self.wait_seconds = WAIT_SECONDS
        self._running: dict[bytes, Running] = {}

    def find(self, asked: Asked) -> Running | None:
        """Raises IdempotencyKeyReused."""
        running = self._running.get(asked.digest)
        if running is not None:
            running.asked.check_same(asked.request_digest)
        return running

    def begin(self, asked: Asked, exchange: Exchange, serve: Serve) -> Running:
        running = self._running[asked.digest] = Running(self, asked, exchange, serve)
        return running

    def forget(self, running: Running) -> None:
        if self._running.get(running.asked.digest) is running:
            del self._running[running.asked.digest]

    async def stop(self) -> None:
        """Whatever still runs has nobody who waits for it."""
        tasks = [running.task for running in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _claim(asked: Asked) -> Claim | Secret | None:
    return claims.claim(asked=asked, now=clock.now(), kept_for=_kept_for())


def _finish(claim: Claim, answer: Answer, content: bytes | None, request_id: str) -> None:
    outcome = KeptOutcome.of(answer, content, request_id).sealable()
    claims.finish(claim=claim, outcome=outcome, now=clock.now(), kept_for=_kept_for())


def _kept_for() -> timedelta:
    return timedelta(hours=settings.IDEMPOTENCY_HOURS)


async def _keep_renewing(claim: Claim) -> None:
    while True:
        await asyncio.sleep(RENEW_SECONDS)
        try:
            if not await database_threads.run(_renew, claim):
                return
        except DatabaseError:
            log.warning("a claim cannot be renewed now", exc_info=True)


def _renew(claim: Claim) -> bool:
    return claims.renew(claim=claim, now=clock.now())


async def _release(claim: Claim) -> None:
    try:
        await database_threads.run(_release_now, claim)
    except DatabaseError:
        log.warning("a claim could not be released: it ends by itself", exc_info=True)


def _release_now(claim: Claim) -> None:
    claims.release(claim=claim)


def _too_large() -> OutcomeTooLarge:
    return OutcomeTooLarge(
        "This request was answered before, and charged; its answer was too large to be given "
        "again. Use a new Idempotency-Key to ask, and pay, once more.",
        param="Idempotency-Key",
    )
