"""What a check of a registration finds, with real sockets against servers that are right and
against ones that are wrong in each way, and the one sentence it says."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from controlplane.kit.secret import Secret
from providers.catalog import services
from providers.catalog.models import Provider
from providers.credentials.services import store_key
from providers.errors import NameNotFound
from providers.health import probe as probing
from providers.health.models import Finding, ProviderCheck
from providers.health.probe import Verdict, probe
from providers.health.services import check_provider
from providers.simulator.app import SimulatorApplication
from providers.simulator.world import World
from providers.upstream.client import Timeouts, UpstreamClient
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.members.models import Tenant
from tests import ports
from tests.patience import LONG_SECONDS
from tests.running import served

pytestmark = pytest.mark.django_db

KEY = "sk-canary-5d1e"
LISTING = {"object": "list", "data": [{"id": "m", "object": "model"}]}
Answer = tuple[int, dict[str, str], bytes]
Seen = list[tuple[str, str, dict[str, str]]]


def said(body: object, status: int = 200, kind: str = "application/json") -> Answer:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return status, {"content-type": kind}, data


CHAT = said(
    {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "ok"}}
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
    }
)


def vendor(
    answers: dict[str, Answer | Callable[[dict[str, str]], Answer]], seen: Seen
) -> Callable[..., Awaitable[None]]:
    async def app(scope_: Any, receive: Any, send: Any) -> None:
        if scope_["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        headers = {name.decode(): value.decode() for name, value in scope_["headers"]}
        place = f"{scope_['method']} {scope_['path']}"
        seen.append((scope_["method"], scope_["path"], headers))
        answer = answers.get(place, said({"error": {"message": "no such route"}}, 404))
        status, extra, body = answer(headers) if callable(answer) else answer
        raw = [(name.encode(), value.encode()) for name, value in extra.items()]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": body})

    return app


@pytest.fixture(autouse=True)
def operator(db: None, settings: Any) -> Iterator[None]:
    settings.UPSTREAM_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    with acting_as("command", None, "tests"), scope.platform("tests"):
        yield


@pytest.fixture
def seen() -> Seen:
    return []


@pytest.fixture
def serve(seen: Seen) -> Iterator[Callable[..., str]]:
    with ExitStack() as running:
        yield lambda answers: running.enter_context(served(vendor(answers, seen)))


def registration(url: str, *, model: str = "m", key: str = KEY, **values: Any) -> Provider:
    made = services.register(
        slug="acme", **{"protocol": "openai-completions", "base_url": url, **values}
    )
    if key:
        store_key(provider=made, label="one", secret=Secret(key))
    if model:
        services.add_model(provider=made, upstream_id=model)
    return made


def only_with_key(answer: Answer) -> Callable[[dict[str, str]], Answer]:
    refused = said({"error": {"message": "bad key", "type": "invalid_request_error"}}, 401)
    return lambda headers: answer if headers.get("authorization") == f"Bearer {KEY}" else refused


# --- it works ------------------------------------------------------------------------------------


def test_a_list_that_is_refused_without_a_key_proves_the_key(
    serve: Callable[..., str], seen: Seen
) -> None:
    url = serve({"GET /v1/models": only_with_key(said(LISTING))})
    found = probe(registration(url + "/v1"))
    assert (found.finding, found.models, found.is_ok) == (Finding.WORKS, 1, True)
    assert found.milliseconds is not None
    assert [place for _, place, _ in seen] == ["/v1/models", "/v1/models"]
    assert "authorization" not in seen[1][2]


def test_a_public_list_proves_nothing_so_a_real_call_is_made(
    serve: Callable[..., str], seen: Seen
) -> None:
    answers = {
        "GET /v1/models": said(LISTING),
        "POST /v1/chat/completions": only_with_key(CHAT),
    }
    assert probe(registration(serve(answers) + "/v1")).finding is Finding.WORKS
    assert seen[-1][:2] == ("POST", "/v1/chat/completions")
    Provider.objects.all().delete()
    found = probe(registration(serve(answers) + "/v1", key="sk-wrong"))
    assert found.finding is Finding.KEY_REFUSED
    assert "credential 'one'" in found.sentence


def test_a_public_list_and_nothing_to_call_is_only_reachable(serve: Callable[..., str]) -> None:
    url = serve({"GET /v1/models": said(LISTING)})
    found = probe(registration(url + "/v1", model=""))
    assert (found.finding, found.is_ok) == (Finding.REACHABLE, True)
    assert "without a key" in found.sentence


def test_without_a_list_the_smallest_real_call_is_made(
    serve: Callable[..., str], seen: Seen
) -> None:
    found = probe(registration(serve({"POST /v1/chat/completions": CHAT}) + "/v1"))
    assert found.finding is Finding.WORKS
    assert "answered as 'm'" in found.sentence


def test_a_local_server_needs_no_key(serve: Callable[..., str], seen: Seen) -> None:
    url = serve({"GET /v1/models": said(LISTING)})
    found = probe(registration(url + "/v1", key="", auth_type="none"))
    assert found.finding is Finding.WORKS
    assert len(seen) == 1


def test_a_limit_that_is_reached_is_no_fault_of_the_registration(
    serve: Callable[..., str],
) -> None:
    limited = said({"error": {"message": "slow down"}}, 429)
    found = probe(registration(serve({"GET /v1/models": limited}) + "/v1"))
    assert (found.finding, found.is_ok) == (Finding.BUSY, True)


@pytest.mark.parametrize(
    ("protocol", "path", "model"),
    [
        ("openai-completions", "/openai/v1", "sim-gpt"),
        ("anthropic-messages", "/anthropic", "sim-claude"),
    ],
)
def test_simulated_vendors_pass(protocol: str, path: str, model: str) -> None:
    with served(SimulatorApplication(World())) as url:
        made = registration(url + path, protocol=protocol, model=model, key="sim-key")
        assert probe(made).finding is Finding.WORKS
        store_key(provider=made, label="one", secret=Secret("wrong-key"))
        assert probe(made).finding is Finding.KEY_REFUSED


# --- it does not, and says why -------------------------------------------------------------------

HTML = said(b"<html><title>Welcome</title></html>", kind="text/html")
WRONG = [
    ({"GET /v1/models": said({}, 401)}, Finding.KEY_REFUSED, "refuses the key (401)"),
    ({"GET /v1/models": said({}, 403)}, Finding.FORBIDDEN, "does not allow this (403)"),
    ({"GET /v1/models": said({}, 402)}, Finding.UNPAID, "wants to be paid"),
    (
        {"GET /v1/models": said({"error": {"message": "API key not valid."}}, 400)},
        Finding.KEY_REFUSED,
        "refuses the key (400)",
    ),
    ({}, Finding.WRONG_PATH, "usually want /v1"),
    ({"GET /v1/models": HTML}, Finding.WRONG_PROTOCOL, "not as openai-completions does"),
    ({"GET /v1/models": said([1, 2])}, Finding.WRONG_PATH, "/v1/chat/completions"),
    ({"GET /v1/models": said({"hello": 1})}, Finding.WRONG_PROTOCOL, "choose another protocol"),
    (
        {"GET /v1/models": (302, {"location": "https://elsewhere.example.com"}, b"")},
        Finding.REDIRECTED,
        "never followed",
    ),
    ({"GET /v1/models": said({}, 500)}, Finding.UPSTREAM_ERROR, "failed by itself (500)"),
    (
        {
            "POST /v1/chat/completions": said(
                {"error": {"message": "The model `m` does not exist", "code": "model_not_found"}},
                404,
            )
        },
        Finding.MODEL_MISSING,
        "has no model 'm'",
    ),
    ({"POST /v1/chat/completions": HTML}, Finding.WRONG_PROTOCOL, "not as openai-completions"),
    (
        {"POST /v1/chat/completions": said({"error": {"message": "temperature must be 1"}}, 400)},
        Finding.BAD_REQUEST,
        "It says: temperature must be 1",
    ),
]


@pytest.mark.parametrize(("answers", "finding", "words"), WRONG, ids=lambda value: str(value)[:40])
def test_what_is_wrong_is_said_in_one_sentence(
    serve: Callable[..., str], answers: Any, finding: Finding, words: str
) -> None:
    public = said(LISTING)
    if "GET /v1/models" not in answers and answers:
        answers = {"GET /v1/models": public, **answers}
    found = probe(registration(serve(answers) + "/v1"))
    assert found.finding is finding, found
    assert words in found.sentence
    assert len(found.sentence) <= 500
    assert "\n" not in found.sentence


def test_the_key_is_never_quoted(serve: Callable[..., str]) -> None:
    echo = said({"error": {"message": f"Incorrect value {KEY} and t0psecret given"}}, 422)
    made = registration(
        serve({"GET /v1/models": echo}) + "/v1", secret_headers={"x-team": Secret("t0psecret")}
    )
    found = probe(made)
    assert KEY not in found.sentence
    assert "t0psecret" not in found.sentence
    assert KEY not in repr(found)


def test_a_closed_port_a_wrong_scheme_and_a_server_that_is_none() -> None:
    made = registration(f"http://127.0.0.1:{ports.unused()}")
    assert probe(made).finding is Finding.UNREACHABLE
    Provider.objects.all().delete()
    with served(vendor({}, [])) as url:
        made = registration(url.replace("http:", "https:"))
        assert probe(made).finding is Finding.TLS
    Provider.objects.all().delete()
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()

        def greet() -> None:
            taken, _ = sock.accept()
            with taken:
                taken.recv(65536)
                taken.sendall(b"220 mail.example.com ESMTP\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        found = probe(registration(f"http://127.0.0.1:{sock.getsockname()[1]}"))
        thread.join(LONG_SECONDS)
    assert found.finding is Finding.BROKEN


def test_an_unknown_name_is_told_from_a_closed_door(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(*_: Any, **__: Any) -> Any:
        raise NameNotFound("The provider's host name cannot be resolved.")

    monkeypatch.setattr(UpstreamClient, "send", unknown)
    found = probe(registration("https://no-such-name.example.com"))
    assert found.finding is Finding.NAME_UNKNOWN
    assert "no-such-name.example.com" in found.sentence


def test_silence_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = Timeouts(connect_seconds=1.0, first_byte_seconds=0.2, idle_seconds=0.2)
    monkeypatch.setattr(probing, "TIMEOUTS", quick)
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        found = probe(registration(f"http://127.0.0.1:{sock.getsockname()[1]}"))
    assert found.finding is Finding.TIMEOUT


def test_a_tenants_registration_cannot_ask_private_addresses(
    tenant: Tenant, settings: Any, serve: Callable[..., str], seen: Seen
) -> None:
    url = serve({"GET /v1/models": said(LISTING)})
    settings.UPSTREAM_ALLOWED_NETWORKS_FOR_TENANTS = ["127.0.0.0/8"]
    made = registration(url, tenant_id=tenant.id)
    settings.UPSTREAM_ALLOWED_NETWORKS_FOR_TENANTS = []
    assert probe(made).finding is Finding.ADDRESS_REFUSED
    assert seen == []


def test_what_could_not_work_is_not_asked() -> None:
    made = registration("https://llm.example.com", key="")
    assert probe(made).finding is Finding.NO_CREDENTIAL
    store_key(provider=made, label="one", secret=Secret(KEY))
    made.credentials.update(state="disabled")
    assert probe(Provider.objects.get()).finding is Finding.NO_CREDENTIAL
    Provider.objects.filter(pk=made.pk).update(catalog_id="azure", protocol="", base_url="")
    found = probe(Provider.objects.get())
    assert found.finding is Finding.MISCONFIGURED
    assert "resource" in found.sentence


def test_what_was_found_is_kept(serve: Callable[..., str]) -> None:
    made = registration(serve({"GET /v1/models": only_with_key(said(LISTING))}) + "/v1")
    row, verdict = check_provider(made)
    kept = ProviderCheck.objects.get()
    assert (kept.pk, kept.finding, kept.is_ok) == (row.pk, "works", True)
    assert kept.sentence == verdict.sentence
    assert isinstance(verdict, Verdict)
