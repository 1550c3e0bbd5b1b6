"""Errors of the Messages API, read and shown."""

from __future__ import annotations

from typing import Any

import pytest
from anthropic.types import BetaErrorResponse
from pydantic import TypeAdapter

from controlplane.kit.errors import Fault, FaultKind
from controlplane.kit.json import dumps, loads
from providers.protocols.anthropic_messages import CODEC
from providers.protocols.sse import SSEParser


def error(kind: str, message: str = "Why.") -> bytes:
    return dumps({"type": "error", "error": {"type": kind, "message": message}})


@pytest.mark.parametrize(
    ("status", "kind", "expected"),
    [
        (400, "invalid_request_error", FaultKind.BAD_REQUEST),
        (401, "authentication_error", FaultKind.AUTH),
        (402, "billing_error", FaultKind.PAYMENT),
        (403, "permission_error", FaultKind.FORBIDDEN),
        (404, "not_found_error", FaultKind.NOT_FOUND),
        (413, "request_too_large", FaultKind.TOO_LARGE),
        (429, "rate_limit_error", FaultKind.RATE_LIMIT),
        (500, "api_error", FaultKind.UPSTREAM),
        (504, "timeout_error", FaultKind.TIMEOUT),
        (529, "overloaded_error", FaultKind.OVERLOADED),
    ],
)
def test_error_types(status: int, kind: str, expected: FaultKind) -> None:
    fault = CODEC.decode_error(status, {}, error(kind))
    assert fault.kind is expected
    assert fault.message == "Why."
    assert fault.upstream_code == kind


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", ""),
        (b"<html><head><title>502 Bad Gateway</title></head><body>x</body></html>", "502 Bad"),
        (b"<p>no title</p> at all", "no title"),
        (b'[{"error": {"message": "first"}}]', "first"),
        (b'"just text"', "just text"),
        (b'{"error": "plain"}', "plain"),
        (b'{"message": "{\\"error\\": {\\"message\\": \\"inner\\"}}"}', "inner"),
        (b'{"detail": [{"msg": "x"}]}', ""),
        (b'{"error": {"message": "cut off', '{"error"'),
        (b"\xff\xfe not text", "not text"),
        (b"[" * 100_000, "["),
        (b"null", "null"),
    ],
)
def test_trap_196_error_bodies_of_any_shape(body: bytes, message: str) -> None:
    fault = CODEC.decode_error(502, {}, body)
    assert fault.kind is FaultKind.UPSTREAM
    assert message in fault.message
    assert 0 < len(fault.message) <= 1000


@pytest.mark.parametrize(
    "secret",
    [
        "sk-ant-api03-abcdefghijklmnop",
        "Bearer abcdefghijklmnop",
        "AKIAIOSFODNN7EXAMPLE",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
        "key=AIzaSyA-abcdefghijklmnopqr",
    ],
)
def test_trap_196_credentials_are_never_echoed(secret: str) -> None:
    fault = CODEC.decode_error(401, {}, error("authentication_error", f"bad key {secret} given"))
    assert secret not in fault.message
    assert secret.split("=")[-1] not in fault.message
    assert fault.message.startswith("bad")


@pytest.mark.parametrize(
    "message",
    [
        "prompt is too long: 210000 tokens > 200000 maximum",
        "Input is too long for requested model.",
        "This model's maximum context length is 4096 tokens",
    ],
)
def test_context_overflow(message: str) -> None:
    fault = CODEC.decode_error(400, {}, error("invalid_request_error", message))
    assert fault.kind is FaultKind.CONTEXT_OVERFLOW
    assert fault.code == "context_length_exceeded"


def test_trap_193_throttling_is_no_overflow() -> None:
    body = error("invalid_request_error", "Too many requests: prompt is too long to retry")
    assert CODEC.decode_error(400, {}, body).kind is FaultKind.BAD_REQUEST


def test_an_empty_balance_is_not_the_clients_fault() -> None:
    body = error("invalid_request_error", "Your credit balance is too low to access the API.")
    assert CODEC.decode_error(400, {}, body).kind is FaultKind.PAYMENT


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        (
            {
                "retry-after": "Wed, 21 Oct 2026 07:28:30 GMT",
                "date": "Wed, 21 Oct 2026 07:28:00 GMT",
            },
            30.0,
        ),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "1e12"}, None),
        (
            {
                "anthropic-ratelimit-unified-reset": "1792567740",
                "date": "Wed, 21 Oct 2026 07:28:00 GMT",
            },
            60.0,
        ),
        ({}, None),
    ],
)
def test_delays(headers: dict[str, str], seconds: float | None) -> None:
    fault = CODEC.decode_error(429, headers, error("rate_limit_error"))
    assert fault.retry_after_seconds == seconds


@pytest.mark.parametrize(
    ("message", "seconds"),
    [("Please retry in 5.2s", 5.2), ("reset after 18h31m10s", 66670.0), ("try again later", None)],
)
def test_delays_in_words(message: str, seconds: float | None) -> None:
    fault = CODEC.decode_error(429, {}, error("rate_limit_error", message))
    assert fault.retry_after_seconds == seconds


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("messages.1.content.0: Invalid `signature` in `thinking` block", "signature"),
        ("The signature is bound to a different conversation", "signature"),
        ("tools.0: strict tool schema uses unsupported keyword", "strict"),
        ("Invalid effort level: max", "effort"),
    ],
)
def test_trap_062_090_110_refusals_that_a_change_can_mend(message: str, code: str) -> None:
    fault = CODEC.decode_error(400, {}, error("invalid_request_error", message))
    assert fault.kind is FaultKind.BAD_REQUEST
    assert code in fault.code


@pytest.mark.parametrize("kind", list(FaultKind))
def test_every_kind_has_a_form_the_sdk_knows(kind: FaultKind) -> None:
    fault = Fault(kind=kind, code="c", message="m")
    body = CODEC.encode_error(fault, "req_1")
    assert body["request_id"] == "req_1"
    if kind is FaultKind.TOO_LARGE:
        # Documented, but missing from the SDK's union.
        assert body["error"]["type"] == "request_too_large"
        return
    parsed: Any = TypeAdapter(BetaErrorResponse).validate_python(body)
    assert parsed.error.type == body["error"]["type"]


def test_overflow_says_what_clients_look_for() -> None:
    fault = Fault(kind=FaultKind.CONTEXT_OVERFLOW, code="c", message="Too much.")
    assert CODEC.encode_error(fault)["error"] == {
        "type": "invalid_request_error",
        "message": "prompt is too long: Too much.",
    }


def test_error_event() -> None:
    fault = Fault(kind=FaultKind.UPSTREAM, code="c", message="m")
    (event,) = SSEParser().feed(CODEC.encode_error_event(fault, "r"))
    assert event.event == b"error"
    assert loads(event.data) == CODEC.encode_error(fault, "r")
