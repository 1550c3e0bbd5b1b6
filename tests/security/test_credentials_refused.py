"""Bar K2 at the door: every proxied route and every route of a tenant's key × the bad credentials.

Each is refused in the words of its path, and no upstream hears of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from django.test import Client
from django.urls import URLPattern, reverse

from controlplane.api.urls import version_1
from controlplane.proxy.routes import ROUTES, Route
from tests.security.arena import Arena, RawAnswer, new_tenant, raw
from tests.security.dialects import RESPONSES, dialect_of_path
from tests.tenants.keys.bad_credentials import BAD, Bad, Keys, bearer

MODEL = "sim-gpt"
# A line break inside a header is two headers: what is left of the first is a good key.
UNSENDABLE = {"CR LF"}
# What a server may refuse before anybody of ours sees it, in its own words.
SERVERS_OWN = {400, 431}


def path_of(route: Route) -> str:
    return route.path.replace("{model}", MODEL)


def body_of(route: Route) -> bytes:
    dialect = RESPONSES if route.dialect == "openai-responses" else dialect_of_path(route.path)
    return json.dumps(dialect.body(MODEL, "Hello", False)).encode()


def send(arena: Arena, route: Route, bad: Bad) -> RawAnswer:
    query = b"?" + bad.query if bad.query else b""
    lines = [
        f"{route.method} {path_of(route)}".encode() + query + b" HTTP/1.1",
        b"host: 127.0.0.1",
        b"connection: close",
        *(name + b": " + value for name, value in bad.headers),
    ]
    body = b""
    if route.method == "POST":
        body = body_of(route)
        lines += [b"content-type: application/json", b"content-length: %d" % len(body)]
    return raw(arena.address, b"\r\n".join(lines) + b"\r\n\r\n" + body)


@pytest.fixture
def keys(arena: Arena) -> Keys:
    other, _ = new_tenant("Globex")
    made = Keys.make(tenant=arena.tenant, other_tenant=other)
    arena.learn()
    return made


def query_keys(route: Route, keys: Keys) -> Iterator[tuple[str, Bad]]:
    """`?key=` is for Google's clients on Google's paths, and there disagreeing keys are two."""
    if route.allow_query_key:
        yield "bad key in the query", Bad(query=b"key=" + keys.unknown.encode())
        yield (
            "two keys, one in the query",
            Bad((bearer(keys.good),), b"key=" + keys.second.encode()),
        )
        yield "empty key in the query", Bad((bearer(keys.good),), b"key=")
    else:
        yield "a good key in the query", Bad(query=b"key=" + keys.good.encode())


def test_every_proxied_route_refuses_every_bad_credential(arena: Arena, keys: Keys) -> None:
    wrong = []
    for route in ROUTES:
        dialect = dialect_of_path(route.path)
        cases = [(name, make(keys)) for name, make in BAD.items() if name not in UNSENDABLE]
        for name, bad in [*cases, *query_keys(route, keys)]:
            if bad.is_known_elsewhere:
                continue  # a good key of somebody else's: see test_two_tenants
            answer = send(arena, route, bad)
            if answer.status in SERVERS_OWN and "json" not in answer.headers["content-type"]:
                continue
            if answer.status not in {401, 431}:
                wrong.append((route.name, name, answer.status, answer.body[:200]))
                continue
            try:
                dialect.check_error(answer.json(), answer.status)
            except (AssertionError, ValueError) as error:
                wrong.append((route.name, name, answer.status, repr(error)[:200]))
            if keys.good.encode() in answer.body:
                wrong.append((route.name, name, answer.status, b"the key is in the answer"))
    assert not wrong
    assert not arena.world.requests


def test_a_line_break_in_a_header_does_not_smuggle_a_key(arena: Arena, keys: Keys) -> None:
    for breaker in (b"\r\n", b"\n", b"\r", b"\r\n\t"):
        value = b"Bearer " + keys.unknown.encode() + breaker + b" x-api-key: " + keys.good.encode()
        answer = send(arena, ROUTES[0], Bad(((b"authorization", value),)))
        assert answer.status in {400, 401}, (breaker, answer)
    assert not arena.world.requests


def test_the_good_key_opens_every_route(arena: Arena, keys: Keys) -> None:
    """Or the tests above would pass for a gateway that refuses everybody."""
    for route in ROUTES:
        answer = send(arena, route, Bad((bearer(keys.good),)))
        if route.operation in ("pass", "stored", "files", "batches"):
            # Another question than this one, of a caller who is known.
            assert answer.status in {200, 400, 404}, (route.name, answer)
        else:
            assert answer.status == 200, (route.name, answer)
    assert arena.world.requests


def test_a_key_without_the_scope_for_it_calls_no_model(arena: Arena) -> None:
    _, reader = new_tenant("Readers", scopes=["read", "manage"])
    arena.learn()
    for route in ROUTES:
        answer = send(arena, route, Bad((bearer(reader),)))
        assert answer.status == 403, (route.name, answer)
        dialect_of_path(route.path).check_error(answer.json(), 403)
    assert not arena.world.requests


# --- the routes of a tenant's key beside the proxy -----------------------------------------------

UNUSED_ID = "00000000-0000-7000-8000-000000000000"


def control_paths() -> Iterator[str]:
    for pattern in version_1:
        assert isinstance(pattern, URLPattern)
        names = pattern.pattern.converters
        yield reverse(pattern.name or "", kwargs=dict.fromkeys(names, UNUSED_ID))


def test_every_control_route_refuses_every_bad_credential(vendors: object) -> None:
    keys = Keys.make(tenant=new_tenant()[0], other_tenant=new_tenant("Globex")[0])
    client = Client()
    wrong = []
    for path in control_paths():
        for name, make in BAD.items():
            bad = make(keys)
            if bad.is_known_elsewhere:
                continue  # tests/controlplane/api/test_matrix.py asks as every other tenant
            headers = {
                f"HTTP_{key.decode().upper().replace('-', '_')}": value.decode("latin-1")
                for key, value in bad.headers
            }
            # WSGI cannot carry one header twice: the servers join them.
            if len(headers) < len(bad.headers):
                headers = {"HTTP_AUTHORIZATION": f"Bearer {keys.good},Bearer {keys.second}"}
            if name == "underscores":
                continue  # by WSGI the spelling is lost on the way: refused by the ASGI lane
            for method in ("GET", "POST"):
                answer = client.generic(method, path, b"{}", "application/json", **headers)
                if answer.status_code != 401 or set(answer.json()) != {"error"}:
                    wrong.append((method, path, name, answer.status_code))
    assert not wrong


def test_every_control_route_refuses_over_a_socket(fast_lane: Arena) -> None:
    """The spellings that only a socket can carry, where a server in between might mend them."""
    other, _ = new_tenant("Globex")
    keys = Keys.make(tenant=fast_lane.tenant, other_tenant=other)
    for path in control_paths():
        for name in ("underscores", "two authorization headers", "NUL", "CR LF"):
            bad = BAD[name](keys)
            lines = [
                b"GET " + path.encode() + b" HTTP/1.1",
                b"host: 127.0.0.1",
                b"connection: close",
            ]
            lines += [key + b": " + value for key, value in bad.headers]
            answer = raw(fast_lane.address, b"\r\n".join(lines) + b"\r\n\r\n")
            assert answer.status in {400, 401}, (path, name, answer)
