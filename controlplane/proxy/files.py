"""Files and batches: passed on to the provider that has them, by the credential that made them.

A row here says whose each is (providers/files). Who has no row gets the answer for what was never
made, so that tenants who share a provider's account never meet.
"""

from __future__ import annotations

import asyncio
import re
from functools import partial
from typing import Any, Final
from urllib.parse import parse_qs

import msgspec

from controlplane.kit import clock, json
from controlplane.kit.database_threads import database_threads
from controlplane.kit.errors import FaultKind
from controlplane.proxy import attempt, metered, named_files, respond, uploads
from controlplane.proxy.errors import InvalidBody
from controlplane.proxy.exchange import Answer, Exchange
from controlplane.proxy.faults import UpstreamFault
from controlplane.proxy.homes import Home, home_for, home_of, model_at
from controlplane.proxy.sending import send
from controlplane.proxy.spooled import Spooled
from controlplane.proxy.state import GatewayState
from providers.catalog.pricing import cost_nanos
from providers.files import services
from providers.files.batch_file import BATCH_TIER, Work
from providers.files.errors import BadBatchFile
from providers.files.services import Bound, Kind, Maker
from providers.protocols import passthrough
from providers.protocols.canonical import Usage
from providers.routing.table import RouteTable, Target
from providers.upstream.client import UpstreamResponse
from tenants.keys.snapshot import KeyRecord

_PATH: Final = re.compile(r"/(?:file|batche)s/([^/]+)(?:/(?:content|cancel))?\Z")
# Route -> what is asked, and behind which path.
_CALLS: Final = {
    "file": (Kind.FILE, "GET", "/files/{id}"),
    "delete-file": (Kind.FILE, "DELETE", "/files/{id}"),
    "file-content": (Kind.FILE, "GET", "/files/{id}/content"),
    "batch": (Kind.BATCH, "GET", "/batches/{id}"),
    "cancel-batch": (Kind.BATCH, "POST", "/batches/{id}/cancel"),
}
_LONGEST_PAGE: Final = 1_000
_FILES_ON_A_PAGE: Final = 100
_BATCHES_ON_A_PAGE: Final = 20
# What a file holds, nobody here has looked at: browsers must not either.
_ANY_BYTES: Final = "application/octet-stream"


async def answer(
    exchange: Exchange, caller: KeyRecord, table: RouteTable, state: GatewayState
) -> Answer:
    match exchange.route.name:
        case "files":
            return await _list(exchange, caller, Kind.FILE, _FILES_ON_A_PAGE)
        case "batches":
            return await _list(exchange, caller, Kind.BATCH, _BATCHES_ON_A_PAGE)
        case "upload-file":
            return await _upload(exchange, caller, table, state)
        case "create-batch":
            return await _create(exchange, caller, table, state)
    return await _ask(exchange, caller, table, state)


async def _upload(
    exchange: Exchange, caller: KeyRecord, table: RouteTable, state: GatewayState
) -> Answer:
    spooled = exchange.spooled
    assert spooled is not None, "the lane spools what this route takes"
    kind = exchange.header(b"content-type")
    form = await asyncio.to_thread(uploads.read, spooled, kind)
    await named_files.known(caller, form.named)
    home, served = home_for(exchange, caller, table, state, form.work)
    work = [_served_by(one, served[one.asked]) for one in form.work]

    async def serve(*_: Any) -> Answer:
        body: Spooled = spooled
        if any(one.asked != one.served for one in work):
            body = await asyncio.to_thread(uploads.with_models, spooled, form, served)
        try:
            response = await _send(exchange, home, state, "POST", "/files", body, kind)
            return await _made(exchange, caller, home, response, Kind.FILE, work)
        finally:
            if body is not spooled:
                body.close()

    return await metered.answer(exchange, caller, (_unnamed(home.target),), state, serve)


async def _create(
    exchange: Exchange, caller: KeyRecord, table: RouteTable, state: GatewayState
) -> Answer:
    """A batch goes where its file is. Nobody knows yet what it will cost: it has to fit into what
    is left of every budget, by our estimate, and is charged when it is done."""
    try:
        body = json.loads_dict(exchange.body)
    except json.InvalidJSON as error:
        raise InvalidBody(f"The body is not a JSON object: {error}.") from None
    file_id = body.get("input_file_id")
    if not isinstance(file_id, str) or not file_id:
        raise InvalidBody("`input_file_id` must name an uploaded file.", param="input_file_id")
    file = await _find(caller, Kind.FILE, file_id)
    if not file.work:
        raise BadBatchFile(
            "This file was not uploaded for a batch: upload it with the purpose `batch`.",
            param="input_file_id",
        )
    home = home_of(file, caller, table)
    targets = [model_at(home, one.asked, caller, table) for one in file.work]
    work = [_priced(one, target) for one, target in zip(file.work, targets, strict=True)]
    known = [one.nanos for one in work if one.nanos is not None]
    nanos = sum(known) if len(known) == len(work) else None
    exchange.model = work[0].asked

    async def serve(*_: Any) -> Answer:
        asked = Home(targets[0], home.credential)
        response = await _send(exchange, asked, state, "POST", "/batches", exchange.body)
        return await _made(exchange, caller, home, response, Kind.BATCH, work)

    return await metered.answer(
        exchange, caller, (targets[0],), state, serve, nanos=lambda *_: nanos
    )


async def _ask(
    exchange: Exchange, caller: KeyRecord, table: RouteTable, state: GatewayState
) -> Answer:
    """What is there already: asked where it is."""
    kind, method, path = _CALLS[exchange.route.name]
    found = _PATH.search(exchange.path)
    bound = await _find(caller, kind, found.group(1) if found is not None else "")
    home = home_of(bound, caller, table)

    async def serve(*_: Any) -> Answer:
        try:
            response = await _send(exchange, home, state, method, path.format(id=bound.upstream_id))
        except UpstreamFault as error:
            if method == "DELETE" and error.original.kind is FaultKind.NOT_FOUND:
                await _forget(caller, bound)
            raise
        if exchange.route.name == "file-content":
            return await _content(exchange, response)
        made = await _json(exchange, response)
        if method == "DELETE":
            await _forget(caller, bound)
        else:
            await database_threads.run(
                partial(
                    services.seen,
                    tenant_id=caller.tenant_id,
                    row_id=bound.row_id,
                    shown=json.loads_dict(made.body),
                    now=clock.now(),
                )
            )
        return made

    return await metered.answer(exchange, caller, (_unnamed(home.target),), state, serve)


async def _list(exchange: Exchange, caller: KeyRecord, kind: Kind, usual: int) -> Answer:
    query = parse_qs(exchange.query.decode("latin-1"))
    limit = query.get("limit", [str(usual)])[-1]
    if not (limit.isascii() and limit.isdigit() and len(limit) < 6 and int(limit)):
        raise InvalidBody("`limit` must be a whole number from 1.", param="limit")
    shown, has_more = await database_threads.run(
        partial(
            services.page,
            tenant_id=caller.tenant_id,
            kind=kind,
            after=query.get("after", [""])[-1],
            limit=min(int(limit), _LONGEST_PAGE),
            is_ascending=query.get("order", ["desc"])[-1] == "asc",
            purpose=query.get("purpose", [""])[-1],
        )
    )
    body = {
        "object": "list",
        "data": shown,
        "first_id": shown[0].get("id") if shown else None,
        "last_id": shown[-1].get("id") if shown else None,
        "has_more": has_more,
    }
    return Answer(200, respond.json_headers(exchange.shown_id), json.dumps(body))


# --- what all of them share ----------------------------------------------------------------------


async def _send(
    exchange: Exchange,
    home: Home,
    state: GatewayState,
    method: str,
    path: str,
    body: bytes | Spooled = b"",
    content_type: str = "application/json",
) -> UpstreamResponse:
    call = passthrough.beside(home.target.spec, path)
    kinds = {"Content-Type": content_type} if body else {}
    target = home.target if exchange.model else _unnamed(home.target)
    payload = None if method != "POST" else body
    # Counted among what this tenant has under way until it answers.
    await state.gate.enter(exchange.tenant)
    try:
        return await send(exchange, target, home.credential, call, payload, state, kinds, method)
    finally:
        state.gate.leave(exchange.tenant)


async def _made(
    exchange: Exchange,
    caller: KeyRecord,
    home: Home,
    response: UpstreamResponse,
    kind: Kind,
    work: list[Work],
) -> Answer:
    """Something new: the tenant's from before its id is told."""
    made = await _json(exchange, response)
    maker = Maker(
        tenant_id=caller.tenant_id,
        provider_id=home.target.endpoint.provider_id,
        provider_slug=home.target.endpoint.slug,
        credential_id=home.credential.id if home.credential is not None else None,
        key_id=caller.id,
        member_id=caller.member_id,
    )
    await database_threads.run(
        partial(
            services.keep,
            kind=kind,
            maker=maker,
            shown=json.loads_dict(made.body),
            now=clock.now(),
            work=work,
        )
    )
    return made


async def _json(exchange: Exchange, response: UpstreamResponse) -> Answer:
    try:
        body = attempt.checked(await response.read())
        exchange.seen.is_whole = True
        return attempt.whole(exchange, response, body)
    finally:
        response.close()


async def _content(exchange: Exchange, response: UpstreamResponse) -> Answer:
    headers = [
        *respond.media_headers(exchange.shown_id, _ANY_BYTES),
        *respond.passed_on(response.headers),
    ]
    try:
        first = await response.chunk()
    except BaseException:
        response.close()
        raise
    exchange.seen.note_first_content()
    return Answer(200, headers, stream=attempt.as_it_comes(exchange, response, first))


async def _find(caller: KeyRecord, kind: Kind, upstream_id: str) -> Bound:
    if not services.is_id(upstream_id):
        raise services.not_found(kind, upstream_id)
    return await database_threads.run(
        partial(services.find, tenant_id=caller.tenant_id, kind=kind, upstream_id=upstream_id)
    )


async def _forget(caller: KeyRecord, bound: Bound) -> None:
    await database_threads.run(
        partial(services.forget, tenant_id=caller.tenant_id, row_id=bound.row_id)
    )


def _served_by(work: Work, served: str) -> Work:
    return Work(work.asked, served, work.lines, work.input, work.output)


def _priced(work: Work, target: Target) -> Work:
    """With what it will cost as far as anybody can tell; None = nobody knows the price."""
    usage = Usage(input=work.input, output=work.output, service_tier=BATCH_TIER)
    nanos = cost_nanos(usage, target.price)
    return Work(work.asked, work.served, work.lines, work.input, work.output, nanos)


def _unnamed(target: Target) -> Target:
    """No model is asked: none shall be said to have been."""
    return msgspec.structs.replace(target, spec=msgspec.structs.replace(target.spec, id=""))
