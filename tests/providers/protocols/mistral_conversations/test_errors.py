"""Mistral's error answers, whatever their shape."""

from __future__ import annotations

import json as stdlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.kit.errors import FaultKind
from providers.protocols.mistral_conversations import CODEC


def own(message: str, kind: str = "invalid_request_error", code: Any = "3000") -> dict[str, Any]:
    return {"object": "error", "message": message, "type": kind, "param": None, "code": code}


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (400, own("bad"), FaultKind.BAD_REQUEST, "bad"),
        (
            400,
            own("Invalid model: x", "invalid_model", "1500"),
            FaultKind.NOT_FOUND,
            "Invalid model: x",
        ),
        (
            400,
            own(
                "Prompt contains 9 tokens and is too large for model with 8 maximum context length"
            ),
            FaultKind.CONTEXT_OVERFLOW,
            None,
        ),
        (401, {"detail": "Unauthorized"}, FaultKind.AUTH, "Unauthorized"),
        (401, {"message": "Unauthorized", "request_id": "x"}, FaultKind.AUTH, "Unauthorized"),
        (
            429,
            {"message": "API rate limit exceeded", "request_id": "x"},
            FaultKind.RATE_LIMIT,
            "API rate limit exceeded",
        ),
        (
            429,
            own("Service tier capacity exceeded", "service_tier_capacity_exceeded", "3505"),
            FaultKind.OVERLOADED,
            None,
        ),
        (
            422,
            {
                "detail": [
                    {"loc": ["body", "temperature"], "msg": "must be less", "type": "value_error"}
                ]
            },
            FaultKind.UNPROCESSABLE,
            "body.temperature: must be less",
        ),
        (
            422,
            {
                "object": "error",
                "message": {"detail": [{"loc": ["body", "a", 0], "msg": "extra"}, {"msg": "b"}]},
                "type": "x",
            },
            FaultKind.UNPROCESSABLE,
            "body.a.0: extra; b",
        ),
        (422, {"detail": []}, FaultKind.UNPROCESSABLE, None),
        (422, {"detail": [7]}, FaultKind.UNPROCESSABLE, None),
        (500, own("x", "internal_server_error"), FaultKind.UPSTREAM, "x"),
        (503, b"", FaultKind.OVERLOADED, None),
        (502, b"<html><title>Bad Gateway</title></html>", FaultKind.UPSTREAM, "Bad Gateway"),
    ],
)
def test_errors(status: int, body: Any, kind: FaultKind, message: str | None) -> None:
    raw = body if isinstance(body, bytes) else stdlib.dumps(body).encode()
    fault = CODEC.decode_error(status, {"retry-after": "3"}, raw)
    assert fault.kind is kind
    assert fault.retry_after_seconds == 3.0
    assert fault.message
    if message is not None:
        assert fault.message == message


@given(st.binary(max_size=200), st.integers(100, 599))
def test_it_never_raises(body: bytes, status: int) -> None:
    assert CODEC.decode_error(status, {}, body).message
    assert CODEC.decode_error(status, {}, b'{"detail":' + body + b"}").message
