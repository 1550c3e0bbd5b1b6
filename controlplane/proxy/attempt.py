"""Targets in order, until the first event of an answer: after that there is no way back."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Final

import msgspec

from controlplane.kit import json
from controlplane.kit.errors import Fault, FaultKind, GatewayError
from controlplane.proxy import passing, respond, trying
from controlplane.proxy.body import check_counts
from controlplane.proxy.choosing import check_losses
from controlplane.proxy.dialects import client_of, relay_of, wants_array
from controlplane.proxy.errors import InvalidBody
from controlplane.proxy.exchange import Answer, Exchange
from controlplane.proxy.faults import UpstreamFault, fault_of, shown_to_client
from controlplane.proxy.sending import send
from controlplane.proxy.silence import beat_of
from controlplane.proxy.state import GatewayState
from controlplane.proxy.whole_events import AnyText, Cut, WholeEvents, walk
from providers.credentials.pick import applied
from providers.protocols import estimate, registry
from providers.protocols.canonical import End, Event, Failed, KeepAlive, Request, Start
from providers.protocols.codec import (
    ClientCall,
    Meter,
    RelayCodec,
    Reply,
    StreamDecoder,
    StreamFilter,
)
from providers.protocols.members import Members
from providers.routing.table import CredentialRef, Target
from providers.upstream.client import UpstreamResponse

# How much of a handshake may be held back while waiting for the first real event.
MAX_HELD: Final = 256 * 1024


async def first_answer(
    exchange: Exchange, targets: tuple[Target, ...], state: GatewayState
) -> Answer:
    """The first target that begins to answer. Raises the last failure when none does."""
    return await trying.first_answer(exchange, targets, state, _try)


async def count_tokens(
    exchange: Exchange, targets: tuple[Target, ...], state: GatewayState
) -> Answer:
    """The vendor's own count where it speaks the dialect, else our conservative estimate."""
    counter = registry.counter(exchange.route.dialect)
    body = _body_dict(exchange)
    for target in targets:
        if target.spec.protocol != exchange.route.dialect:
            continue
        credential = _first_credential(target)
        target = applied(target, credential)
        call, payload = counter.relay_count_request(exchange.body, body, target.spec)
        try:
            response = await send(exchange, target, credential, call, payload, state)
        except UpstreamFault:
            # Compatible endpoints often lack this path: the estimate below still serves.
            continue
        try:
            return whole(exchange, response, await response.read())
        finally:
            response.close()
    request = counter.decode_count_request(body, _client_call(exchange))
    counted = counter.encode_count(estimate.prompt_tokens(request))
    return Answer(200, respond.json_headers(exchange.shown_id), json.dumps(counted))


def _first_credential(target: Target) -> CredentialRef | None:
    return target.endpoint.credentials[0] if target.endpoint.credentials else None


async def _try(
    exchange: Exchange, target: Target, credential: CredentialRef | None, state: GatewayState
) -> Answer:
    target = applied(target, credential)
    if exchange.route.operation == "pass":
        return await _try_passed(exchange, target, credential, state)
    relay = relay_of(exchange, target.spec.protocol)
    if relay is not None:
        return await _try_relayed(exchange, target, credential, state, relay)
    codec = registry.upstream(target.spec.protocol)
    request = _decoded(exchange)
    call = codec.encode_request(request, target.spec, request_id=exchange.request_id)
    check_losses(exchange, call)
    response = await send(exchange, target, credential, call, json.dumps(call.body), state)
    try:
        reply = Reply(
            request=request,
            id=exchange.request_id,
            created=int(time.time()),
            restore=call.restore,
        )
        if exchange.stream:
            decoder = codec.stream_decoder(call.restore, target.spec)
            return await _translated(exchange, response, decoder, reply)
        events = codec.decode_answer(await response.read(), call.restore, target.spec)
        if isinstance(events[-1], Failed):
            raise UpstreamFault(events[-1].fault)
        exchange.seen.see(events)
        exchange.seen.is_whole = True
        encoded = client_of(exchange).encode_answer(events, reply)
        return whole(exchange, response, json.dumps(encoded.body))
    except BaseException:
        response.close()
        raise


async def _try_relayed(
    exchange: Exchange,
    target: Target,
    credential: CredentialRef | None,
    state: GatewayState,
    relay: RelayCodec,
) -> Answer:
    """The same dialect on both sides: the caller's own bytes, the vendor's own bytes."""
    body = _members(exchange)
    stream = bool(exchange.stream)
    call, payload = relay.relay_request(exchange.body, body, target.spec, stream=stream)
    passed = respond.dialect_headers(exchange.headers)
    response = await send(exchange, target, credential, call, payload, state, passed)
    try:
        if not stream:
            answer = checked(await response.read())
            exchange.seen.usage = relay.answer_usage(answer)
            exchange.seen.is_whole = True
            return whole(exchange, response, answer)
        meter = relay.stream_meter(target.spec)
        sieve = relay.stream_filter(body, target.spec)
        return await _relayed(exchange, response, meter, sieve)
    except BaseException:
        response.close()
        raise


async def _try_passed(
    exchange: Exchange, target: Target, credential: CredentialRef | None, state: GatewayState
) -> Answer:
    """An endpoint beside conversations. Its answer's own media type says how to pass it on."""
    made = passing.call(exchange, target)
    kinds = {"Content-Type": made.content_type, "Accept": "*/*"}
    response = await send(exchange, target, credential, made.call, made.content, state, kinds)
    try:
        kind = respond.media_type(response.headers)
        if not passing.may_answer_with(made.endpoint, kind):
            raise UpstreamFault(_NOT_JSON)
        if kind == "application/json":
            answer = checked(await response.read())
            measured = passing.measure(exchange, answer)
            exchange.seen.measured, exchange.seen.usage = measured, measured.usage
            exchange.seen.is_whole = True
            return whole(exchange, response, answer)
        if kind == "text/event-stream":
            return await _relayed(exchange, response, made.meter, made.sieve)
        headers = [
            *respond.media_headers(exchange.shown_id, kind),
            *respond.passed_on(response.headers),
        ]
        # The 200 waits for the first bytes: an upstream that breaks off before is a 502.
        first = await response.chunk()
        exchange.seen.note_first_content()
        return Answer(200, headers, stream=as_it_comes(exchange, response, first))
    except BaseException:
        response.close()
        raise


async def as_it_comes(
    exchange: Exchange, response: UpstreamResponse, first: bytes
) -> AsyncIterator[bytes]:
    """Sound, subtitles and files. Nothing in them could say that the rest is missing: when the
    upstream breaks off, so do we, and the caller's connection ends in the middle."""
    try:
        yield first
        async for data in response.chunks():
            yield data
        exchange.seen.is_whole = True
    finally:
        response.close()


def _members(exchange: Exchange) -> Members:
    """For those who change a few fields and pass the rest on."""
    body = exchange.members
    assert body is not None, "choose() reads the body before anything is tried"
    check_counts(body)
    return body


def _body_dict(exchange: Exchange) -> json.JSONDict:
    try:
        body = json.loads_dict(exchange.body)
    except json.InvalidJSON as error:
        raise InvalidBody(f"The body is not a JSON object: {error}.") from None
    check_counts(body)
    return body


def _client_call(exchange: Exchange) -> ClientCall:
    return ClientCall(
        model=exchange.model,
        stream=exchange.stream,
        betas=tuple(
            beta.strip() for beta in exchange.header(b"anthropic-beta").split(",") if beta.strip()
        ),
    )


def _decoded(exchange: Exchange) -> Request:
    try:
        return client_of(exchange).decode_request(_body_dict(exchange), _client_call(exchange))
    except OverflowError:
        # JSON knows integers of any length; where a fraction is meant, no float holds them.
        raise InvalidBody("A number in the body is too large to be used.") from None


def whole(exchange: Exchange, response: UpstreamResponse, body: bytes) -> Answer:
    response.close()
    headers = [*respond.json_headers(exchange.shown_id), *respond.passed_on(response.headers)]
    return Answer(200, headers, body)


def _stream_headers(exchange: Exchange) -> list[tuple[bytes, bytes]]:
    if wants_array(exchange):
        return respond.json_headers(exchange.shown_id)
    return respond.sse_headers(exchange.shown_id)


def checked(body: bytes) -> bytes:
    """Half a JSON body is the upstream's fault, and bytes that are no text are no answer."""
    try:
        walk(body)
        if not body.isascii():
            body.decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise UpstreamFault(_NOT_JSON) from None
    return body


async def _relayed(
    exchange: Exchange, response: UpstreamResponse, meter: Meter, sieve: StreamFilter | None
) -> Answer:
    """Bytes as they come. The 200 waits for the first content, so that an error which arrives
    inside the stream before it can still become a status or go to the next target."""
    held: list[bytes] = []
    size = 0
    is_over = False
    while not meter.has_content and not meter.is_ended and meter.fault is None:
        data = await response.chunk()
        if not data:
            meter.close()
            is_over = True
            break
        meter.feed(data)
        held.append(data)
        size += len(data)
        if size > MAX_HELD:
            break
    exchange.seen.note_first_content()
    if meter.fault is not None and not meter.has_content:
        raise UpstreamFault(meter.fault)
    if is_over and not meter.is_ended:
        raise UpstreamFault(_TRUNCATED)
    cut: Cut = AnyText() if wants_array(exchange) else WholeEvents()
    first = cut.feed(b"".join(held))
    headers = [*_stream_headers(exchange), *respond.passed_on(response.headers)]
    rest = _relay_rest(exchange, response, meter, sieve, cut, first)
    return Answer(200, headers, stream=rest, beat=beat_of(exchange))


_TRUNCATED: Final = Fault(
    kind=FaultKind.UPSTREAM,
    code="stream_truncated",
    message="The provider broke off its answer. What arrived is incomplete.",
)
_NOT_JSON: Final = Fault(
    kind=FaultKind.UPSTREAM,
    code="upstream_unreadable",
    message="The provider sent an answer that is not whole JSON.",
)


async def _relay_rest(
    exchange: Exchange,
    response: UpstreamResponse,
    meter: Meter,
    sieve: StreamFilter | None,
    cut: Cut,
    shown: bytes,
) -> AsyncIterator[bytes]:
    client = client_of(exchange)
    seen = exchange.seen
    try:
        while True:
            if sieve is not None:
                shown = sieve.feed(shown)
            seen.usage, seen.fault, seen.is_whole = meter.usage, meter.fault, meter.is_ended
            seen.output_events += shown.count(b"\n\n")
            if shown:
                yield shown
            if meter.is_ended:
                break
            data = await response.chunk()
            if not data:
                meter.close()
                break
            meter.feed(data)
            shown = cut.feed(data)
        seen.usage, seen.fault, seen.is_whole = meter.usage, meter.fault, meter.is_ended
        shown = cut.rest() if meter.is_ended else b""
        if sieve is not None:
            shown = sieve.feed(shown) + sieve.close()
        if shown:
            yield shown
        if not meter.is_ended:
            yield client.encode_error_event(meter.fault or _TRUNCATED, exchange.shown_id)
    except GatewayError as error:
        yield client.encode_error_event(shown_to_client(fault_of(error)), exchange.shown_id)
    finally:
        response.close()


async def _translated(
    exchange: Exchange, response: UpstreamResponse, decoder: StreamDecoder, reply: Reply
) -> Answer:
    held: list[Event] = []
    while not any(not isinstance(event, Start | KeepAlive) for event in held):
        data = await response.chunk()
        held += decoder.feed(data) if data else decoder.close()
        if not data:
            break
    exchange.seen.note_first_content()
    is_silent = all(isinstance(event, Start | KeepAlive) for event in held[:-1])
    if held and isinstance(held[-1], Failed) and is_silent:
        raise UpstreamFault(held[-1].fault)
    headers = [*_stream_headers(exchange), *respond.passed_on(response.headers)]
    rest = _translate_rest(exchange, response, decoder, reply, held)
    return Answer(200, headers, stream=rest, beat=beat_of(exchange))


async def _translate_rest(
    exchange: Exchange,
    response: UpstreamResponse,
    decoder: StreamDecoder,
    reply: Reply,
    events: list[Event],
) -> AsyncIterator[bytes]:
    client = client_of(exchange)
    encoder = client.stream_encoder(reply)
    try:
        while True:
            exchange.seen.see(events)
            is_over = bool(events) and isinstance(events[-1], End | Failed)
            exchange.seen.is_whole = is_over and isinstance(events[-1], End)
            pieces = [encoder.feed(event) for event in events]
            if out := b"".join(pieces):
                yield out
            if is_over:
                return
            data = await response.chunk()
            events = decoder.feed(data) if data else decoder.close()
            if not data and not events:
                yield encoder.feed(Failed(_TRUNCATED))
                return
    except GatewayError as error:
        yield encoder.feed(Failed(shown_to_client(fault_of(error))))
    finally:
        response.close()
