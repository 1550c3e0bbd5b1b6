"""One id per request: taken from the caller when it is harmless, else made here; sent back."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Final, cast

import structlog
from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

from controlplane.kit.ids import uuid7

HEADER: Final = "X-Request-ID"

# Long enough to be somebody's id, short enough for a column; nothing that a log, a header or a
# shell reads as more than text.
_HARMLESS: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{7,63}\Z")

Respond = Callable[[HttpRequest], HttpResponseBase]
RespondAsync = Callable[[HttpRequest], Awaitable[HttpResponseBase]]


def accept(offered: str | None) -> str:
    """`offered` if it is harmless, else a new id."""
    if offered and _HARMLESS.match(offered):
        return offered
    return uuid7().hex


@sync_and_async_middleware
def request_id(get_response: Respond | RespondAsync) -> Respond | RespondAsync:
    """Binds the id to every log line of the request and answers with it."""
    if iscoroutinefunction(get_response):
        respond_async = cast(RespondAsync, get_response)

        async def asynchronous(request: HttpRequest) -> HttpResponseBase:
            identity = accept(request.headers.get(HEADER))
            with structlog.contextvars.bound_contextvars(request_id=identity):
                response = await respond_async(request)
            response[HEADER] = identity
            return response

        return asynchronous

    respond = cast(Callable[[HttpRequest], HttpResponse], get_response)

    def synchronous(request: HttpRequest) -> HttpResponseBase:
        identity = accept(request.headers.get(HEADER))
        with structlog.contextvars.bound_contextvars(request_id=identity):
            response = respond(request)
        response[HEADER] = identity
        return response

    return synchronous
