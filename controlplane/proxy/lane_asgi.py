"""The fast door: proxied paths are answered here, everything else by Django behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from django.conf import settings

from controlplane.kit.errors import GatewayError
from controlplane.logs import get_logger
from controlplane.proxy import pipeline
from controlplane.proxy.body import BoundedReceive, check_headers, check_length, read_body, spool
from controlplane.proxy.errors import BodyTooLarge, ClientGone, MethodNotAllowed, UnknownPath
from controlplane.proxy.exchange import Answer, Exchange
from controlplane.proxy.faults import INTERNAL, fault_of
from controlplane.proxy.refusing import refused
from controlplane.proxy.request_ids import new_request_id, offered
from controlplane.proxy.request_log import Line
from controlplane.proxy.routes import Match, match
from controlplane.proxy.silence import Beats
from controlplane.proxy.spooled import Spooled
from controlplane.proxy.state import GatewayState
from tenants.keys.address import caller_address

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
# Servers and Django type these three differently; what passes through is the same.
ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]

log = get_logger(__name__)

# After this long a request is worth a task that watches whether its caller hung up.
WATCH_AFTER_SECONDS: Final = 0.25
SIMULATOR_PREFIX: Final = "/simulator"


class ProxyApplication:
    """ASGI: lifespan, the proxied paths, and Django for the rest."""

    def __init__(self, django: ASGIApp, state: GatewayState) -> None:
        self._django = django
        self._state = state
        self._simulator: ASGIApp | None = None
        self._knows_itself = not settings.SIMULATOR
        if settings.SIMULATOR:
            from providers.simulator.app import SimulatorApplication

            self._simulator = SimulatorApplication(prefix=SIMULATOR_PREFIX)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] == "http":
            raw_path = scope.get("raw_path") or scope["path"].encode()
            found = match(scope["method"], raw_path.decode("latin-1"))
            if found is not None:
                if not self._knows_itself:
                    self._learn_own_address(scope)
                await self._answer(found, scope, receive, send)
                return
            if self._simulator is not None and scope["path"].startswith(SIMULATOR_PREFIX + "/"):
                await self._simulator(scope, receive, send)
                return
            await self._behind(scope, receive, send)
            return
        await self._django(scope, receive, send)

    async def _behind(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Django's paths, whose bodies it would read without a limit."""
        limit = self._state.body_limit
        bounded = BoundedReceive(receive, limit)
        try:
            check_length(scope["headers"], limit)
        except BodyTooLarge:
            bounded.is_over = True
        else:
            await self._django(scope, bounded, send)
        if bounded.is_over:
            answer = Answer(413, [(b"content-type", b"text/plain"), (b"connection", b"close")])
            answer.body = b"The body may hold at most %d bytes.\n" % limit
            await _send(answer, send)

    def _learn_own_address(self, scope: Scope) -> None:
        """The simulator is reached like any upstream, at the address we answer on ourselves."""
        self._knows_itself = True
        host, port = scope.get("server") or ("", None)
        if host and port:
            self._state.clients.allow_for_platform(
                f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            )

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    await self._state.start()
                except Exception as error:  # the server prints the sentence and stops
                    log.exception("gateway state did not start")
                    await send({"type": "lifespan.startup.failed", "message": str(error)})
                    return
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self._state.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _answer(self, found: Match, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = new_request_id()
        loop = asyncio.get_running_loop()
        started = loop.time()
        task = asyncio.current_task()
        assert task is not None
        watcher = _Watcher(receive, task)
        handle: asyncio.TimerHandle | None = None
        exchange: Exchange | None = None
        admission = self._state.admission
        is_admitted = False
        status = 499
        try:
            try:
                admission.enter()
                is_admitted = True
                exchange = await self._exchange(found, scope, receive, request_id)
                handle = loop.call_later(WATCH_AFTER_SECONDS, watcher.start)
                answer = await pipeline.serve(exchange, self._state)
            except GatewayError as error:
                answer = refused(found.dialect, fault_of(error), request_id)
                if isinstance(error, MethodNotAllowed):
                    answer.headers.append((b"allow", ", ".join(found.allowed).encode()))
            except ClientGone:
                return
            except Exception:
                log.exception("bug in the proxy", request_id=request_id)
                answer = refused(found.dialect, INTERNAL, request_id)
            await _send(answer, send, self._state.keep_alive_seconds)
            status = answer.status
        except GatewayError as error:
            # Too late to say so: the server closes the connection of an unfinished answer.
            log.warning("answer broken off", request_id=request_id, code=error.fault().code)
            status = 502
        except asyncio.CancelledError:
            if not watcher.is_gone:
                raise
            # The caller hung up and everything is closed: nothing is left to cancel.
            task.uncancel()
        finally:
            if is_admitted:
                admission.leave()
            if handle is not None:
                handle.cancel()
            watcher.stop()
            if exchange is not None and exchange.spooled is not None:
                exchange.spooled.close()
            self._state.request_log.note(
                _line(exchange, found, request_id, status, loop.time() - started)
            )

    async def _exchange(
        self, found: Match, scope: Scope, receive: Receive, request_id: str
    ) -> Exchange:
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        check_headers(headers)
        route = found.route
        if route is None:
            if found.allowed:
                raise MethodNotAllowed(
                    f"Use {' or '.join(found.allowed)} here, not {scope['method'][:20]}."
                )
            raise UnknownPath("This path does not exist. See /api/docs/ for those that do.")
        body = b""
        spooled: Spooled | None = None
        limit = self._state.limit_of(route)
        if route.is_spooled:
            spooled = await spool(receive, headers, limit)
        elif route.method == "POST":
            body = await read_body(receive, headers, limit)
        client = scope.get("client")
        return Exchange(
            route=route,
            request_id=request_id,
            method=scope["method"],
            path=scope["path"],
            query=scope.get("query_string", b""),
            headers=headers,
            address=caller_address(
                client[0] if client else "", headers, self._state.trusted_proxies
            ),
            body=body,
            spooled=spooled,
            model=found.model,
            stream=found.stream,
            offered_id=offered(headers),
        )


def _line(
    exchange: Exchange | None, found: Match, request_id: str, status: int, seconds: float
) -> Line:
    line = Line(
        request_id=request_id,
        route=found.route.name if found.route else "",
        status=status,
        milliseconds=round(seconds * 1000, 1),
    )
    if exchange is not None:
        line.client_request_id = exchange.offered_id
        line.tenant = exchange.tenant
        line.model = (exchange.model or "")[:200]
        line.served_by = exchange.served_by
        line.attempts = exchange.attempts
    return line


class _Watcher:
    """Cancels the request's task when its caller hangs up."""

    __slots__ = ("_receive", "_serving", "_task", "is_gone")

    def __init__(self, receive: Receive, serving: asyncio.Task[Any]) -> None:
        self._receive = receive
        self._serving = serving
        self._task: asyncio.Task[None] | None = None
        self.is_gone = False

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.is_gone = True
                self._serving.cancel()
                return

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()


async def _send(answer: Answer, send: Send, keep_alive_seconds: float = 0) -> None:
    if answer.stream is None:
        answer.headers.append((b"content-length", str(len(answer.body)).encode()))
        await send(
            {"type": "http.response.start", "status": answer.status, "headers": answer.headers}
        )
        await send({"type": "http.response.body", "body": answer.body})
        return
    stream = answer.stream
    start = {"type": "http.response.start", "status": answer.status, "headers": answer.headers}
    beats = Beats(send, answer.beat, keep_alive_seconds)
    try:
        # Inside: a caller who leaves at this very moment must not leave the provider's answer open.
        await send(start)
        async for data in stream:
            await beats.send(data)
        beats.stop()
        await send({"type": "http.response.body", "body": b""})
    finally:
        beats.stop()
        close = getattr(stream, "aclose", None)
        if close is not None:
            await close()
