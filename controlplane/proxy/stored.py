"""Responses that are kept here: `store`, `previous_response_id`, and the paths that ask for them.

Nothing is stored unless the caller says `store: true`, and then by us, sealed: no vendor is asked
to keep anything, so that a conversation may go on with another one.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final
from urllib.parse import parse_qs

from django.conf import settings
from django.db import DatabaseError

from controlplane.kit import clock, json
from controlplane.kit.database_threads import database_threads
from controlplane.kit.json import JSONDict
from controlplane.logs import get_logger
from controlplane.proxy import respond
from controlplane.proxy.errors import InvalidBody, NotInBackground
from controlplane.proxy.exchange import Answer, Exchange
from tenants.responses import services
from tenants.responses.errors import PreviousResponseNotFound, ResponseNotFound
from tenants.responses.services import Kept

log = get_logger(__name__)

_WISHES: Final = (b'"store"', b'"previous_response_id"', b'"background"')
_PATH: Final = re.compile(r"/responses/([^/]+)(?:/(?:cancel|input_items))?\Z")
_LAST_EVENTS: Final = ("response.completed", "response.incomplete")
# Vendors who copy OpenAI's often leave out the line `event:`.
_MARK: Final = re.compile(
    rb"event: ?response\.(?:completed|incomplete)\r?\n"
    rb'|data: ?\{"type": ?"response\.(?:completed|incomplete)"'
)


async def prepare(exchange: Exchange, tenant_id: uuid.UUID) -> Keeping | None:
    """Puts what went before in front of the question. None where nothing is to be kept or
    continued, which for almost every request two looks at its bytes tell."""
    body = _wishes(exchange)
    if body is None:
        return None
    previous = body.get("previous_response_id")
    before = await database_threads.run(_before, tenant_id, previous) if previous else None
    return _continued(exchange, tenant_id, body, before)


def prepare_now(exchange: Exchange, tenant_id: uuid.UUID) -> None:
    """The same for a request that is only explained. Waits for the database."""
    body = _wishes(exchange)
    if body is not None:
        previous = body.get("previous_response_id")
        before = _before(tenant_id, previous) if previous else None
        _continued(exchange, tenant_id, body, before)


def _wishes(exchange: Exchange) -> JSONDict | None:
    """The body of a request that is to be kept, or goes on from one that was."""
    if exchange.route.name != "responses" or not any(w in exchange.body for w in _WISHES):
        return None
    if json.depth_exceeds(exchange.body):
        return None  # refused as such a moment later
    try:
        body = json.loads_dict(exchange.body)
    except json.InvalidJSON:
        return None
    if body.get("background"):
        raise NotInBackground(
            "Responses in the background are not offered here.", param="background"
        )
    previous, store = body.get("previous_response_id"), body.get("store") is True
    if not isinstance(previous, str | None) or not (previous or store):
        return None
    return None if previous and body.get("conversation") else body


def _continued(
    exchange: Exchange, tenant_id: uuid.UUID, body: JSONDict, before: Kept | None
) -> Keeping:
    previous, store = body.get("previous_response_id"), body.get("store") is True
    items = _items(body.get("input"))
    if before is not None:
        exchange.holder = before.holder
        items = [*before.conversation(), *items]
        del body["previous_response_id"]
        body["input"] = [item for item in map(_carried, items) if item is not None]
        body["store"] = False
        exchange.body = json.dumps(body)
    return Keeping(exchange, tenant_id, items, previous, store=store)


def _before(tenant_id: uuid.UUID, response_id: str) -> Kept:
    try:
        return _find_now(tenant_id, response_id)
    except ResponseNotFound:
        raise PreviousResponseNotFound(
            f"Previous response with id {response_id[:200]!r} not found: only answers that were "
            "asked for with `store: true` can be continued, for a while.",
            param="previous_response_id",
        ) from None


def _find_now(tenant_id: uuid.UUID, response_id: str) -> Kept:
    return services.find(tenant_id=tenant_id, response_id=response_id, now=clock.now())


def _forget_now(tenant_id: uuid.UUID, response_id: str) -> None:
    services.forget(tenant_id=tenant_id, response_id=response_id, now=clock.now())


def _keep_now(tenant_id: uuid.UUID, kept: Kept) -> None:
    services.keep(
        tenant_id=tenant_id,
        kept=kept,
        now=clock.now(),
        kept_for=timedelta(hours=settings.STORED_RESPONSES_HOURS),
    )


def _items(value: Any) -> list[JSONDict]:
    """The question as items. What is none is left for the codec to complain about."""
    if isinstance(value, str):
        return [{"type": "message", "role": "user", "content": value}]
    return list(value) if isinstance(value, list) else []


def _carried(item: Any) -> Any:
    """An earlier item as a vendor takes it that never saw it: without the name it had there, and
    reasoning only where it brings its own proof."""
    if not isinstance(item, dict):
        return item
    if item.get("type") == "reasoning":
        return item if item.get("encrypted_content") else None
    return {name: value for name, value in item.items() if name not in ("id", "status")}


class Keeping:
    """What becomes of one answer."""

    def __init__(
        self,
        exchange: Exchange,
        tenant_id: uuid.UUID,
        items: list[JSONDict],
        previous: str | None,
        *,
        store: bool,
    ) -> None:
        self._exchange = exchange
        self._tenant_id = tenant_id
        self._items = items
        self._previous = previous
        self._store = store

    async def noted(self, answer: Answer) -> Answer:
        """The answer, kept before its last byte leaves."""
        if answer.status != 200:
            return answer
        if answer.stream is not None:
            return replace(answer, stream=self._watched(answer.stream))
        response = json.loads_dict(answer.body)
        return replace(answer, body=json.dumps(await self._kept(response)))

    async def _watched(self, stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Pieces are whole events. All but the last one pass as they are."""
        try:
            async for piece in stream:
                found = _MARK.search(piece)
                yield piece if found is None else await self._last(piece, found.start())
        finally:
            close = getattr(stream, "aclose", None)
            if close is not None:
                await close()

    async def _last(self, piece: bytes, start: int) -> bytes:
        head, event = piece[:start], piece[start:]
        data = event.find(b"data:")
        end = event.find(b"\n", data)
        if data < 0 or end < 0:
            return piece
        try:
            value = json.loads_dict(event[data + 5 : end].strip())
        except json.InvalidJSON:
            return piece
        response = value.get("response")
        if value.get("type") not in _LAST_EVENTS or not isinstance(response, dict):
            return piece
        value["response"] = await self._kept(response)
        return head + event[:data] + b"data: " + json.dumps(value) + event[end:]

    async def _kept(self, response: JSONDict) -> JSONDict:
        """The response with what we know of it. Where it could not be kept it says so."""
        shown = {**response, "previous_response_id": self._previous, "store": self._store}
        if not self._store or not isinstance(response.get("id"), str):
            return shown
        try:
            kept = Kept(self._items, shown, _holder(self._exchange))
            await database_threads.run(_keep_now, self._tenant_id, kept)
        except DatabaseError:
            log.exception("a response could not be stored")
            shown["store"] = False
        return shown


def _holder(exchange: Exchange) -> tuple[str, str]:
    """Who answered: its prompt cache is warm, and its reasoning nobody else can read."""
    if not exchange.decision.tries:
        return ("", "")
    made = exchange.decision.tries[-1]
    credential = made.credential.id if made.credential is not None else ""
    return (made.target.endpoint.provider_id, credential)


async def answer(exchange: Exchange, tenant_id: uuid.UUID) -> Answer:
    """GET, DELETE, cancel and input_items."""
    found = _PATH.search(exchange.path)
    response_id = found.group(1) if found is not None else ""
    if exchange.route.name == "delete-response":
        await database_threads.run(_forget_now, tenant_id, response_id)
        body: JSONDict = {"id": response_id, "object": "response", "deleted": True}
        return _json(exchange, body)
    kept = await database_threads.run(_find_now, tenant_id, response_id)
    if exchange.route.name == "response-input":
        return _json(exchange, _page(kept, parse_qs(exchange.query.decode("latin-1"))))
    if exchange.route.name == "cancel-response":
        raise NotInBackground("Only responses in the background can be cancelled.")
    if parse_qs(exchange.query.decode("latin-1")).get("stream", [""])[-1].lower() == "true":
        raise NotInBackground(
            "Only responses in the background can be streamed again.", param="stream"
        )
    return _json(exchange, kept.response)


def _json(exchange: Exchange, body: JSONDict) -> Answer:
    return Answer(200, respond.json_headers(exchange.shown_id), json.dumps(body))


def _page(kept: Kept, query: dict[str, list[str]]) -> JSONDict:
    """Newest first, as OpenAI lists them, unless asked otherwise."""
    stem = str(kept.response.get("id", "")).removeprefix("resp_")
    items = [
        item if "id" in item else {"id": f"msg_{stem}_{number}", **item}
        for number, item in enumerate(kept.input)
    ]
    if query.get("order", ["desc"])[-1] != "asc":
        items.reverse()
    after = query.get("after", [""])[-1]
    names = [str(item["id"]) for item in items]
    if after:
        if after not in names:
            raise InvalidBody(f"There is no item {after[:200]!r} here.", param="after")
        items = items[names.index(after) + 1 :]
    text = query.get("limit", ["20"])[-1]
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 100):
        raise InvalidBody("`limit` must be a whole number from 1 to 100.", param="limit")
    shown = items[: int(text)]
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": len(items) > len(shown),
    }
