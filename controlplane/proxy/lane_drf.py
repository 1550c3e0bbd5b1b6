"""The same routes as DRF views: declared in the OpenAPI document, served under any Django
server. Under our ASGI application lane_asgi answers them before Django is asked."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import structlog
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.urls import URLPattern, re_path
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.views import APIView

from controlplane.kit.errors import GatewayError
from controlplane.logs import get_logger
from controlplane.proxy import pipeline
from controlplane.proxy.body import check_encoding, check_headers
from controlplane.proxy.errors import BodyTooLarge, MethodNotAllowed, UnknownPath
from controlplane.proxy.exchange import Answer, Exchange
from controlplane.proxy.faults import INTERNAL, fault_of
from controlplane.proxy.loop import pipeline_loop
from controlplane.proxy.metered import FREE_OPERATIONS
from controlplane.proxy.refusing import refused
from controlplane.proxy.request_ids import new_request_id
from controlplane.proxy.routes import ROUTES, Match, Route, match
from controlplane.proxy.spooled import PIECE, Spooled
from controlplane.proxy.state import GatewayState
from tenants.keys.address import caller_address

log = get_logger(__name__)


class ProxyView(APIView):
    """One proxied route. The pipeline authenticates: DRF's own stages stay out of the way."""

    authentication_classes = []
    permission_classes = []
    throttle_classes = []

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        found = match(request.method or "", _raw_path(request))
        if found is None:
            found = Match(None, "openai-completions")
        return answer(request, found)

    def get(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        """Declared for the schema; `dispatch` answers."""
        raise AssertionError("dispatch answers")

    post = get


def _raw_path(request: HttpRequest) -> str:
    """Still percent-encoded where the server tells: `match` decodes names, and only once."""
    if isinstance(request, ASGIRequest) and request.scope.get("raw_path"):
        return str(request.scope["raw_path"].decode("latin-1")).partition("?")[0]
    return request.META.get("RAW_URI", "").partition("?")[0] or request.path


def _headers(request: HttpRequest) -> list[tuple[bytes, bytes]]:
    """As sent where the server tells: Django joins a repeated header into one."""
    if isinstance(request, ASGIRequest):
        return list(request.scope["headers"])
    return [
        (name.lower().encode("latin-1"), value.encode("latin-1", "replace"))
        for name, value in request.headers.items()
    ]


def answer(request: HttpRequest, found: Match) -> HttpResponseBase:
    # The id that Django's middleware answers with: what is told in a body has to be the same.
    shown_id = structlog.contextvars.get_contextvars().get("request_id") or new_request_id()
    running = pipeline_loop()
    admission = running.state.admission
    is_admitted = False
    exchange: Exchange | None = None
    try:
        admission.enter()
        is_admitted = True
        exchange = _exchange(request, found, shown_id, running.state)
        exchange.address = caller_address(
            request.META.get("REMOTE_ADDR", ""), exchange.headers, running.state.trusted_proxies
        )
        made = running.run(pipeline.serve(exchange, running.state))
    except GatewayError as error:
        made = refused(found.dialect, fault_of(error), shown_id)
        if isinstance(error, MethodNotAllowed):
            made.headers.append((b"allow", ", ".join(found.allowed).encode()))
    except Exception:
        log.exception("bug in the proxy", request_id=shown_id)
        made = refused(found.dialect, INTERNAL, shown_id)
    finally:
        if exchange is not None and exchange.spooled is not None:
            # Its answer is whole by now: no route that takes files streams one.
            exchange.spooled.close()
    response = _response(made, request)
    if is_admitted:
        if isinstance(response, _Stream):
            response.at_end = admission.leave
        else:
            admission.leave()
    return response


def _exchange(request: HttpRequest, found: Match, shown_id: str, state: GatewayState) -> Exchange:
    headers = _headers(request)
    check_headers(headers)
    route = found.route
    if route is None:
        if found.allowed:
            raise MethodNotAllowed(f"Use {' or '.join(found.allowed)} here.")
        raise UnknownPath("This path does not exist. See /api/docs/ for those that do.")
    body = b""
    spooled: Spooled | None = None
    if route.method == "POST":
        check_encoding(headers)
        try:
            if route.is_spooled:
                spooled = _spool(request, state.limit_of(route))
            else:
                body = _read(request, state.limit_of(route))
        finally:
            if isinstance(request, ASGIRequest):
                # Django wrote it to a file, which nobody else closes.
                request._stream.close()
    return Exchange(
        route=route,
        request_id=new_request_id(),
        method=request.method or "",
        path=request.path,
        query=request.META.get("QUERY_STRING", "").encode("latin-1", "replace"),
        headers=headers,
        address="",
        body=body,
        spooled=spooled,
        model=found.model,
        stream=found.stream,
        offered_id=shown_id,
    )


def _read(request: HttpRequest, limit: int) -> bytes:
    body = request.read(limit + 1)
    if len(body) > limit:
        raise BodyTooLarge(f"The body may hold at most {limit} bytes.")
    return body


def _spool(request: HttpRequest, limit: int) -> Spooled:
    spooled = Spooled()
    try:
        while piece := request.read(min(PIECE, limit + 1 - spooled.size)):
            spooled.write(piece)
            if spooled.size > limit:
                raise BodyTooLarge(f"The body may hold at most {limit} bytes.")
    except BaseException:
        spooled.close()
        raise
    return spooled


class _Stream(StreamingHttpResponse):
    """Tells when the server is done with it, whether or not anything was read."""

    at_end: Callable[[], None] | None = None

    def close(self) -> None:
        super().close()
        at_end, self.at_end = self.at_end, None
        if at_end is not None:
            at_end()


def _response(made: Answer, request: HttpRequest) -> HttpResponseBase:
    response: HttpResponseBase
    if made.stream is None:
        response = HttpResponse(made.body, status=made.status)
    else:
        running = pipeline_loop()
        pieces = (
            running.aiterate(made.stream, made.beat)
            if isinstance(request, ASGIRequest)
            else running.iterate(made.stream, made.beat)
        )
        response = _Stream(pieces, status=made.status)
    for name, value in made.headers:
        response[name.decode("latin-1")] = value.decode("latin-1")
    return response


_ONCE: Final = OpenApiParameter(
    "Idempotency-Key",
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    description="Any text of your own, new for each question. The same request sent again with it "
    "within a day is answered as the first time and charged once (`Idempotent-Replayed: true`); "
    "another request: 422.",
)


def _declared() -> Any:
    """A method of its own for each view: its description in the schema is kept on the function."""

    def handle(*_arguments: Any, **_named: Any) -> HttpResponse:
        raise AssertionError("dispatch answers")

    return handle


def _view_for(route: Route) -> Any:
    parameters = [
        OpenApiParameter(name, OpenApiTypes.STR, OpenApiParameter.PATH)
        for name in re.findall(r"{(\w+)}", route.path)
    ]
    if route.operation not in FREE_OPERATIONS:
        parameters.append(_ONCE)
    described = extend_schema(
        operation_id=route.name,
        tags=["proxy"],
        summary=route.summary,
        parameters=parameters,
        request=OpenApiTypes.OBJECT if route.method == "POST" else None,
        responses={200: OpenApiTypes.OBJECT},
        auth=[{"tenantKey": []}],  # type: ignore[list-item]  # the stubs know only strings
    )
    handler = route.method.lower()
    view = type(
        f"{route.name.title().replace('-', '')}View",
        (ProxyView,),
        {handler: described(_declared()), "http_method_names": [handler]},
    )
    return view.as_view()  # type: ignore[attr-defined]  # made by type()


def _regex(path: str) -> str:
    """Models may hold slashes and colons; the action follows the last colon."""
    escaped = re.escape(path.removeprefix("/")).replace(r"\{model\}", "(?P<model>.+)")
    escaped = re.sub(r"\\{(\w+_id)\\}", r"(?P<\1>[^/]+)", escaped)
    return f"^{escaped}$"


urlpatterns: list[URLPattern] = [
    *(
        re_path(_regex(route.path), _view_for(route), name=f"proxy-{route.name}")
        for route in ROUTES
    ),
    # Prefixed, unknown and mistyped paths: `match` knows what to say of them.
    re_path(r"^(?:v1|v1beta|openai|anthropic|genai)/", ProxyView.as_view(schema=None)),
]
