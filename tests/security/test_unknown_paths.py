"""Unknown paths and methods are answered in the dialect of the path, and reach no upstream."""

from __future__ import annotations

import httpx
import pytest

from controlplane.proxy.routes import ROUTES
from tests.security.arena import Arena, raw
from tests.security.dialects import dialect_of_path

# All of them carry a good key: it is the path that is wrong.
UNKNOWN = (
    "/v1/nothing",
    "/v1/chat",
    "/v1/chat/completions/",
    "/v1/chat/completions/more",
    "/v1//chat/completions",
    "/v1/./chat/completions",
    "/v1/x/../chat/completions",
    "/v1/%63hat/completions",
    "/v1/messages/",
    "/v1/messages/count",
    "/v1/messages/batches/none/results",
    "/v1beta/nothing",
    "/v1beta/models/sim-gemini:nothing",
    "/v1beta/models/sim-gemini:generateContent/",
    "/v1beta/models/:",
    "/v1beta/",
    "/v1beta/models/sim-gemini/operations/x:y",
    "/openai/v1/nothing",
    "/openai/nothing",
    "/anthropic/v1/nothing",
    "/anthropic/nothing",
    "/genai/v1beta/nothing",
    "/genai/nothing",
    "/v1/%2e%2e/admin/",
    "/v1/..%2fadmin",
    "/v1/%00",
    "/v1/%ff%fe",
    "/v1/" + "a" * 8000,
)
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def test_unknown_paths(arena: Arena) -> None:
    wrong = []
    for path in UNKNOWN:
        for method in ("GET", "POST"):
            # As it is written: client libraries tidy dots and slashes away.
            lines = [f"{method} {path} HTTP/1.1", "host: 127.0.0.1", "connection: close"]
            lines += [f"authorization: Bearer {arena.key}", "content-length: 2", "", "{}"]
            answer = raw(arena.address, "\r\n".join(lines).encode())
            try:
                assert answer.status in {404, 405}
                dialect_of_path(path).check_error(answer.json(), answer.status)
            except (AssertionError, ValueError) as error:
                wrong.append((method, path[:60], answer.status, repr(error)[:200]))
    assert not wrong
    assert not arena.world.requests


@pytest.mark.parametrize("prefix", ["", "/openai", "/anthropic", "/genai"])
def test_wrong_methods_name_the_right_ones(arena: Arena, prefix: str) -> None:
    wrong = []
    with httpx.Client(base_url=arena.url, headers=arena.bearer()) as client:
        for route in ROUTES:
            path = route.path.replace("{model}", "sim-gpt")
            allowed = {other.method for other in ROUTES if other.path == route.path}
            for method in METHODS:
                if method in allowed:
                    continue
                answer = client.request(method, prefix + path)
                try:
                    assert answer.status_code == 405
                    assert set(answer.headers["allow"].split(", ")) == allowed
                    if method != "HEAD":
                        # Dialects share the paths of models: there the prefix decides.
                        whose = prefix + path if path.startswith("/v1/models") else path
                        dialect_of_path(whose).check_error(answer.json(), 405)
                except (AssertionError, ValueError, KeyError) as error:
                    said = (answer.status_code, repr(error)[:200])
                    wrong.append((method, prefix + path, *said))
    assert not wrong
    assert not arena.world.requests


def test_the_id_in_the_body_is_the_id_in_the_header(arena: Arena) -> None:
    """What a caller quotes is what the log line says."""
    with httpx.Client(base_url=arena.url, headers=arena.bearer()) as client:
        for offered in ({}, {"X-Request-ID": "callers-own-id-1"}):
            answer = client.post("/v1/messages", json={"model": "nobody"}, headers=offered)
            assert answer.status_code == 404
            assert answer.json()["request_id"] == answer.headers["x-request-id"]
            if offered:
                assert answer.headers["x-request-id"] == "callers-own-id-1"


def test_a_name_is_decoded_once(arena: Arena) -> None:
    with httpx.Client(headers=arena.bearer()) as client:
        for path in ("/v1/models/a%252Fb", "/v1beta/models/a%252Fb:generateContent"):
            target = httpx.URL(arena.url).copy_with(raw_path=path.encode())
            method = "POST" if path.endswith("generateContent") else "GET"
            answer = client.request(method, target, content=b"{}" if method == "POST" else None)
            assert answer.status_code == 404
            assert "a%2Fb" in answer.json()["error"]["message"]
