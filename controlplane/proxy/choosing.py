"""Where a request may go: reads what it needs, plans, and says why when nothing is left."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

from controlplane.kit import json
from controlplane.kit.errors import FaultKind
from controlplane.proxy import own_key
from controlplane.proxy.errors import DoorError, InvalidBody, LossyTranslation, UnknownModel
from controlplane.proxy.exchange import Exchange
from providers.protocols.codec import UpstreamCall
from providers.protocols.losses import Loss
from providers.protocols.members import Members
from providers.routing.needs import Needs, needs_of
from providers.routing.plan import Plan, Rejected, Standing, nearest_names, plan
from providers.routing.state import Routing
from providers.routing.strategies import STRATEGIES
from providers.routing.table import RouteTable
from tenants.keys.snapshot import KeyRecord

CONVERSATIONS: Final = frozenset({"chat", "count_tokens"})
STRATEGY_HEADER: Final = b"x-route-strategy"
STRICT_HEADER: Final = b"x-translation-strict"
# What clients send to say which conversation a request belongs to.
SESSION_HEADERS: Final = (
    b"x-session-id",
    b"session-id",
    b"session_id",
    b"x-claude-code-session-id",
    b"conversation-id",
    b"conversation_id",
)
# A person has to act: asking again at once helps nobody.
LOCKED_OUT_SECONDS: Final = 60.0
_LONGEST_SESSION: Final = 200
_TOO_DEEP: Final = f"The body nests deeper than {json.MAX_DEPTH} levels."
_model: Final = msgspec.json.Decoder(str | None).decode
_flag: Final = msgspec.json.Decoder(bool | None).decode


class StrategyRefused(DoorError):
    """The request asks for a way of choosing that there is not, or that the tenant does not
    allow."""

    kind = FaultKind.BAD_REQUEST
    code = "strategy_not_allowed"


class CannotServe(DoorError):
    """Nobody who has the model can do what the request needs. `code` is the refusal's own when it
    is the same everywhere."""

    kind = FaultKind.BAD_REQUEST
    code = "no_capable_target"


class QuotaUsedUp(DoorError):
    """Every target waits for the reset that its vendor named."""

    kind = FaultKind.RATE_LIMIT
    code = "upstream_quota_exhausted"


class LockedOut(DoorError):
    """Who has the model is known, but every key for it was refused or taken away."""

    kind = FaultKind.OVERLOADED
    code = "credential_unavailable"


def read_needs(exchange: Exchange) -> Needs:
    """Reads the body once, into exchange.members. Sets exchange.model and .stream where the path
    did not say them. Raises InvalidBody."""
    try:
        body = exchange.members = Members(exchange.body)
        if exchange.model is None:
            _read_model(exchange, body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if json.depth_exceeds(exchange.body):
            raise InvalidBody(_TOO_DEEP) from None
        raise InvalidBody(f"The body is not the JSON this path expects: {error}.") from None
    if body.depth_exceeds():
        raise InvalidBody(_TOO_DEEP)
    needs = needs_of(body, is_streaming=bool(exchange.stream), session=_session(exchange))
    if exchange.holder[0]:
        return msgspec.structs.replace(needs, holder=exchange.holder)
    return needs


def _read_model(exchange: Exchange, body: Members) -> None:
    model = _model(body.text("model") or b"null")
    exchange.stream = bool(_flag(body.text("stream") or b"null"))
    if model is None:
        raise InvalidBody("The body is not the JSON this path expects: it has no field `model`.")
    exchange.model = model


def decide(exchange: Exchange, caller: KeyRecord, table: RouteTable, routing: Routing) -> Plan:
    """Raises InvalidBody, UnknownModel, StrategyRefused, CannotServe, QuotaUsedUp."""
    is_conversation = exchange.route.operation in CONVERSATIONS
    if is_conversation:
        needs = read_needs(exchange)
    elif json.depth_exceeds(exchange.body):
        raise InvalidBody(_TOO_DEEP)
    else:
        # Other endpoints read their own bodies, and know themselves who can have them.
        needs = Needs()
    exchange.decision.tenant_id = caller.tenant_id
    exchange.decision.started_at = time.monotonic()
    kind = "chat" if is_conversation else ""
    own_key.read(exchange, table.policy)
    routing = exchange.apart or routing
    made = planned(exchange, caller, table, routing.standing(), needs, kind=kind)
    exchange.decision.planning_seconds = time.monotonic() - exchange.decision.started_at
    exchange.decision.plan = made
    if not made.candidates:
        raise _refusal(made, routing.now())
    return made


class Asker(Protocol):
    """Who asks, as far as it matters for where a request may go."""

    @property
    def member_id(self) -> uuid.UUID | None: ...

    def allows_model(self, model: str) -> bool: ...


def planned(
    exchange: Exchange,
    caller: Asker,
    table: RouteTable,
    standing: Standing,
    needs: Needs,
    *,
    kind: str = "chat",
    is_real: bool = True,
) -> Plan:
    """Raises UnknownModel, StrategyRefused."""
    assert exchange.model is not None
    made = plan(
        exchange.model,
        table,
        caller.allows_model,
        standing,
        needs=needs,
        asked_strategy=_asked_strategy(exchange, table),
        kind=kind,
        member_id=caller.member_id,
        has_own_key=exchange.own_key is not None,
        is_real=is_real,
    )
    if not made.is_known:
        near = nearest_names(exchange.model, table, caller.allows_model)
        hint = f" Did you mean {', '.join(near)}?" if near else ""
        raise UnknownModel(
            f"The model {exchange.model[:200]!r} does not exist or this key may not use it.{hint}",
            param="model",
        )
    return made


def check_losses(exchange: Exchange, call: UpstreamCall) -> None:
    """Counts what a translation changes. Raises LossyTranslation where it loses something and the
    caller asked for none of that: another target may speak the caller's dialect."""
    exchange.decision.losses = len(call.losses)
    lost = forbidden(exchange, call.losses)
    if lost:
        raise LossyTranslation(
            f"In strict mode nothing may be lost, and {lost[0].path} would be: {lost[0].why}",
            param=lost[0].path,
        )


def forbidden(exchange: Exchange, losses: Sequence[Loss]) -> list[Loss]:
    """Those that the caller allows none of: in strict mode, what is really lost."""
    if exchange.header(STRICT_HEADER).lower() not in ("1", "true", "strict"):
        return []
    return [loss for loss in losses if loss.is_lossy]


def _session(exchange: Exchange) -> str:
    for name, value in exchange.headers:
        if name in SESSION_HEADERS and value:
            return value[:_LONGEST_SESSION].decode("latin-1")
    return ""


def _asked_strategy(exchange: Exchange, table: RouteTable) -> str:
    asked = exchange.header(STRATEGY_HEADER)
    if not asked:
        return ""
    allowed = table.policy.allowed_strategies or frozenset(STRATEGIES)
    if asked not in allowed:
        raise StrategyRefused(
            f"The header x-route-strategy may be {', '.join(sorted(allowed))}; "
            f"it was {asked[:40]!r}.",
            param="x-route-strategy",
        )
    return asked


def _refusal(made: Plan, now: float) -> DoorError:
    free_at = made.first_free()
    if free_at is not None:
        return QuotaUsedUp(
            "The quota of every provider of this model is used up. Try again when the time in "
            "Retry-After is over.",
            retry_after_seconds=max(1.0, free_at - now),
        )
    codes = {entry.code for entry in made.rejected}
    if codes == {"no_credential"}:
        return LockedOut(
            f"No provider of {made.name[:200]!r} has a credential that works. Ask whoever manages "
            "your providers to renew it.",
            retry_after_seconds=LOCKED_OUT_SECONDS,
        )
    refusal = CannotServe(
        f"No provider of {made.name[:200]!r} can serve this request: "
        f"{'; '.join(dict.fromkeys(map(sentence_of, made.rejected)))}."
    )
    if len(codes) == 1:
        refusal.code = codes.pop()
        if refusal.code == "request_too_large":
            refusal.kind = FaultKind.TOO_LARGE
    return refusal


_SENTENCES: Final = {
    "wrong_kind": "it is a model for {detail}, not for chat",
    "context_too_small": "the prompt has at least {asked:.0f} tokens and its window {limit:.0f}",
    "output_too_small": "it answers with at most {limit:.0f} tokens and {asked:.0f} are asked for",
    "request_too_large": "it takes at most {limit:.0f} bytes and the request has {asked:.0f}",
    "too_many_images": "it reads at most {limit:.0f} images and the request has {asked:.0f}",
    "no_streaming": "it does not stream",
    "no_functions": "it calls no functions",
    "no_vision": "it reads no images",
    "no_documents": "it reads no documents",
    "no_audio": "it hears no audio",
    "no_video": "it sees no video",
    "no_structured_output": "it keeps to no schema",
    "no_reasoning": "it does not think, and another one does",
    "resting": "it rests",
    "no_credential": "its credential does not work",
    "takes_no_own_key": "it takes no key of the caller's own",
    "own_key_ambiguous": "your key goes to one provider only, so name it: {detail}",
}


def sentence_of(entry: Rejected) -> str:
    """Why this target is not asked, for people."""
    words = _SENTENCES[entry.code]
    return words.format(limit=entry.limit, asked=entry.asked, detail=entry.detail)
