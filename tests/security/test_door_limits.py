"""Bars I2 and I5: what the door refuses before anything is decoded, on both lanes, in the words
of the path; and that what just fits goes through."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from django.conf import settings

from controlplane.proxy.body import MAX_HEADER_BYTES, MAX_HEADERS
from tests.security.arena import Arena, raw
from tests.security.dialects import CHAT, DIALECTS, GEMINI, MESSAGES, RESPONSES, Dialect
from tests.security.requests import chunked, head, padded, refused

MEGABYTE = 1024 * 1024


def test_the_default_is_32_megabytes(arena: Arena) -> None:
    assert settings.PROXY_BODY_LIMIT_BYTES == 32 * MEGABYTE
    path, _ = CHAT.ask("sim-gpt")
    too_long = padded(CHAT, 32 * MEGABYTE + 1)
    said = raw(arena.address, head(arena, path, f"content-length: {len(too_long)}") + too_long)
    # The server may close before it has read all: then there is no answer, and nothing is done.
    assert said.status in {0, 413}
    unsaid = head(arena, path, "transfer-encoding: chunked") + chunked(too_long)
    assert raw(arena.address, unsaid).status in {0, 413}
    assert not arena.world.requests


def test_a_length_that_lies_low_ends_the_body_there(arena: Arena) -> None:
    path, body = CHAT.ask("sim-gpt")
    answer = raw(arena.address, head(arena, path, "content-length: 9") + json.dumps(body).encode())
    refused(answer, CHAT, 400)
    assert not answer.rest
    assert not arena.world.requests


def test_a_body_that_never_ends_reaches_nobody(arena: Arena) -> None:
    path, body = CHAT.ask("sim-gpt")
    for framing in ("content-length: 5000", "transfer-encoding: chunked"):
        data = head(arena, path, framing) + json.dumps(body).encode()
        assert raw(arena.address, data, seconds=1, hangs_up=True).status in {0, 400}
    assert not arena.world.requests


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_too_many_or_too_large_headers(arena: Arena, dialect: Dialect) -> None:
    path, body = dialect.ask(dialect.own_model)
    content = json.dumps(body).encode()
    length = f"content-length: {len(content)}"
    many = [f"x-filler-{number}: 1" for number in range(MAX_HEADERS)]
    again = ["x-filler: 1"] * MAX_HEADERS
    large = [f"x-filler-{number}: {'a' * 4096}" for number in range(MAX_HEADER_BYTES // 4096)]
    for lines in (many, again, large):
        refused(raw(arena.address, head(arena, path, length, *lines) + content), dialect, 431)
    assert not arena.world.requests
    few = [f"x-filler-{number}: {'a' * 100}" for number in range(MAX_HEADERS - 10)]
    assert raw(arena.address, head(arena, path, length, *few) + content).status == 200


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "x-gzip", "identity, gzip"])
def test_compressed_bodies_are_refused(arena: Arena, encoding: str) -> None:
    with httpx.Client(base_url=arena.url, headers=arena.bearer()) as client:
        for dialect in DIALECTS:
            path, body = dialect.ask(dialect.own_model)
            for value in (encoding, encoding.upper()):
                answer = client.post(path, json=body, headers={"Content-Encoding": value})
                refused(answer, dialect, 415)
            # Said twice, once harmlessly.
            twice = [("Content-Encoding", "identity"), ("Content-Encoding", encoding)]
            answer = client.post(path, json=body, headers=twice)
            refused(answer, dialect, 415)
    assert not arena.world.requests


def nested(levels: int) -> Any:
    value: Any = "deep"
    for number in range(levels):
        value = [value] if number % 2 else {"in": value}
    return value


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_json_deeper_than_64_levels(arena: Arena, dialect: Dialect) -> None:
    with httpx.Client(base_url=arena.url, headers=arena.bearer()) as client:
        for model in ("sim-gpt", "sim-claude"):
            path, body = dialect.ask(model)
            # One level is the body itself.
            too_deep = {**body, "metadata_of_nobody": nested(64)}
            refused(client.post(path, json=too_deep), dialect, 400)
            text = json.dumps(body)[:-1] + ', "more": ' + "[" * 100_000 + "]" * 100_000 + "}"
            refused(client.post(path, content=text), dialect, 400)
            hidden = json.dumps(body)[:-1] + ', "a": "[[[\\"]]]", "b": ' + "[" * 65 + "]" * 65 + "}"
            refused(client.post(path, content=hidden), dialect, 400)
    assert not arena.world.requests


def many_messages(dialect: Dialect, model: str, count: int) -> dict[str, Any]:
    _, body = dialect.ask(model)
    turns = [
        {"role": "user" if number % 2 == 0 else "assistant", "content": "a"}
        for number in range(count)
    ]
    match dialect.name:
        case "gemini":
            roles = ("user", "model")
            body["contents"] = [
                {"role": roles[number % 2], "parts": [{"text": "a"}]} for number in range(count)
            ]
        case "responses":
            body["input"] = turns
        case _:
            body["messages"] = turns
    return body


def many_functions(dialect: Dialect, model: str, count: int) -> dict[str, Any]:
    _, body = dialect.ask(model)
    names = [f"f{number}" for number in range(count)]
    schema = {"type": "object", "properties": {}}
    match dialect.name:
        case "chat":
            body["tools"] = [
                {"type": "function", "function": {"name": name, "parameters": schema}}
                for name in names
            ]
        case "responses":
            body["tools"] = [
                {"type": "function", "name": name, "parameters": schema} for name in names
            ]
        case "messages":
            body["tools"] = [{"name": name, "input_schema": schema} for name in names]
        case _:
            body["tools"] = [{"functionDeclarations": [{"name": name} for name in names]}]
    return body


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_too_many_messages_or_functions(arena: Arena, dialect: Dialect) -> None:
    """Also where the bytes are passed on unread: the same dialect on both sides."""
    with httpx.Client(base_url=arena.url, headers=arena.bearer(), timeout=30) as client:
        for model in (dialect.own_model, "sim-claude" if dialect is not MESSAGES else "sim-gpt"):
            path, _ = dialect.ask(model)
            for body in (
                many_messages(dialect, model, 10_001),
                many_functions(dialect, model, 1_001),
            ):
                answer = client.post(path, json=body)
                assert answer.status_code == 400, (model, list(body), answer.text[:300])
                refused(answer, dialect, 400)
    assert not arena.world.requests


def test_in_several_lists_functions_count_together(arena: Arena) -> None:
    body = GEMINI.body("sim-gemini", "Hello", False)
    body["tools"] = [
        {"functionDeclarations": [{"name": f"f{outer}_{inner}"} for inner in range(100)]}
        for outer in range(11)
    ]
    path, _ = GEMINI.ask("sim-gemini")
    with httpx.Client(base_url=arena.url, headers=arena.bearer()) as client:
        refused(client.post(path, json=body), GEMINI, 400)
        nested_tools = {
            **RESPONSES.body("sim-gpt-responses", "Hello", False),
            "tools": [
                {
                    "type": "namespace",
                    "name": f"n{outer}",
                    "description": "d",
                    "tools": [
                        {"type": "function", "name": f"f{inner}", "parameters": {"type": "object"}}
                        for inner in range(100)
                    ],
                }
                for outer in range(11)
            ],
        }
        refused(client.post("/v1/responses", json=nested_tools), RESPONSES, 400)
    assert not arena.world.requests
