"""POST /v1/route/explain: where a request would go, and why. Nothing is sent, nobody's turn taken.

    {"path": "/v1/messages", "body": {…a real body…}}

Without `path` the body is one of chat completions. The planner is the one that real requests pass
through; only what it would change (turns, probes, budgets) stays as it is.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from typing import Any, Final

from controlplane.kit import clock, json
from controlplane.kit.database_threads import database_threads
from controlplane.kit.errors import GatewayError
from controlplane.kit.json import JSONDict
from controlplane.proxy import choosing, own_key, respond, room, stored
from controlplane.proxy.dialects import client_of, relay_of
from controlplane.proxy.errors import InvalidBody
from controlplane.proxy.exchange import Answer, Exchange
from controlplane.proxy.room import Room
from controlplane.proxy.routes import match
from controlplane.proxy.state import GatewayState
from providers.protocols import registry
from providers.protocols.canonical import Request
from providers.protocols.codec import ClientCall
from providers.routing.loader import load_table
from providers.routing.plan import Candidate, Plan
from providers.routing.sharing import standing_of_all
from providers.routing.strategies import expected_nanos
from providers.routing.table import RouteTable, Target
from providers.routing.view import shows_prices_to
from tenants.keys.snapshot import KeyRecord
from tenants.quotas.snapshot import LimitSnapshot

EXPLAIN_PATH: Final = "/v1/route/explain"
CHAT_PATH: Final = "/v1/chat/completions"
# Translating costs; the first of a long list say what there is to know.
_TRANSLATED: Final = 10


async def answer(
    exchange: Exchange, caller: KeyRecord, table: RouteTable, state: GatewayState
) -> Answer:
    """Raises InvalidBody, UnknownModel, StrategyRefused, PreviousResponseNotFound."""
    asked = _asked(exchange)
    await stored.prepare(asked, caller.tenant_id)
    needs = choosing.read_needs(asked)
    own_key.read(asked, table.policy)
    made = choosing.planned(asked, caller, table, state.routing.standing(), needs, is_real=False)
    shows_prices = await database_threads.run(shows_prices_to, caller.tenant_id)
    bounds = room.bounds_of(
        state.metering.limits,
        caller.tenant_id,
        caller.member_id,
        caller.id,
        made.name,
        made.candidates[:_TRANSLATED],
    )
    left = await database_threads.run(room.asked, bounds)
    shown = explanation(asked, made, left, shows_prices=shows_prices)
    return Answer(200, respond.json_headers(exchange.shown_id), json.dumps(shown))


@dataclass(frozen=True, slots=True)
class _AnyKey:
    """A key that may use every model, and nobody's own login."""

    member_id: None = None

    def allows_model(self, model: str) -> bool:
        return True


def for_staff(*, tenant_id: uuid.UUID, path: str, body: JSONDict, strategy: str) -> JSONDict:
    """What a key of this tenant that may use every model would be told, and whose credentials.
    Reads the database. Raises InvalidBody, UnknownModel, StrategyRefused,
    PreviousResponseNotFound."""
    here = match("POST", EXPLAIN_PATH)
    assert here is not None
    assert here.route is not None
    headers = [(choosing.STRATEGY_HEADER, strategy.encode("latin-1", "replace"))]
    exchange = Exchange(
        route=here.route,
        request_id="explained",
        method="POST",
        path=EXPLAIN_PATH,
        query=b"",
        headers=headers if strategy else (),
        address="",
        body=json.dumps({"path": path, "body": body}),
    )
    asked = _asked(exchange)
    stored.prepare_now(asked, tenant_id)
    made = choosing.planned(
        asked,
        _AnyKey(),
        load_table(tenant_id),
        standing_of_all(clock.now().timestamp()),
        choosing.read_needs(asked),
        is_real=False,
    )
    limits = LimitSnapshot()
    limits.reload()
    first = made.candidates[:_TRANSLATED]
    left = room.asked(room.bounds_of(limits, tenant_id, None, None, made.name, first))
    return explanation(asked, made, left, shows_prices=True, names_credentials=True)


def _asked(exchange: Exchange) -> Exchange:
    """The request that is asked about, as if it had arrived."""
    if json.depth_exceeds(exchange.body):
        raise InvalidBody(f"The body nests deeper than {json.MAX_DEPTH} levels.")
    try:
        given = json.loads_dict(exchange.body)
    except json.InvalidJSON as error:
        raise InvalidBody(f"The body is not a JSON object: {error}.") from None
    path = given.get("path", CHAT_PATH) if "body" in given else CHAT_PATH
    body = given.get("body", given)
    if not isinstance(path, str) or not isinstance(body, dict):
        raise InvalidBody("`path` is a text such as /v1/messages, `body` an object.", param="path")
    found = match("POST", path)
    if found is None or found.route is None or found.route.operation != "chat":
        raise InvalidBody(
            f"{path[:100]!r} is no path that models answer at: try {CHAT_PATH}.", param="path"
        )
    return replace(
        exchange,
        route=found.route,
        path=path,
        body=json.dumps(body),
        model=found.model,
        stream=found.stream,
    )


def explanation(
    asked: Exchange, made: Plan, left: Room, *, shows_prices: bool, names_credentials: bool = False
) -> JSONDict:
    request = _decoded(asked)
    return {
        "object": "route.explanation",
        "model": made.name,
        "strategy": made.strategy,
        "needs": {
            "features": made.needs.names(),
            "prompt_tokens_at_least": made.needs.fewest_tokens or None,
            "prompt_tokens_at_most": made.needs.most_tokens or None,
            "max_output_tokens": made.needs.max_output or None,
            "keeps_conversation": bool(made.needs.session),
            "goes_on_at": _holder(made),
        },
        "problem": request if isinstance(request, str) else None,
        "limits": left.of_request(shows_platform=names_credentials),
        "would_be_tried": [
            _candidate(asked, candidate, made, place, request, shows_prices, names_credentials)
            | _limits(left, candidate.target, place, names_credentials)
            for place, candidate in enumerate(made.candidates)
        ],
        "is_last_resort": made.is_last_resort,
        "rejected": [
            {
                **_named(entry.target),
                "code": entry.code,
                "why": choosing.sentence_of(entry),
                "limit": entry.limit or None,
                "asked": entry.asked or None,
            }
            for entry in made.rejected
        ],
    }


def _holder(made: Plan) -> str | None:
    """Who gave the answer that `previous_response_id` names, where it may be asked now."""
    for candidate in made.candidates[:1]:
        if candidate.target.endpoint.provider_id == made.needs.holder[0]:
            return candidate.target.endpoint.slug
    return None


def _named(target: Target) -> JSONDict:
    return {"provider": target.endpoint.slug, "model": target.spec.id}


def _candidate(
    asked: Exchange,
    candidate: Candidate,
    made: Plan,
    place: int,
    request: Request | str,
    shows_prices: bool,
    names_credentials: bool,
) -> JSONDict:
    target = candidate.target
    is_own = target.endpoint.owner == "tenant"
    cost = expected_nanos(target, made.needs) if is_own or shows_prices else None
    shown: JSONDict = {
        **_named(target),
        "protocol": target.spec.protocol,
        "priority": target.endpoint.priority,
        "context_window": target.spec.context_window or None,
        "max_output_tokens": target.spec.max_output_tokens or None,
        "worst_case_cost_usd": None if cost is None else f"{cost / 1e9:.6f}",
        # Whose key it is is the platform's own matter.
        "credentials": (
            [ref.label for ref in candidate.credentials] if is_own or names_credentials else None
        ),
        "credential_count": len(candidate.credentials),
        # Where the key that would be shown comes from: the first of the request, what is stored,
        # the environment, the registration's own headers.
        "key_source": own_key.shown_source(asked, target, candidate.credentials),
    }
    if place < _TRANSLATED and not isinstance(request, str):
        shown |= _translation(asked, target, request)
    return shown


def _limits(left: Room, target: Target, place: int, is_staff: bool) -> JSONDict:
    """Of a registration of the platform only whether there is room: others use it too."""
    if place >= len(left.late):
        return {}
    may_know = is_staff or target.endpoint.owner == "tenant"
    return {
        "has_room": left.is_left(place),
        "limits": left.of_candidate(place) if may_know else None,
    }


def _translation(asked: Exchange, target: Target, request: Request) -> JSONDict:
    """What is lost on the way, or why it cannot be said there at all."""
    if relay_of(asked, target.spec.protocol) is not None:
        return {"translation": "none", "losses": []}
    codec = registry.upstream(target.spec.protocol)
    try:
        call = codec.encode_request(request, target.spec, request_id=asked.request_id)
    except GatewayError as error:
        return {"translation": "impossible", "why": error.fault().message, "losses": []}
    losses: list[dict[str, Any]] = [
        {"path": loss.path, "code": loss.code.value, "why": loss.why, "is_lossy": loss.is_lossy}
        for loss in call.losses
    ]
    return {"translation": "translated", "losses": losses}


def _decoded(asked: Exchange) -> Request | str:
    """The request as every codec reads it; a text says what is wrong with the body."""
    call = ClientCall(model=asked.model, stream=asked.stream)
    try:
        return client_of(asked).decode_request(json.loads_dict(asked.body), call)
    except GatewayError as error:
        return error.fault().message
    except OverflowError:
        return "A number in the body is too large to be used."
