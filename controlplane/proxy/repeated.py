"""`Idempotency-Key` on proxied requests: the same request with the same key is answered once and
charged once, however often it comes. Without the header nothing here runs but `is_asked`."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Final

from controlplane.kit import json
from controlplane.proxy import respond
from controlplane.proxy.exchange import Answer, Exchange
from controlplane.proxy.kept_outcome import lasting
from controlplane.proxy.metered import FREE_OPERATIONS
from controlplane.proxy.state import GatewayState
from providers.protocols.openai_completions.passthrough import is_multipart
from tenants.idempotency.claims import Asked, asked
from tenants.idempotency.errors import InvalidIdempotencyKey
from tenants.keys.snapshot import KeyRecord

Serve = Callable[[Exchange, KeyRecord, GatewayState], Awaitable[Answer]]

HEADER: Final = b"idempotency-key"
_KEY: Final = re.compile(rb"[\x21-\x7e]{1,255}")
_BOUNDARY: Final = re.compile(r'boundary="?([^";,]{1,200})', re.IGNORECASE)


def is_asked(exchange: Exchange) -> bool:
    for name, _ in exchange.headers:
        if name == HEADER:
            # What lies on the disk is gone with its caller: a file is uploaded anew.
            return exchange.route.operation not in FREE_OPERATIONS and exchange.spooled is None
    return False


async def once(exchange: Exchange, caller: KeyRecord, state: GatewayState, serve: Serve) -> Answer:
    """The answer of `serve`, or the one it gave before, or the one that it is about to give.

    Raises InvalidIdempotencyKey, IdempotencyKeyReused, OutcomeTooLarge, RequestUnderWay,
    IdempotencyUnavailable, and whatever `serve` does.
    """
    wanted = _asked(exchange, caller)
    running = state.under_way.find(wanted)
    is_first = running is None
    if running is None:
        running = state.under_way.begin(wanted, exchange, lambda: serve(exchange, caller, state))
    reader = running.join()
    try:
        head = await reader.head()
    except BaseException:
        reader.leave()
        raise
    answer = Answer(head.status, list(head.headers), head.body, beat=head.beat)
    if not is_first or running.is_recalled:
        exchange.repeats = running.request_id
        answer.headers = [
            *lasting(head.headers),
            (b"x-request-id", exchange.shown_id.encode("latin-1")),
            (b"idempotent-replayed", b"true"),
        ]
    if running.is_stream:
        answer.stream = reader
    else:
        reader.leave()
    return answer


def _asked(exchange: Exchange, caller: KeyRecord) -> Asked:
    keys = [value for name, value in exchange.headers if name == HEADER]
    if len(keys) != 1 or not _KEY.fullmatch(keys[0]):
        raise InvalidIdempotencyKey(
            "Send one Idempotency-Key of 1 to 255 visible ASCII characters.",
            param="Idempotency-Key",
        )
    return asked(
        tenant_id=caller.tenant_id,
        caller=str(caller.id),
        route=exchange.route.name,
        key=keys[0].decode("ascii"),
        request=_request(exchange),
    )


def _request(exchange: Exchange) -> bytes:
    """All that makes it the request it is. Not the key it came with, which may be in its query,
    nor the boundary of a form, which clients draw anew each time."""
    kind, body = exchange.header(b"content-type"), exchange.body
    if is_multipart(kind):
        boundary = _BOUNDARY.search(kind)
        if boundary is not None:
            body = body.replace(boundary.group(1).encode("latin-1"), b"boundary")
    query = [part for part in exchange.query.split(b"&") if not part.startswith(b"key=")]
    about = [
        exchange.model,
        exchange.stream,
        b"&".join(query).decode("latin-1"),
        kind.partition(";")[0].strip().lower(),
        sorted(respond.dialect_headers(exchange.headers).items()),
    ]
    return json.dumps(about) + b"\n" + body
