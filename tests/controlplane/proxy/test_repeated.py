"""Idempotency-Key on proxied requests, both lanes: asked once, charged once (bar R18)."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
import openai
import pytest

from controlplane.kit import clock
from providers.catalog import services
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.idempotency.models import RememberedAnswer
from tenants.keys.services import create_key
from tenants.members.models import Tenant
from tenants.usage.models import Hold, UsageEvent
from tests.controlplane.proxy.conftest import FACTS, Gateway

HELLO = [{"role": "user", "content": "Hello"}]
CHAT = "/v1/chat/completions"
WaitUntil = Callable[..., Any]

# Beside the models of every test: refused by the vendor for good, for now, and long answers.
MORE = ("status=400", "status=429", "text+tokens=400", "text+tokens=40+rate=25")


@pytest.fixture(scope="module")
def registry(registry: dict[str, Any]) -> dict[str, Any]:
    with acting_as("command", None, "tests", ""), scope.platform("tests"):
        for option in MORE:
            services.add_model(
                provider=registry["sim-openai"], upstream_id=f"sim-gpt+{option}", facts=FACTS
            )
    return registry


@dataclass
class Caller:
    """A tenant of its own, so that ledger and rows hold this test's requests alone."""

    gateway: Gateway
    tenant: Tenant
    key: str

    def __call__(
        self, body: dict[str, Any], key: str | None = "k-1", path: str = CHAT, url: str = ""
    ) -> httpx.Response:
        return httpx.post(
            (url or self.gateway.url) + path, json=body, headers=self.headers(key), timeout=60
        )

    def headers(self, key: str | None) -> dict[str, str]:
        found = {"Authorization": f"Bearer {self.key}"}
        return found if key is None else {**found, "Idempotency-Key": key}

    @property
    def asked(self) -> int:
        """How often a vendor was asked."""
        return len(self.gateway.world.requests)

    def ledger(self) -> list[UsageEvent]:
        with scope.platform("tests"):
            return list(UsageEvent.objects.filter(tenant=self.tenant).order_by("sequence"))

    def rows(self) -> list[RememberedAnswer]:
        with scope.platform("tests"):
            return list(RememberedAnswer.objects.filter(tenant=self.tenant))

    def is_idle(self) -> bool:
        with scope.platform("tests"):
            return not Hold.objects.filter(tenant=self.tenant).exists()


def made_caller(gateway: Gateway) -> Caller:
    with acting_as("command", None, "tests", ""), scope.platform("tests"):
        tenant = Tenant.objects.create(slug=f"t{uuid.uuid4().hex[:8]}", name="Repeats")
        _, secret = create_key(tenant=tenant, label="proxy")
    gateway.running_state.keys.reload()
    return Caller(gateway, tenant, secret.reveal())


@pytest.fixture
def call(gateway: Gateway) -> Caller:
    return made_caller(gateway)


def question(model: str = "sim-gpt", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": HELLO, "max_tokens": 50, **more}


def is_replay(answer: httpx.Response) -> bool:
    return answer.headers.get("idempotent-replayed") == "true"


ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "whole": (CHAT, question()),
    "stream": (CHAT, question(stream=True)),
    "translated stream": (CHAT, question("sim-claude", stream=True)),
    "messages": ("/v1/messages", question("sim-claude")),
    "messages stream": ("/v1/messages", question("sim-claude", stream=True)),
    "responses stream": ("/v1/responses", {"model": "sim-gpt", "input": "Hello", "stream": True}),
    "responses kept": (
        "/v1/responses",
        {"model": "sim-gpt", "input": "Hello", "stream": True, "store": True},
    ),
    "gemini array": (
        "/v1beta/models/sim-claude:streamGenerateContent",
        {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]},
    ),
}


@pytest.mark.parametrize("name", ASKED)
def test_a_repetition_gets_the_same_bytes_and_costs_nothing(call: Caller, name: str) -> None:
    path, body = ASKED[name]
    first = call(body, path=path)
    assert first.status_code == 200, first.text
    assert not is_replay(first)
    again = call(body, path=path)
    assert again.status_code == 200
    assert is_replay(again)
    assert again.content == first.content
    for header in ("content-type", "cache-control", "x-accel-buffering"):
        assert again.headers.get(header) == first.headers.get(header)
    # A stream comes as one.
    assert again.headers.get("transfer-encoding") == first.headers.get("transfer-encoding")
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    assert call.asked == 1
    (event,) = call.ledger()
    assert event.status == 200
    (row,) = call.rows()
    assert b"Hello" not in bytes(row.answer or b"")


def test_without_the_header_each_request_is_its_own(call: Caller) -> None:
    for _ in range(2):
        assert not is_replay(call(question(), key=None))
    assert call.asked == 2
    assert len(call.ledger()) == 2
    assert call.rows() == []


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_thirty_two_at_once_are_one(call: Caller, stream: bool) -> None:
    callers = 32
    body = question("sim-gpt+rate=25", stream=stream)
    together = threading.Barrier(callers)

    def ask(_: int) -> httpx.Response:
        together.wait(60)
        return call(body)

    with ThreadPoolExecutor(callers) as pool:
        answers = list(pool.map(ask, range(callers)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert sum(not is_replay(answer) for answer in answers) == 1
    assert call.asked == 1
    assert len(call.ledger()) == 1


def test_one_who_comes_late_hears_it_from_its_start(call: Caller) -> None:
    body = question("sim-gpt+text+tokens=40+rate=25", stream=True)
    url, headers = call.gateway.url + CHAT, call.headers("k-1")
    with httpx.stream("POST", url, json=body, headers=headers, timeout=60) as first:
        pieces = first.iter_raw()
        begun = next(pieces)
        late = call(body)
        content = begun + b"".join(pieces)
    assert is_replay(late)
    assert late.content == content
    assert content.rstrip().endswith(b"[DONE]")
    assert len(call.ledger()) == 1


@pytest.mark.parametrize("is_whole", [False, True], ids=["under way", "answered"])
def test_another_body_under_the_key_is_refused(call: Caller, is_whole: bool) -> None:
    body = question("sim-gpt+rate=25", stream=True)
    url, headers = call.gateway.url + CHAT, call.headers("k-1")
    with httpx.stream("POST", url, json=body, headers=headers, timeout=60) as first:
        pieces = first.iter_raw()
        next(pieces)
        if is_whole:
            list(pieces)
        other = call(question("sim-gpt+rate=25", stream=True, temperature=0))
    assert other.status_code == 422
    error = other.json()["error"]
    assert error["code"] == "idempotency_key_reused"
    assert error["param"] == "Idempotency-Key"
    assert "use a new key" in error["message"]
    assert call.asked == 1


def test_refusals_speak_the_callers_dialect(call: Caller) -> None:
    path = "/v1/messages"
    assert call(question("sim-claude"), path=path).status_code == 200
    other = call(question("sim-claude", temperature=0), path=path)
    assert other.status_code == 422
    assert other.json()["type"] == "error"
    path = "/v1beta/models/sim-claude:generateContent"
    contents = {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}
    assert call(contents, path=path).status_code == 200
    contents["contents"].append(contents["contents"][0])
    assert call(contents, path=path).json()["error"]["status"]


def test_official_sdks_find_their_answer_again(call: Caller) -> None:
    base_url = f"{call.gateway.url}/v1"
    with openai.OpenAI(base_url=base_url, api_key=call.key, max_retries=0) as client:
        create = client.chat.completions.create
        keyed = {"Idempotency-Key": "sdk"}
        ids = {
            create(model="sim-gpt", messages=HELLO, extra_headers=keyed).id
            for _ in range(3)  # type: ignore[call-overload]
        }
        assert len(ids) == 1
        with pytest.raises(openai.UnprocessableEntityError):
            create(model="sim-claude", messages=HELLO, extra_headers=keyed)  # type: ignore[call-overload]


def test_keys_of_others_never_meet(call: Caller) -> None:
    stranger = made_caller(call.gateway)
    with acting_as("command", None, "tests", ""), scope.platform("tests"):
        _, secret = create_key(tenant=call.tenant, label="second")
    call.gateway.running_state.keys.reload()
    colleague = Caller(call.gateway, call.tenant, secret.reveal())
    for one in (call, stranger, colleague):
        assert not is_replay(one(question()))
    assert call.asked == 3
    assert not is_replay(stranger(question(temperature=0), key="k-2"))
    # Nor do those of different endpoints.
    assert not is_replay(call(question("sim-claude"), path="/v1/messages"))


@pytest.mark.parametrize("key", ["", "a b", "ключ".encode().decode("latin-1"), "x" * 256])
def test_what_is_no_key_is_refused(call: Caller, key: str) -> None:
    headers = [
        (b"authorization", f"Bearer {call.key}".encode()),
        (b"idempotency-key", key.encode("latin-1")),
    ]
    answer = httpx.post(call.gateway.url + CHAT, json=question(), headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_idempotency_key"
    assert call.asked == 0


def test_what_failed_is_asked_again(call: Caller) -> None:
    for model, status in (("sim-gpt+status=503", 503), ("sim-gpt+status=429", 429)):
        for _ in range(2):
            answer = call(question(model), key=model)
            assert answer.status_code == status, answer.text
            assert not is_replay(answer)
    # Broken off in the middle: what came is charged, and nothing is kept.
    for _ in range(2):
        answer = call(question("sim-gpt+cut=3", stream=True), key="cut")
        assert answer.status_code == 200
        assert not is_replay(answer)
    # Refused before anything was sent: the key is free, also for what was meant.
    assert call(question("nobody"), key="typo").status_code == 404
    assert call(question(), key="typo").status_code == 200
    assert len(call.rows()) == 1


def test_a_refusal_of_the_vendor_is_its_answer(call: Caller) -> None:
    first = call(question("sim-gpt+status=400"))
    assert first.status_code == 400
    again = call(question("sim-gpt+status=400"))
    assert is_replay(again)
    assert (again.status_code, again.content) == (400, first.content)
    assert call.asked == 1


def test_after_its_time_it_begins_anew(call: Caller) -> None:
    first = call(question())
    with scope.platform("tests"):
        kept = RememberedAnswer.objects.filter(tenant=call.tenant)
        assert kept.get().expires_at > clock.now() + timedelta(hours=23)
        kept.update(expires_at=clock.now())
    again = call(question(temperature=0))
    assert again.status_code == 200
    assert not is_replay(again)
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    assert call.asked == 2


@pytest.fixture
def small(call: Caller) -> Iterator[None]:
    under_way = call.gateway.running_state.under_way
    usual, under_way.limit_bytes = under_way.limit_bytes, 2_000
    yield
    under_way.limit_bytes = usual


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_what_is_too_large_is_not_charged_twice(call: Caller, small: None, stream: bool) -> None:
    body = question("sim-gpt+text+tokens=400", stream=stream, max_tokens=500)
    unlimited = call(body, key=None)
    first = call(body)
    assert first.status_code == 200
    # Whole for its own caller, however small the limit.
    assert abs(len(first.content) - len(unlimited.content)) < 100
    again = call(body)
    assert again.status_code == 422
    assert again.json()["error"]["code"] == "idempotency_outcome_too_large"
    assert call.asked == 2
    assert len(call.ledger()) == 2


def leave_in_the_middle(call: Caller, body: dict[str, Any]) -> bytes:
    url, headers = call.gateway.url + CHAT, call.headers("k-1")
    with httpx.stream("POST", url, json=body, headers=headers, timeout=60) as first:
        return next(first.iter_raw())


def test_who_left_finds_the_whole_answer(call: Caller, wait_until: WaitUntil) -> None:
    body = question("sim-gpt+text+tokens=40+rate=25", stream=True)
    begun = leave_in_the_middle(call, body)
    again = call(body)
    assert is_replay(again)
    assert again.content.startswith(begun)
    assert again.content.rstrip().endswith(b"[DONE]")
    assert call.asked == 1
    (event,) = call.ledger()
    assert not event.is_interrupted


def test_an_answer_nobody_waits_for_goes_on_for_a_while_only(
    call: Caller, wait_until: WaitUntil
) -> None:
    under_way = call.gateway.running_state.under_way
    usual, under_way.finish_seconds = under_way.finish_seconds, 0
    try:
        # It never ends by itself.
        leave_in_the_middle(call, question("sim-gpt+stall=2", stream=True))
        wait_until(lambda: call.ledger(), seconds=60, what="it is settled")
    finally:
        under_way.finish_seconds = usual
    (event,) = call.ledger()
    assert event.is_interrupted
    wait_until(lambda: not call.rows(), seconds=60, what="its key is free")
    wait_until(lambda: not call.gateway.world.answering, seconds=60, what="the vendor is left")
    # What broke off is no outcome: the same key asks anew.
    assert not is_replay(call(question()))


def test_a_claim_is_waited_for_only_so_long_and_then_taken_over(
    call: Caller, wait_until: WaitUntil
) -> None:
    with scope.platform("tests"):
        assert call(question()).status_code == 200
        # As a process leaves it that was killed while it answered.
        kept = RememberedAnswer.objects.filter(tenant=call.tenant)
        dead = {"answer": None, "claim": uuid.uuid4()}
        kept.update(**dead, claimed_until=clock.now() + timedelta(hours=1))
    under_way = call.gateway.running_state.under_way
    usual, under_way.wait_seconds = under_way.wait_seconds, 0.0
    try:
        waiting = call(question())
    finally:
        under_way.wait_seconds = usual
    assert waiting.status_code == 409
    assert waiting.json()["error"]["code"] == "idempotency_in_progress"
    assert int(waiting.headers["retry-after"]) >= 1
    with scope.platform("tests"):
        kept.update(claimed_until=clock.now())
    anew = call(question())
    assert anew.status_code == 200
    assert not is_replay(anew)
    assert is_replay(call(question()))
    assert call.asked == 2
    assert len(call.ledger()) == 2
