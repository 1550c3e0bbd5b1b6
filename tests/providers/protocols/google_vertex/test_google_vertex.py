"""Vertex: the Gemini body at another address."""

from __future__ import annotations

import json as stdlib
from typing import Any

import pytest

from providers.protocols.canonical import (
    End,
    Message,
    ModelSpec,
    Request,
    Signature,
    SignatureDelta,
    Text,
    Tool,
)
from providers.protocols.codec import Restore
from providers.protocols.errors import LocalProtocolError
from providers.protocols.google_vertex import CODEC

HI = (Message(role="user", parts=(Text(text="hi"),)),)
PROJECT = "/projects/my-project/locations/europe-west4"
PLACE = {"project": "my-project", "location": "europe-west4"}


def encode(
    endpoint: dict[str, str], name: str = "gemini-x", stream: bool = False, **fields: Any
) -> Any:
    model = ModelSpec(id=name, protocol="google-vertex", endpoint=endpoint)
    request = Request(model="a", dialect="x", messages=HI, stream=stream, **fields)
    return CODEC.encode_request(request, model, request_id="r")


@pytest.mark.parametrize(
    ("endpoint", "name", "path"),
    [
        (PLACE, "gemini-x", f"/v1{PROJECT}/publishers/google/models/gemini-x"),
        ({}, "gemini-x", "/v1/publishers/google/models/gemini-x"),
        (
            {**PLACE, "api_version": "v1beta1"},
            "gemini-x",
            f"/v1beta1{PROJECT}/publishers/google/models/gemini-x",
        ),
        ({"api_version": ""}, "models/gemini-x", "/publishers/google/models/gemini-x"),
        ({}, "publishers/meta/models/llama-x", "/v1/publishers/meta/models/llama-x"),
        (
            {"project": "a/../b", "location": "x?y"},
            "g",
            "/v1/projects/a%2F..%2Fb/locations/x%3Fy/" + "publishers/google/models/g",
        ),
    ],
)
def test_trap_188_the_address(endpoint: dict[str, str], name: str, path: str) -> None:
    call = encode(endpoint, name)
    assert call.path == path + ":generateContent"
    assert call.query == {}
    call = encode(endpoint, name, stream=True)
    assert call.path == path + ":streamGenerateContent"
    assert call.query == {"alt": "sse"}


@pytest.mark.parametrize(
    ("endpoint", "missing"),
    [({"project": "p"}, "location"), ({"location": "l"}, "project")],
)
def test_half_an_address_is_none(endpoint: dict[str, str], missing: str) -> None:
    with pytest.raises(LocalProtocolError, match=f"Set {missing}") as caught:
        encode(endpoint)
    assert caught.value.param == f"endpoint.{missing}"


def test_labels_go_and_tiers_do_not() -> None:
    call = encode(PLACE, metadata={"team": "a"}, service_tier="flex")
    assert call.body["labels"] == {"team": "a"}
    assert "serviceTier" not in call.body
    assert [loss.path for loss in call.losses] == ["service_tier"]


def test_proofs_belong_to_vertex() -> None:
    """A proof of the public API is not one of Vertex's, nor the reverse."""
    model = ModelSpec(id="gemini-x", protocol="google-vertex")
    chunk = {
        "candidates": [
            {
                "content": {"parts": [{"text": "a", "thoughtSignature": "QUJD"}]},
                "finishReason": "STOP",
            }
        ]
    }
    events = CODEC.decode_answer(stdlib.dumps(chunk).encode(), Restore(), model)
    found = [event.signature for event in events if isinstance(event, SignatureDelta)]
    assert found == [Signature(value="QUJD", protocol="google-vertex", model="gemini-x")]
    assert events[-1] == End()


def test_gemini_clients_are_relayed() -> None:
    model = ModelSpec(id="gemini-x", protocol="google-vertex", endpoint=PLACE)
    raw = b'{ "contents": [] }'
    call, sent = CODEC.relay_request(raw, {"contents": []}, model, stream=True)
    assert sent is raw
    assert call.path.endswith("/publishers/google/models/gemini-x:streamGenerateContent")
    assert CODEC.relays == {"google-generative-ai"}


def test_counting_takes_the_flat_body() -> None:
    model = ModelSpec(id="gemini-x", protocol="google-vertex", endpoint=PLACE)
    request = Request(
        model="a", dialect="x", messages=HI, tools=(Tool(name="f"),), metadata={"a": "b"}
    )
    call = CODEC.encode_count_request(request, model, request_id="r")
    assert call.path.endswith(":countTokens")
    assert set(call.body) == {"contents", "tools"}
