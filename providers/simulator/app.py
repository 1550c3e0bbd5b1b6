"""The simulation as an ASGI application: alone under a server, or mounted in the gateway."""

from __future__ import annotations

import asyncio
import importlib
import re
from collections import OrderedDict
from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

from controlplane.kit import json
from providers.simulator import control, faults
from providers.simulator.connection import CALLER, Receive, Send, Watcher, drop
from providers.simulator.http import Handler, Request, Response, json_response
from providers.simulator.scenarios import events
from providers.simulator.wire import Refused, Wire, WireRoute
from providers.simulator.wire.answer_headers import answer_headers
from providers.simulator.world import World

Scope = MutableMapping[str, Any]

MAX_BODY: Final = 64 * 1024 * 1024
MAX_CANS: Final = 256
# Vendor folder -> modules in wire/. The folder is the base URL of the simulated vendor.
WIRES: Final[dict[str, tuple[str, ...]]] = {
    "openai": ("openai_chat", "openai_responses", "openai_legacy", "openai_media"),
    "azure": ("azure",),
    "codex": ("codex",),
    "anthropic": ("anthropic",),
    "gemini": ("gemini",),
    "vertex": ("vertex",),
    "code-assist": ("code_assist",),
    "bedrock": ("bedrock",),
    "mistral": ("mistral",),
    "kiro": ("kiro",),
    "copilot": ("copilot",),
}


def _compiled(pattern: str) -> re.Pattern[str]:
    text = re.escape(pattern)
    text = re.sub(r"\\\{(\w+)\\\.\\\.\\\.\\\}", r"(?P<\1>.+)", text)
    text = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", text)
    return re.compile(text + r"\Z")


@dataclass(frozen=True, slots=True)
class _Mounted:
    """Either a wire's route, or a plain handler."""

    folder: str
    wire: Wire | None = None
    route: WireRoute | None = None
    handler: Handler | None = None


class SimulatorApplication:
    """ASGI. `prefix` is stripped from paths; everything is state of `world`."""

    def __init__(self, world: World | None = None, *, prefix: str = "") -> None:
        self.world = world or World()
        self._prefix = prefix
        # Paths without a parameter are looked up; the others are tried in turn.
        self._exact: dict[tuple[str, str], _Mounted] = {}
        self._patterns: list[tuple[str, re.Pattern[str], _Mounted]] = []
        for folder, modules in WIRES.items():
            for module in modules:
                for wire in importlib.import_module(f"providers.simulator.wire.{module}").WIRES:
                    for route in wire.routes:
                        mounted = _Mounted(folder, wire, route)
                        self._mount(route.method, f"/{folder}{route.pattern}", mounted)
        logins = importlib.import_module("providers.simulator.logins")
        for method, path, handler in logins.ROUTES:
            self._mount(method, path, _Mounted(path.split("/")[1], handler=handler))

    def _mount(self, method: str, pattern: str, mounted: _Mounted) -> None:
        if "{" in pattern or (mounted.route is not None and mounted.route.query):
            self._patterns.append((method, _compiled(pattern), mounted))
        else:
            self._exact.setdefault((method, pattern), mounted)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            raise RuntimeError(f"the simulator does not speak {scope['type']}")
        request = self._request(scope)
        if not await _read_body(request, receive):
            return
        watcher = Watcher(receive)
        outer = CALLER.set(watcher)
        self.world.answering += 1
        try:
            await _send(await self.respond(request), receive, send)
        except asyncio.CancelledError:
            if not watcher.is_over():
                raise
        finally:
            watcher.stop()
            CALLER.reset(outer)
            self.world.answering -= 1

    def _request(self, scope: Scope) -> Request:
        raw: bytes = scope.get("raw_path") or scope["path"].encode()
        path = raw.decode("latin-1").partition("?")[0]
        prefix = self._prefix or scope.get("root_path", "")
        return Request(
            method=scope["method"],
            path=path.removeprefix(prefix),
            headers={
                name.decode("latin-1").lower(): value.decode("latin-1")
                for name, value in scope["headers"]
            },
            query_string=scope.get("query_string", b"").decode("latin-1"),
            client=(scope.get("client") or ("",))[0],
            prefix=prefix,
        )

    async def respond(self, request: Request) -> Response:
        """The answer to one request, from whichever vendor its path names."""
        if request.path == "/control" or request.path.startswith("/control/"):
            return await control.handle(request, self.world)
        mounted = self._exact.get((request.method, request.path)) or self._by_pattern(request)
        if mounted is None:
            return self._nowhere(request)
        self.world.record(request, mounted.folder)
        if mounted.handler is not None:
            return await mounted.handler(request, self.world)
        assert mounted.wire is not None
        assert mounted.route is not None
        return await self._model(request, mounted.folder, mounted.wire, mounted.route)

    def _by_pattern(self, request: Request) -> _Mounted | None:
        for method, pattern, mounted in self._patterns:
            if method == request.method and (found := pattern.match(request.path)):
                if mounted.route is not None and mounted.route.query not in request.query_string:
                    continue
                request.params = {name: unquote(it) for name, it in found.groupdict().items()}
                return mounted
        return None

    def _nowhere(self, request: Request) -> Response:
        self.world.violation("", "path", f"{request.method} {request.path}")
        path = request.path
        allowed = {method for method, exact in self._exact if exact == path}
        allowed |= {method for method, pattern, _ in self._patterns if pattern.match(path)}
        if allowed:
            names = ", ".join(sorted(allowed))
            error = {"message": f"This path answers {names}.", "type": "invalid_request_error"}
            return json_response({"error": error}, 405, allow=names)
        error = {"message": "No vendor lives at this path.", "type": "invalid_request_error"}
        return json_response({"error": error}, 404)

    async def _model(self, request: Request, vendor: str, wire: Wire, route: WireRoute) -> Response:
        world = self.world
        try:
            if request.is_too_large:
                raise Refused(413, "The request is larger than the maximum size.", rule="size")
            wire.authenticate(request, world)
            if route.operation == "chat":
                response = await self._chat(request, vendor, wire, route)
            else:
                response = await self._other(request, vendor, wire, route)
        except Refused as refused:
            if refused.rule:
                world.violation(vendor, refused.rule, refused.message)
            request_id = world.token("answer", 32)
            refused.request_id = f"req_{request_id[:24]}"
            response = wire.error(refused)
            self._add_headers(response, wire, request, refused, request_id)
            if refused.retry_after:
                response.headers.setdefault("retry-after", refused.retry_after)
            return response
        if response.status and not response.is_canned:
            request_id = world.token("answer", 32)
            self._add_headers(response, wire, request, None, request_id)
        return response

    def _add_headers(
        self,
        response: Response,
        wire: Wire,
        request: Request,
        refused: Refused | None,
        request_id: str,
    ) -> None:
        found = answer_headers(wire.slug, request, refused, self.world, request_id)
        for name, value in found.items():
            response.headers.setdefault(name, value)

    async def _chat(self, request: Request, vendor: str, wire: Wire, route: WireRoute) -> Response:
        world = self.world
        try:
            body = json.loads_dict(request.body)
        except json.InvalidJSON as error:
            raise Refused(400, f"Invalid JSON: {error}.", rule="json") from None
        model = wire.model_of(request, body)
        # A vendor refuses what it does not have; every simulated model says that it is one.
        if "sim" not in model:
            raise Refused(404, f"The model `{model[:200]}` does not exist.", code="model_not_found")
        options = faults.options_of(request, model, vendor, world)
        instead = await faults.before(options, model, vendor, world)
        if instead is not None:
            return instead
        is_stream = wire.wants_stream(route, body)
        is_canned = "canned" in options and not faults.damages(options)
        can = (f"{request.path}?{request.query_string}", model, is_stream)
        if is_canned and (canned := _cans_of(world).get(can)) is not None:
            return _from_can(canned)
        ask = wire.read(request, body, world)
        ask.options = options
        played = events(ask, options)
        if not is_stream:
            answer = wire.answer(ask, body, played)
            response = Response(200, answer, {"content-type": "application/json"})
            response = await faults.whole(response, options, world, tokens=len(played))
        else:
            broken = Refused(529, "Overloaded in the middle.", code="overloaded")
            broken.position = faults.error_position(options)
            pieces = wire.stream(ask, body, played)
            if is_canned:
                pieces = (b"".join(pieces),)
                response = Response(200, pieces[0], {"content-type": wire.stream_media_type})
            else:
                media_type = wire.stream_media_type
                response = faults.streamed(
                    pieces, options, wire.error_piece(broken), world, media_type
                )
        if is_canned and isinstance(response.body, bytes):
            _keep(_cans_of(world), can, response)
        return response

    async def _other(self, request: Request, vendor: str, wire: Wire, route: WireRoute) -> Response:
        """Listings, counts, media: the same faults, by the model named or by the schedule."""
        model = _model_named(request)
        options = faults.options_of(request, model, vendor, self.world)
        instead = await faults.before(options, model, vendor, self.world)
        if instead is not None:
            return instead
        try:
            response = await wire.other(route, request, self.world)
        except json.InvalidJSON as error:
            raise Refused(400, f"Invalid JSON: {error}.", rule="json") from None
        return await faults.whole(response, options, self.world)


# --- cans ------------------------------------------------------------------------------------

_Can = tuple[bytes, dict[str, str]]
_CanKey = tuple[str, str, bool]


def _cans_of(world: World) -> OrderedDict[_CanKey, _Can]:
    cans: OrderedDict[_CanKey, _Can] = world.parts.setdefault("cans", OrderedDict())
    return cans


def _keep(cans: OrderedDict[_CanKey, _Can], key: _CanKey, response: Response) -> None:
    assert isinstance(response.body, bytes)
    cans[key] = (response.body, dict(response.headers))
    if len(cans) > MAX_CANS:
        cans.popitem(last=False)


def _from_can(can: _Can) -> Response:
    return Response(200, can[0], can[1], is_canned=True)


# --- reading and writing ---------------------------------------------------------------------


def _model_named(request: Request) -> str:
    """The model of a request that is no conversation, wherever it stands. Empty = it says none."""
    if name := request.params.get("model"):
        return name
    kind = request.headers.get("content-type", "")
    if kind.startswith("multipart/"):
        try:
            parts = request.multipart()
        except ValueError:
            return ""  # the wire says what is wrong with it
        return next((p.content.decode("utf-8", "replace") for p in parts if p.name == "model"), "")
    try:
        body = request.json() if request.body else None
    except json.InvalidJSON:
        return ""  # as above
    named = body.get("model") if isinstance(body, dict) else None
    return named if isinstance(named, str) else ""


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        else:
            await send({"type": "lifespan.shutdown.complete"})
            return


async def _read_body(request: Request, receive: Receive) -> bool:
    """False when the caller went before the body was whole."""
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        request.body = message.get("body", b"")
        request.is_too_large = len(request.body) > MAX_BODY
        return True
    pieces: list[bytes] = []
    size = 0
    while message["type"] == "http.request":
        piece = message.get("body", b"")
        size += len(piece)
        if size <= MAX_BODY:
            pieces.append(piece)
        else:
            request.is_too_large = True
        if not message.get("more_body"):
            request.body = b"".join(pieces)
            return True
        message = await receive()
    return False


def _encoded(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]


async def _send(response: Response, receive: Receive, send: Send) -> None:
    body, is_whole = response.body, response.ending == "whole"
    if response.status:
        headers = _encoded(response.headers.items())
        if isinstance(body, bytes) and "content-length" not in response.headers:
            headers.append((b"content-length", str(len(body)).encode()))
        start = {"type": "http.response.start", "status": response.status, "headers": headers}
        await send(start)
        if isinstance(body, bytes):
            await send({"type": "http.response.body", "body": body, "more_body": not is_whole})
        else:
            async for piece in body:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            if is_whole:
                await send({"type": "http.response.body", "body": b""})
    if response.ending == "hold":
        while (await receive())["type"] != "http.disconnect":
            pass
    elif not is_whole:
        await drop(send, receive, is_reset=response.ending == "reset")
