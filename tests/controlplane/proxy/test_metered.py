"""No proxied route answers without a hold, and none ends without its row in the ledger."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from controlplane.kit import clock
from controlplane.kit.secret import Secret
from controlplane.proxy import metered, pipeline
from controlplane.proxy.exchange import Exchange
from controlplane.proxy.routes import CHAT, GEMINI, MESSAGES, RESPONSES, ROUTES, Route
from controlplane.proxy.state import GatewayState
from providers.catalog import services
from providers.credentials.services import store_key
from providers.protocols.members import Members
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.keys.services import create_key
from tenants.members.models import Tenant
from tenants.quotas.models import Counter, Limit
from tenants.quotas.services import change_policy, policy_of
from tenants.usage.models import Hold, UsageEvent
from tenants.usage.verify import verify
from tests.controlplane.proxy.conftest import Gateway
from tests.controlplane.proxy.test_passing import PNG, speech

HELLO = [{"role": "user", "content": "Hello"}]
# What a client of each dialect sends; a route of a new dialect needs its own.
BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"messages": HELLO},
    RESPONSES: {"input": "Hello"},
    MESSAGES: {"messages": HELLO, "max_tokens": 50},
    GEMINI: {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]},
}
MODELS = {MESSAGES: "sim-claude"}
# Routes beside conversations, by name: their model and their body.
GEMINI_TEXT = {"parts": [{"text": "Hello"}]}
OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "completions": ("sim-instruct", {"prompt": "Hello"}),
    "embeddings": ("sim-embedding", {"input": "Hello"}),
    "image-generations": ("sim-image", {"prompt": "a cat"}),
    "image-edits": ("sim-image", {"prompt": "a hat"}),
    "speech": ("sim-tts", {"input": "Hello", "voice": "alloy"}),
    "transcriptions": ("sim-whisper", {}),
    "translations": ("sim-whisper", {}),
    "moderations": ("sim-moderation", {"input": "Hello"}),
    "rerank": ("sim-rerank", {"query": "cat", "documents": ["a cat", "a dog"]}),
    "embed-content": ("gemini-embedding-001", {"content": GEMINI_TEXT}),
    "batch-embed-contents": (
        "gemini-embedding-001",
        {"requests": [{"model": "models/gemini-embedding-001", "content": GEMINI_TEXT}]},
    ),
}
BATCH_LINE = (
    b'{"custom_id": "a", "method": "POST", "url": "/v1/chat/completions",'
    b' "body": {"model": "media/sim-gpt", "messages": [{"role": "user", "content": "Hi"}]}}'
)
# Dollars per million tokens.
PRICED = {"sim-gpt+text+tokens=1": "2", "sim-gpt+text+tokens=2": "2", "sim-gpt+text": "3"}
# Vendors that bill by the piece: at `units/…`.
UNIT_PRICES = {
    "sim-image": {"per_image": "0.04"},
    "sim-tts": {"per_million_characters": "15"},
    "sim-whisper": {"per_audio_minute": "0.006"},
    "sim-rerank": {"per_search": "0.002"},
}
FILES = {
    "upload-file": {"file": ("a.jsonl", BATCH_LINE)},
    "image-edits": {"image": ("a.png", PNG, "image/png")},
    "transcriptions": {"file": ("a.wav", speech(), "audio/wav")},
    "translations": {"file": ("a.wav", speech(), "audio/wav")},
}


@pytest.fixture(scope="module")
def registry(registry: dict[str, Any], simulated: tuple[str, Any]) -> dict[str, Any]:
    """Beside the vendors of every test: models that are not for conversations."""
    with acting_as("command", None, "tests", ""), scope.platform("tests"):
        media = services.register(
            slug="media", catalog_id="simulator", endpoint={"origin": simulated[0]}
        )
        store_key(provider=media, label="one", secret=Secret("sim-media"))
        for name in ("sim-rerank", "sim-instruct"):
            services.add_model(provider=media, upstream_id=name)
        services.add_model(provider=media, upstream_id="gemini-embedding-001", protocol=GEMINI)
        for name, amount in PRICED.items():
            facts = {"price": {"input": amount, "output": amount}}
            services.add_model(provider=registry["sim-openai"], upstream_id=name, facts=facts)
        units = services.register(
            slug="units",
            catalog_id="simulator",
            endpoint={"origin": simulated[0]},
            prefix="units",
            force_model_prefix=True,
        )
        store_key(provider=units, label="one", secret=Secret("sim-units"))
        for name, price in UNIT_PRICES.items():
            facts = {"price": {"input": "0", "output": "0", **price}}
            services.add_model(provider=units, upstream_id=name, facts=facts)
    return {**registry, "media": media}


ABOUT_FILES = {"files", "batches", "kept"}


@dataclass
class Caller:
    """A tenant of its own, so that the ledger holds this test's requests alone."""

    tenant: Tenant
    key: str
    client: httpx.Client
    state: GatewayState
    # How many requests the last call needed first.
    before: int = 0

    def __call__(self, route: Route, model: str = "", **more: Any) -> httpx.Response:
        known, body = OTHERS.get(route.name, ("", BODIES[route.dialect]))
        model = model or known or MODELS.get(route.dialect, "sim-gpt")
        path = route.path.replace("{model}", model).replace("{response_id}", "resp_unknown")
        headers = {"Authorization": f"Bearer {self.key}"}
        body = {**body, **more}
        if route.operation in ABOUT_FILES:
            path, body, self.before = self.prepare(route)
        elif "{model}" not in route.path:
            body["model"] = model
        if route.name in FILES:
            return self.client.post(path, data=body, files=FILES[route.name], headers=headers)
        sent = body if route.method == "POST" else None
        return self.client.request(route.method, path, json=sent, headers=headers)

    def prepare(self, route: Route) -> tuple[str, dict[str, Any], int]:
        """What such a route asks about has to be there: its path, its body, and how many requests
        that took."""
        if route.name in ("files", "batches"):
            return route.path, {}, 0
        if route.name == "upload-file":
            return route.path, {"purpose": "batch"}, 0
        headers = {"Authorization": f"Bearer {self.key}"}
        made = self.client.post(
            "/v1/files",
            data={"purpose": "batch"},
            files=FILES["upload-file"],
            headers=headers,
        )
        file_id = made.json()["id"]
        body = {
            "input_file_id": file_id,
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
        }
        if "{batch_id}" not in route.path:
            return route.path.replace("{file_id}", file_id), body, 1
        batch = self.client.post("/v1/batches", json=body, headers=headers)
        return route.path.replace("{batch_id}", batch.json()["id"]), {}, 2

    def ledger(self) -> list[UsageEvent]:
        with scope.platform("tests"):
            assert not Hold.objects.filter(tenant=self.tenant).exists(), "a hold was left"
            return list(UsageEvent.objects.filter(tenant=self.tenant).order_by("sequence"))


@pytest.fixture
def call(gateway: Gateway) -> Iterator[Caller]:
    with acting_as("command", None, "tests", ""), scope.platform("tests"):
        tenant = Tenant.objects.create(slug=f"t{uuid.uuid4().hex[:8]}", name="Metered")
        _, secret = create_key(tenant=tenant, label="proxy")
    gateway.running_state.keys.reload()
    with httpx.Client(base_url=gateway.url, timeout=30) as client:
        yield Caller(tenant, secret.reveal(), client, gateway.running_state)


def route(name: str) -> Route:
    return next(one for one in ROUTES if one.name == name)


@pytest.mark.parametrize("route", ROUTES, ids=lambda one: one.name)
def test_every_route_is_metered(route: Route, call: Caller) -> None:
    answer = call(route)
    assert answer.status_code == (404 if route.operation == "stored" else 200), answer.text
    events = call.ledger()
    if route.operation in metered.FREE_OPERATIONS:
        assert events == []
        return
    *before, event = events
    assert len(before) == call.before
    assert event.operation == route.operation
    assert event.status == 200
    assert event.client_protocol == route.dialect
    assert event.key_id is not None


def test_only_what_asks_no_provider_is_free() -> None:
    free = {"models", "model", "metrics", "explain", "stored", "kept"}
    assert free == metered.FREE_OPERATIONS


class Waits:
    """A hold that remembers how it was settled."""

    def __init__(self) -> None:
        self.is_over = False
        self.said: list[tuple[str, Any]] = []

    async def settle(self, outcome: Any) -> None:
        self.is_over = True
        self.said.append(("settle", outcome))

    def settle_soon(self, outcome: Any) -> None:
        self.is_over = True
        self.said.append(("soon", outcome))


async def pieces(*found: bytes) -> Any:
    for piece in found:
        yield piece


def settling(*found: bytes) -> tuple[Any, Waits, Exchange]:
    exchange = Exchange(route("chat-completions"), "r", "POST", "/", b"", (), "")
    hold = Waits()
    stream = metered._Settling(pieces(*found), exchange, hold)  # type: ignore[arg-type]  # as much of one as is used
    return stream, hold, exchange


async def test_the_last_piece_waits_until_it_is_settled() -> None:
    stream, hold, exchange = settling(b"one", b"two")
    assert await anext(stream) == b"one"
    assert not hold.is_over
    exchange.seen.is_whole = True
    assert await anext(stream) == b"two"
    assert [how for how, _ in hold.said] == ["settle"]
    assert not hold.said[0][1].is_interrupted


@pytest.mark.parametrize("how", ["closed", "dropped", "closed after a piece"])
async def test_a_stream_whose_caller_left_is_settled_also_before_its_first_piece(how: str) -> None:
    stream, hold, _ = settling(b"one", b"two")
    if how == "closed after a piece":
        await anext(stream)
    if how != "dropped":
        await stream.aclose()
    del stream
    assert [said for said, _ in hold.said] == ["soon"]
    assert hold.said[0][1].is_interrupted


async def test_an_operation_that_forgets_to_hold_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def unmetered(*_: Any) -> Any:
        return pipeline.Answer(200)

    monkeypatch.setattr(pipeline, "_serve", unmetered)
    caller = SimpleNamespace(tenant_slug="acme", is_staff=False)
    monkeypatch.setattr(pipeline, "authenticate", lambda *_: caller)
    exchange = Exchange(route("chat-completions"), "r", "POST", "/", b"", (), "")
    with pytest.raises(metered.Unmetered):
        await pipeline.serve(exchange, None)  # type: ignore[arg-type]  # never looked at


@pytest.mark.parametrize("model", ["sim-gpt", "sim-claude"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_usage_is_what_the_vendor_reported(call: Caller, model: str, stream: bool) -> None:
    answer = call(route("chat-completions"), model, stream=stream)
    assert answer.status_code == 200
    answer.read()
    (event,) = call.ledger()
    assert event.usage_source == "reported"
    assert event.input
    assert event.output
    assert (event.is_stream, event.is_interrupted) == (stream, False)
    assert event.model_served == model
    assert event.first_byte_ms is not None or not stream


def test_an_answer_says_what_it_is_charged(call: Caller) -> None:
    with acting_as("command", None, "tests", ""), scope.tenant(call.tenant.id):
        change_policy(tenant=call.tenant, version=1, mark_up=5_000)
    call.state.metering.limits.reload()
    answer = call(route("chat-completions"), "sim-gpt+text+tokens=2")
    (event,) = call.ledger()
    assert event.charge_nanos == event.cost_nanos * 3 // 2 > 0
    assert Decimal(answer.headers["x-route-cost"]) * 10**9 == event.charge_nanos
    assert "x-route-cost" not in call(route("chat-completions"), stream=True).headers


@pytest.mark.parametrize("name", ["chat-completions", "messages"])
def test_a_stream_that_breaks_is_charged_for_what_was_produced(call: Caller, name: str) -> None:
    model = "sim-gpt+cut=3" if name == "chat-completions" else "sim-claude+cut=3"
    call(route(name), model, stream=True).read()
    (event,) = call.ledger()
    assert event.is_interrupted
    assert event.status == 200
    assert event.output is not None or event.estimated_output > 0


def test_what_the_vendor_refuses_costs_nothing(call: Caller) -> None:
    assert call(route("chat-completions"), "sim-gpt+status=503").status_code == 503
    (event,) = call.ledger()
    assert (event.status, event.cost_nanos, event.output) == (503, 0, 0)


@pytest.mark.parametrize(
    ("kind", "period", "status", "words"),
    [
        ("requests", "minute", 429, "requests per minute"),
        ("money", "month", 402, "dollars per month"),
    ],
)
@pytest.mark.parametrize("name", ["chat-completions", "messages"])
def test_refusals_speak_the_callers_dialect(
    call: Caller,
    wait_until: Callable[..., Any],
    kind: str,
    period: str,
    status: int,
    words: str,
    name: str,
) -> None:
    from django.db import transaction

    from tenants.revisions.services import bump

    with scope.platform("tests"), transaction.atomic():
        Limit.objects.create(
            tenant=call.tenant, scope_kind="tenant", kind=kind, period=period, amount=0
        )
        bump("limits")
    answer = wait_until(lambda: found if (found := call(route(name))).status_code != 200 else None)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert words in error["message"]
    assert answer.headers["retry-after"]
    if name == "messages":
        assert error["type"] == "rate_limit_error" if status == 429 else "billing_error"
    assert not Counter.objects.exclude(reserved=0).exists()


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"requests_per_minute": 2}, "2 requests per minute"),
        ({"tokens_per_minute": 1}, "1 tokens per minute"),
        ({"max_tokens_per_request": 10}, "at most 10 tokens"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_registrations_own_limits_hold_and_the_next_provider_is_tried(
    gateway: Gateway,
    call: Caller,
    wait_until: Callable[..., Any],
    limits: dict[str, int],
    words: str,
) -> None:
    slug = f"l{uuid.uuid4().hex[:8]}"
    with acting_as("command", None, "tests", ""), scope.platform("tests"):
        narrow = services.register(
            slug=slug,
            protocol=CHAT,
            base_url=f"{gateway.vendors}/openai/v1",
            limits=limits,
            priority=5,
        )
        store_key(provider=narrow, label="one", secret=Secret("sim-narrow"))
        services.add_model(provider=narrow, upstream_id="sim-gpt", alias=slug)
    name = f"{slug}/{slug}"
    chat = route("chat-completions")
    found = wait_until(
        lambda: answer if (answer := call(chat, name)).status_code not in (200, 404) else None
    )
    # One request that is too large stays so: nobody is told to come again.
    is_too_large = "max_tokens_per_request" in limits
    assert found.status_code == (400 if is_too_large else 429), found.text
    assert words in found.json()["error"]["message"]
    assert ("retry-after" in found.headers) is not is_too_large
    # The same model, which another registration has as well.
    with acting_as("command", None, "tests", ""), scope.platform("tests"):
        services.add_model(
            provider=gateway.providers["sim-openai"], upstream_id="sim-gpt-2", alias=slug
        )
    answer = wait_until(lambda: answer if (answer := call(chat, slug)).status_code == 200 else None)
    assert answer.json()["choices"]


def test_events_name_the_price_they_were_charged_by(call: Caller) -> None:
    for name in PRICED:
        assert call(route("chat-completions"), name).status_code == 200
    events = call.ledger()
    assert {event.price_basis for event in events} == {"price"}
    first, same, other = [event.price_version for event in events]
    assert first == same
    assert first != other
    assert all(re.fullmatch("[0-9a-f]{16}", version) for version in (first, other))


@pytest.mark.parametrize(
    ("name", "model", "more", "nanos"),
    [
        ("image-generations", "sim-image", {"n": 2}, 80_000_000),
        ("speech", "sim-tts", {"input": "Grüße"}, 75_000),
        # A tenth of a second, of which its vendor makes a whole one.
        ("transcriptions", "sim-whisper", {"response_format": "verbose_json"}, 100_000),
        ("rerank", "sim-rerank", {}, 2_000_000),
        # The answer says nothing of how long it was.
        ("transcriptions", "sim-whisper", {"response_format": "text"}, None),
    ],
)
def test_what_is_billed_by_the_piece_has_its_price(
    call: Caller, name: str, model: str, more: dict[str, Any], nanos: int | None
) -> None:
    answer = call(route(name), f"units/{model}", **more)
    assert answer.status_code == 200, answer.text
    (event,) = call.ledger()
    assert event.cost_nanos == nanos
    assert event.price_basis == ("unpriced" if nanos is None else "price")


def agree(call: Caller, *rows: dict[str, Any]) -> None:
    """The tenant's price list, in force at once."""
    with acting_as("command", None, "tests", ""), scope.tenant(call.tenant.id):
        change_policy(
            tenant=call.tenant,
            version=policy_of(call.tenant).version,
            price_list=[
                {**row, "effective_from": (clock.now() + row["effective_from"]).isoformat()}
                for row in rows
            ],
        )
    call.state.metering.limits.reload()


def test_an_agreed_price_is_charged_from_its_moment_on(call: Caller) -> None:
    chat, day = route("chat-completions"), timedelta(days=1)
    old = {"model": "sim-gpt*", "effective_from": -day, "price": {"input": "5", "output": "7"}}
    new = {**old, "price": {"input": "500", "output": "700"}, "effective_from": day}
    agree(call, old, new)
    assert call(chat, "sim-gpt+text").status_code == 200
    # Without a price of the provider's it is charged all the same.
    assert call(chat, "sim-gpt+rate=25").status_code == 200
    before = call.ledger()
    for event in before:
        assert event.charge_nanos == 5_000 * event.input + 7_000 * event.output
    priced, unpriced = before
    assert priced.cost_nanos == 3_000 * (priced.input + priced.output)
    assert unpriced.cost_nanos is None
    # The agreement changes: what was charged stays, what comes is charged anew.
    agree(call, {**new, "effective_from": -day})
    assert call(chat, "sim-gpt+text").status_code == 200
    *still, last = call.ledger()
    assert [event.hash for event in still] == [event.hash for event in before]
    assert last.charge_nanos == 500_000 * last.input + 700_000 * last.output
    mine, theirs = zip(*[e.price_version.split("/") for e in (priced, last)], strict=True)
    assert mine[0] == mine[1]
    assert theirs[0] != theirs[1]
    assert verify(tenant_id=call.tenant.id).findings == []


def test_a_budget_holds_an_agreed_price_by_its_worst_case(call: Caller) -> None:
    dear = {"input": "900000", "output": "900000"}
    agree(call, {"model": "*", "effective_from": -timedelta(days=1), "price": dear})
    with scope.platform("tests"):
        Limit.objects.create(
            tenant=call.tenant, scope_kind="tenant", kind="money", period="month", amount=10**9
        )
    call.state.metering.limits.reload()
    # A dollar is less than what two tokens may cost.
    assert call(route("chat-completions"), "sim-gpt+text").status_code == 402
    assert call.ledger() == []


@pytest.mark.parametrize(
    ("asked", "most"),
    [
        ({}, 8_192),
        ({"max_tokens": 20}, 20),
        ({"max_tokens": 20, "max_completion_tokens": 30}, 30),
        ({"max_output_tokens": 40}, 40),
        ({"generationConfig": {"maxOutputTokens": 50, "candidateCount": 2}}, 100),
        ({"max_tokens": 20, "n": 3}, 60),
        ({"max_tokens": None, "n": None, "generationConfig": None}, 8_192),
        # What is no figure bounds nothing, and a bound beyond the model's is the model's.
        ({"max_tokens": "20", "n": 3}, 8_192),
        ({"max_tokens": -1}, 8_192),
        ({"max_tokens": 10**30}, 8_192),
    ],
)
def test_what_is_held_follows_the_bound_that_was_asked_for(
    asked: dict[str, Any], most: int
) -> None:
    body = json.dumps({"model": "m", "messages": HELLO, **asked}).encode()
    unread = Exchange(route("chat-completions"), "r", "POST", "/", b"", [], "", body=body)
    read = replace(unread, members=Members(body))
    assert metered._most_output(unread, ()) == metered._most_output(read, ()) == most
