"""Bars N5 and N7: of a caller's request only what the dialect needs travels on, and of a vendor's
answer only what callers need comes back. Callers name no host, header, credential or URL."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from controlplane.kit.secret import Secret
from providers.catalog import services
from providers.credentials.services import store_key
from tenants import scope
from tenants.audit.actor import acting_as
from tests.patience import LONG_SECONDS
from tests.running import served
from tests.security.arena import VENDOR_KEY, Arena, raw
from tests.security.dialects import CHAT, DIALECTS, GEMINI, MESSAGES, RESPONSES, Dialect
from tests.security.requests import head

# All that any simulated vendor may ever be sent by us, whoever calls.
TRAVELS = {
    *("host", "content-type", "content-length", "accept", "anthropic-version", "anthropic-beta"),
    *("authorization", "x-api-key", "x-goog-api-key", "openai-beta"),
}
# Marked, so that a part of one is found wherever it turns up.
FOREIGN = {
    "Host": "canary-host.example",
    "Cookie": "session=canary-cookie",
    "Proxy-Authorization": "Basic canary-proxy-authorization",
    "X-Forwarded-For": "203.0.113.7",
    "X-Forwarded-Host": "canary-forwarded-host.example",
    "X-Forwarded-Proto": "canary-proto",
    "X-Real-IP": "203.0.113.8",
    "Forwarded": "for=203.0.113.9;host=canary-forwarded.example",
    "Via": "1.1 canary-via",
    "TE": "trailers, canary-te",
    "Trailer": "canary-trailer",
    "Upgrade": "canary-upgrade",
    "Keep-Alive": "timeout=5, canary-keep-alive",
    "Proxy-Connection": "canary-proxy-connection",
    "X-HTTP-Method-Override": "DELETE",
    "X-Original-URL": "/canary-original-url",
    "X-Rewrite-URL": "/canary-rewrite-url",
    "Origin": "https://canary-origin.example",
    "Referer": "https://canary-referer.example/",
    "User-Agent": "canary-agent",
    "OpenAI-Organization": "canary-organization",
    "OpenAI-Project": "canary-project",
    "X-Goog-User-Project": "canary-user-project",
    "X-Stainless-Lang": "canary-stainless",
    "X-Upstream-URL": "https://canary-upstream.example",
    "X-Base-URL": "https://canary-base.example",
    "X-Sim-Script": "status=418",
    "Helicone-Auth": "Bearer canary-helicone",
    "X-Amz-Security-Token": "canary-amz",
    "Expect-CT": "canary-expect-ct",
    "X-Request-ID": "canary-request-id",
    "Traceparent": "00-canary-traceparent",
    "Baggage": "canary=baggage",
    "Idempotency-Key": "canary-idempotency",
    "Range": "bytes=0-canary",
    "If-None-Match": '"canary-etag"',
}
CONNECTION = "Connection: close, X-Listed-Hop, canary-listed"


def sent(arena: Arena, dialect: Dialect, model: str, *lines: str, query: str = "") -> Any:
    path, body = dialect.ask(model)
    content = json.dumps(body).encode()
    joint = "&" if "?" in path else "?"
    path += joint + query if query else ""
    data = head(arena, path, f"content-length: {len(content)}", *lines)
    for fixed in (b"host: 127.0.0.1\r\n", b"connection: close\r\n"):
        if lines:
            data = data.replace(fixed, b"", 1)
    return raw(arena.address, data + content)


def clean(arena: Arena, *names: str) -> None:
    """What the vendors saw holds nothing of the caller's, and our credential as it is stored."""
    assert arena.world.requests
    home = arena.vendors.removeprefix("http://")
    for seen in arena.world.requests:
        assert set(seen.headers) <= TRAVELS, set(seen.headers) - TRAVELS
        assert seen.headers["host"] == home
        everything = f"{seen.path}?{seen.query} {seen.headers} {seen.body}"
        for mark in ("canary", "203.0.113.", arena.key, *names):
            assert mark not in everything, (mark, everything)
        for byte in ("\r", "\n", "\0"):
            assert byte not in seen.path + seen.query + "".join(seen.headers.values())


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_nothing_of_the_callers_connection_travels_on(arena: Arena, dialect: Dialect) -> None:
    # Django asks for a Host it knows; the other lane asks for none.
    host = {"Host": "localhost"} if arena.lane == "drf" else {}
    for model in ("sim-gpt", "sim-gpt-responses", "sim-claude", "sim-gemini", "sim-nova"):
        # A key counts for one body; what is asked for is another one each time.
        once = {"Idempotency-Key": f"canary-{dialect.name}-{model}"}
        lines = [f"{name}: {value}" for name, value in {**FOREIGN, **host, **once}.items()]
        answer = sent(arena, dialect, model, *lines, CONNECTION, "X-Listed-Hop: canary-hop")
        assert answer.status == 200, (model, answer)
        assert len(arena.world.requests) == 1
        if model != "sim-nova":  # signed: its headers are the signature's
            clean(arena)
        else:
            (seen,) = arena.world.requests
            assert "canary" not in f"{seen.path} {seen.query} {seen.headers} {seen.body}"
        arena.world.reset()


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_a_query_does_not_travel_on(arena: Arena, dialect: Dialect) -> None:
    for query in (
        "base_url=http://canary.example&api_base=canary&model=canary",
        "%0d%0aX-Injected:%20canary",
        "a=canary%00b",
    ):
        answer = sent(arena, dialect, dialect.own_model, query=query)
        assert answer.status == 200, answer
    clean(arena)


ODD = ("\r\nx-injected: canary", "\nx-injected: canary", "\0", "\x7f", "\r", "é", "a" * 2000)


def test_line_breaks_in_values_that_do_travel(arena: Arena) -> None:
    """Model names in paths and bodies, versions and betas in headers: what is odd goes nowhere."""
    with httpx.Client(base_url=arena.url, headers=arena.bearer()) as client:
        for odd in ODD:
            for dialect in DIALECTS:
                for stem in ("sim-gemini", "sim-gemini+", "sim-gpt+", "vendors/sim-claude+"):
                    path, body = dialect.ask(stem + odd)
                    if dialect is GEMINI:
                        quoted = httpx.QueryParams({"q": stem + odd}).__str__()[2:]
                        path = path.replace(stem + odd, quoted.replace("+", "%20"))
                    assert client.post(path, json=body).status_code < 500, (dialect, stem, odd)
            for name in ("anthropic-version", "anthropic-beta", "openai-beta"):
                path, body = MESSAGES.ask("sim-claude")
                value = odd.encode("latin-1", "replace")
                content = json.dumps(body).encode()
                data = head(arena, path, f"content-length: {len(content)}", "X: Y")
                data = data.replace(b"X: Y", name.encode() + b": 2023-06-01" + value)
                assert raw(arena.address, data + content).status < 500
    for seen in arena.world.requests:
        assert "x-injected" not in seen.headers
        assert set(seen.headers) <= TRAVELS
        for byte in ("\r", "\n", "\0", "%0d", "%0a", "%00", "%0D", "%0A"):
            assert byte not in seen.path + seen.query + "".join(seen.headers.values()), seen


NAMING: dict[str, Any] = {
    "base_url": "http://canary.example/v1",
    "api_base": "http://canary.example/v1",
    "api_key": "canary-api-key",
    "url": "http://canary.example/",
    "endpoint": "http://canary.example/",
    "host": "canary.example",
    "headers": {"X-Canary": "canary"},
    "extra_headers": {"X-Canary": "canary"},
    "extra_query": {"canary": "1"},
    "organization": "canary",
    "custom_llm_provider": "canary",
    "provider": {"order": ["canary"], "base_url": "http://canary.example"},
    "proxy": "http://canary.example:3128",
    "timeout": 0.0001,
    "mock_response": "canary",
    "fallbacks": ["http://canary.example"],
    "user_api_key": "canary",
    "metadata": {"headers": {"X-Canary": "canary"}, "api_base": "http://canary.example"},
}


def test_a_body_names_no_upstream_header_or_credential(arena: Arena) -> None:
    """Unknown fields may travel in a body of the same dialect; they change nothing of how."""
    with httpx.Client(base_url=arena.url, headers=arena.bearer()) as client:
        for dialect in DIALECTS:
            for model in ("sim-gpt", "sim-claude"):
                path, body = dialect.ask(model)
                for name, value in NAMING.items():
                    assert client.post(path, json={**body, name: value}).status_code < 500, name
    home = arena.vendors.removeprefix("http://")
    assert arena.world.requests
    for seen in arena.world.requests:
        assert set(seen.headers) <= TRAVELS
        assert seen.headers["host"] == home
        assert "canary" not in f"{seen.path} {seen.query} {seen.headers}"
    assert len({seen.headers.get("authorization") for seen in arena.world.requests}) <= 2


# --- URLs in content -----------------------------------------------------------------------------


@pytest.fixture
def listener() -> Iterator[tuple[str, list[object]]]:
    """An address nobody may visit, and who did."""
    visits: list[object] = []
    server = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                visitor, address = server.accept()
            except OSError:
                return
            visits.append(address)
            visitor.close()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.getsockname()[1]}/picture.png", visits
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join(LONG_SECONDS)


def with_url(dialect: Dialect, model: str, url: str) -> list[dict[str, Any]]:
    body = dialect.body(model, "Look", False)
    text = {"type": "text", "text": "Look"}
    match dialect.name:
        case "chat":
            parts = [{"type": "image_url", "image_url": {"url": url}}]
            parts.append({"type": "file", "file": {"file_data": url, "filename": "a.pdf"}})
            made = [{"messages": [{"role": "user", "content": [text, part]}]} for part in parts]
        case "responses":
            parts = [
                {"type": "input_image", "image_url": url, "detail": "auto"},
                {"type": "input_file", "file_url": url},
            ]
            made = [{"input": [{"role": "user", "content": [part]}]} for part in parts]
        case "messages":
            source = {"type": "url", "url": url}
            parts = [{"type": kind, "source": source} for kind in ("image", "document")]
            made = [{"messages": [{"role": "user", "content": [text, part]}]} for part in parts]
            made.append({"mcp_servers": [{"type": "url", "url": url, "name": "x"}]})
        case _:
            part = {"fileData": {"fileUri": url, "mimeType": "image/png"}}
            made = [{"contents": [{"role": "user", "parts": [part]}]}]
    return [{**body, **change} for change in made]


def test_urls_in_content_are_not_visited(arena: Arena, listener: tuple[str, list[object]]) -> None:
    url, visits = listener
    asked = 0
    with httpx.Client(base_url=arena.url, headers=arena.bearer()) as client:
        for dialect in DIALECTS:
            for model in ("sim-gpt", "sim-claude", "sim-gemini", "sim-nova"):
                path, _ = dialect.ask(model)
                for body in with_url(dialect, model, url):
                    assert client.post(path, json=body).status_code < 500
                    asked += 1
    assert asked >= 4 * 7
    assert not visits
    # The listener does count.
    with pytest.raises(httpx.HTTPError):
        httpx.get(url)
    assert visits


# --- what comes back -----------------------------------------------------------------------------

LEFT_BEHIND = {
    b"set-cookie": b"__cf_bm=canary-cookie; HttpOnly",
    b"openai-organization": b"canary-organization",
    b"openai-project": b"canary-project",
    b"anthropic-organization-id": b"canary-organization-id",
    b"x-request-id": b"canary-request-id",
    b"request-id": b"canary-request-id",
    b"cf-ray": b"canary-ray",
    b"via": b"1.1 canary-via",
    b"x-envoy-upstream-service-time": b"canary",
    b"location": b"http://canary.example/",
    b"link": b"<http://canary.example/>; rel=preload",
    b"refresh": b"0;url=http://canary.example",
    b"www-authenticate": b"Basic realm=canary",
    b"access-control-allow-origin": b"canary",
    b"content-security-policy": b"canary",
    b"strict-transport-security": b"max-age=1; canary",
    b"alt-svc": b'h3="canary:443"',
    b"content-disposition": b"attachment; filename=canary.exe",
    b"content-language": b"canary",
    b"x-amzn-requestid": b"canary",
    b"proxy-authenticate": b"Basic realm=canary",
    b"clear-site-data": b'"canary"',
    b"trailer": b"canary",
}
CHAT_ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "talkative",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}
CHAT_STREAM = (
    b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"talkative","choices":'
    b'[{"index":0,"delta":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}]}\n\n'
    b"data: [DONE]\n\n"
)


async def talkative(scope: Any, receive: Any, send: Any) -> None:
    """A vendor whose answers carry everything a vendor should keep to itself."""
    if scope["type"] != "http":
        return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    asked = json.loads(body)
    is_stream = bool(asked.get("stream"))
    status = 400 if "refused" in asked["model"] else 200
    kind = b"text/event-stream" if is_stream else b"application/json"
    passed = [(b"x-ratelimit-remaining-requests", b"7"), (b"retry-after", b"3")]
    headers = [(b"content-type", kind), *LEFT_BEHIND.items(), *passed]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    answer = CHAT_STREAM if is_stream and status == 200 else json.dumps(CHAT_ANSWER).encode()
    if status == 400:
        answer = b'{"error": {"message": "no", "type": "invalid_request_error"}}'
    await send({"type": "http.response.body", "body": answer})


@pytest.fixture(scope="module")
def talkative_vendor(vendors: object) -> Iterator[None]:
    with served(talkative, lifespan="off") as url:
        with acting_as("command", None, "tests"), scope.platform("tests"):
            provider = services.register(
                slug="talkative", protocol="openai-completions", base_url=url + "/v1"
            )
            store_key(provider=provider, label="one", secret=Secret(VENDOR_KEY))
            for name in ("talkative", "refused"):
                services.add_model(provider=provider, upstream_id=name)
        yield


def test_of_a_vendors_headers_only_limits_come_back(
    talkative_vendor: None, arena: Arena, wait_until: Callable[..., Any]
) -> None:
    asked = 0
    with httpx.Client(base_url=arena.url, headers=arena.bearer()) as client:
        wait_until(lambda: client.get("/v1/models/talkative").status_code == 200)
        for dialect in (CHAT, RESPONSES, MESSAGES, GEMINI):
            for stream in (False, True):
                for model, status in (("talkative", 200), ("refused", 400)):
                    path, body = dialect.ask(model, stream=stream)
                    answer = client.post(path, json=body)
                    assert answer.status_code == status, answer.text
                    shown = " ".join(f"{name}: {value}" for name, value in answer.headers.items())
                    assert "canary" not in shown, shown
                    if status == 200:
                        assert answer.headers["x-ratelimit-remaining-requests"] == "7"
                    asked += 1
    assert asked == 16
