"""What happens to a proxied request, in order. Both lanes call `serve`."""

from __future__ import annotations

from datetime import UTC, datetime

from controlplane.kit.errors import GatewayError
from controlplane.proxy import (
    attempt,
    choosing,
    explain,
    files,
    listing,
    metered,
    metrics_page,
    named_files,
    passing,
    repeated,
    stored,
)
from controlplane.proxy.exchange import Answer, Exchange
from controlplane.proxy.faults import AWAY, fault_of
from controlplane.proxy.refusing import refused
from controlplane.proxy.state import GatewayState
from providers.routing.table import RouteTable, Target
from tenants.keys.models import KeyScope
from tenants.keys.presented import presented_key
from tenants.keys.snapshot import KeyRecord


async def serve(exchange: Exchange, state: GatewayState) -> Answer:
    """Authenticate, plan, try, answer. Never raises what a client should see."""
    try:
        caller = authenticate(exchange, state)
        exchange.tenant, exchange.is_staff = caller.tenant_slug, caller.is_staff
        if repeated.is_asked(exchange):
            answer = await repeated.once(exchange, caller, state, _serve)
        else:
            answer = await _serve(exchange, caller, state)
    except (GatewayError, *AWAY) as error:
        answer = refused(exchange.route.dialect, fault_of(error), exchange.shown_id)
        answer.headers += metered.refusal_headers(exchange)
        return answer
    metered.check(exchange)
    return answer


async def _serve(exchange: Exchange, caller: KeyRecord, state: GatewayState) -> Answer:
    is_streamed = False
    try:
        answer = await _operate(exchange, caller, state)
        is_streamed = answer.stream is not None
    finally:
        # After it was settled: who waits for its place must find it free in the counters too.
        if not is_streamed and exchange.held:
            state.providers.leave(exchange)
    return answer


async def _operate(exchange: Exchange, caller: KeyRecord, state: GatewayState) -> Answer:
    table = await state.tables.of(caller.tenant_id)
    match exchange.route.operation:
        case "models" | "model":
            return listing.answer(exchange, caller, table)
        case "count_tokens":
            targets = choose(exchange, caller, table, state)
            return await metered.answer(exchange, caller, targets, state, attempt.count_tokens)
        case "explain":
            return await explain.answer(exchange, caller, table, state)
        case "metrics":
            return await metrics_page.answer(exchange, caller, table)
        case "chat":
            keeping = await stored.prepare(exchange, caller.tenant_id)
            targets = choose(exchange, caller, table, state)
            targets = await named_files.kept_together(exchange, caller, targets, state)
            answer = await metered.answer(exchange, caller, targets, state, attempt.first_answer)
            return answer if keeping is None else await keeping.noted(answer)
        case "stored":
            return await stored.answer(exchange, caller.tenant_id)
        case "files" | "batches" | "kept":
            return await files.answer(exchange, caller, table, state)
        case "pass":
            passing.read(exchange)
            targets = passing.able(exchange, choose(exchange, caller, table, state))
            targets = await named_files.kept_together(exchange, caller, targets, state)
            return await metered.answer(exchange, caller, targets, state, attempt.first_answer)


def authenticate(exchange: Exchange, state: GatewayState) -> KeyRecord:
    token = presented_key(
        exchange.headers, exchange.query, allow_query=exchange.route.allow_query_key
    )
    caller = state.keys.find(token, exchange.address, datetime.now(UTC))
    caller.require_scope(KeyScope.PROXY)
    return caller


def choose(
    exchange: Exchange, caller: KeyRecord, table: RouteTable, state: GatewayState
) -> tuple[Target, ...]:
    """Reads what the request needs and finds where it may go, best first. Sets exchange.model,
    .stream and .decision."""
    try:
        made = choosing.decide(exchange, caller, table, state.routing)
    except GatewayError:
        state.finished(exchange)
        raise
    total = table.total_seconds.get(made.name) or state.total_seconds
    if total:
        exchange.ends_at = exchange.decision.started_at + total
    return made.targets
