"""Google's error answers, whatever their shape."""

from __future__ import annotations

import json as stdlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.kit.errors import Fault, FaultKind
from providers.protocols.google_generative_ai import CODEC
from providers.protocols.google_generative_ai.errors import duration

RPC = "type.googleapis.com/google.rpc."


def error(code: int, status: str, message: str, *details: Any) -> Any:
    return {"error": {"code": code, "status": status, "message": message, "details": list(details)}}


def decode(status: int, body: Any, **headers: str) -> Fault:
    raw = body if isinstance(body, bytes) else stdlib.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return CODEC.decode_error(status, named, raw)


@pytest.mark.parametrize(
    ("status", "word", "kind"),
    [
        (400, "INVALID_ARGUMENT", FaultKind.BAD_REQUEST),
        (400, "FAILED_PRECONDITION", FaultKind.BAD_REQUEST),
        (401, "UNAUTHENTICATED", FaultKind.AUTH),
        (403, "PERMISSION_DENIED", FaultKind.FORBIDDEN),
        (404, "NOT_FOUND", FaultKind.NOT_FOUND),
        (409, "ABORTED", FaultKind.CONFLICT),
        (409, "ALREADY_EXISTS", FaultKind.CONFLICT),
        (429, "RESOURCE_EXHAUSTED", FaultKind.RATE_LIMIT),
        (499, "CANCELLED", FaultKind.UPSTREAM),
        (500, "INTERNAL", FaultKind.UPSTREAM),
        (503, "UNAVAILABLE", FaultKind.OVERLOADED),
        (504, "DEADLINE_EXCEEDED", FaultKind.TIMEOUT),
    ],
)
def test_status_words(status: int, word: str, kind: FaultKind) -> None:
    for body in (error(status, word, "m"), [error(status, word, "m")]):
        fault = decode(status, body)
        assert (fault.kind, fault.message, fault.upstream_code) == (kind, "m", word)


@pytest.mark.parametrize(
    ("status", "word", "message", "details", "kind"),
    [
        (
            400,
            "INVALID_ARGUMENT",
            "API key not valid. Please pass a valid API key.",
            [{"@type": RPC + "ErrorInfo", "reason": "API_KEY_INVALID"}],
            FaultKind.AUTH,
        ),
        (400, "INVALID_ARGUMENT", "API key expired. Please renew the API key.", [], FaultKind.AUTH),
        (
            403,
            "PERMISSION_DENIED",
            "x",
            [{"@type": RPC + "ErrorInfo", "reason": "API_KEY_SERVICE_BLOCKED"}],
            FaultKind.AUTH,
        ),
        (
            400,
            "FAILED_PRECONDITION",
            "User location is not supported for the API use.",
            [],
            FaultKind.FORBIDDEN,
        ),
        (
            400,
            "FAILED_PRECONDITION",
            "Please enable billing on your project.",
            [],
            FaultKind.PAYMENT,
        ),
        (429, "RESOURCE_EXHAUSTED", "Your prepayment credits are depleted.", [], FaultKind.PAYMENT),
        (
            429,
            "RESOURCE_EXHAUSTED",
            "You exceeded your current quota, please check your billing details.",
            [{"@type": RPC + "RetryInfo", "retryDelay": "22s"}],
            FaultKind.RATE_LIMIT,
        ),
        (
            400,
            "INVALID_ARGUMENT",
            "The input token count (1050000) exceeds the maximum number of tokens.",
            [],
            FaultKind.CONTEXT_OVERFLOW,
        ),
        (
            400,
            "INVALID_ARGUMENT",
            "Request payload size exceeds the limit: 20971520 bytes.",
            [],
            FaultKind.TOO_LARGE,
        ),
        (413, "INVALID_ARGUMENT", "too big", [], FaultKind.TOO_LARGE),
    ],
)
def test_what_the_words_mean(
    status: int, word: str, message: str, details: list[Any], kind: FaultKind
) -> None:
    assert decode(status, error(status, word, message, *details)).kind is kind


RETRY = {"@type": RPC + "RetryInfo", "retryDelay": "22.5s"}


@pytest.mark.parametrize(
    ("details", "message", "headers", "seconds"),
    [
        ([RETRY], "m", {}, 22.5),
        ([RETRY], "m", {"retry_after": "7"}, 7.0),
        ([RETRY], "m", {"retry_after_ms": "1500"}, 1.5),
        (
            [],
            "m",
            {
                "retry_after": "Wed, 21 Oct 2026 07:28:30 GMT",
                "date": "Wed, 21 Oct 2026 07:28:00 GMT",
            },
            30.0,
        ),
        (
            [{"@type": RPC + "ErrorInfo", "metadata": {"quotaResetDelay": "1h2m3s"}}],
            "m",
            {},
            3723.0,
        ),
        ([], "Quota exceeded. Your quota will reset after 18h31m10s.", {}, 66670.0),
        ([], "Please retry in 39s.", {}, 39.0),
        ([], "m", {}, None),
        ([{"@type": RPC + "RetryInfo", "retryDelay": "-5s"}], "m", {}, None),
        ([{"@type": 7}, 8, {"@type": RPC + "RetryInfo"}], "m", {}, None),
    ],
)
def test_how_long_to_wait(
    details: list[Any], message: str, headers: dict[str, str], seconds: float | None
) -> None:
    fault = decode(429, error(429, "RESOURCE_EXHAUSTED", message, *details), **headers)
    assert fault.retry_after_seconds == seconds


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("22s", 22.0),
        ("0.5s", 0.5),
        ("120ms", 0.12),
        ("2m", 120.0),
        ("1h", 3600.0),
        ({"seconds": "3", "nanos": 500_000_000}, 3.5),
        ("", None),
        ("s", None),
        ("22", None),
        (22, None),
        ("9" * 70 + "s", None),
        (None, None),
    ],
)
def test_durations(value: Any, seconds: float | None) -> None:
    assert duration(value) == seconds


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        (b"", FaultKind.OVERLOADED, "The upstream answered 503 without an explanation."),
        (b"<html><title>503 Down</title></html>", FaultKind.OVERLOADED, "503 Down"),
        (b"[]", FaultKind.OVERLOADED, "The upstream answered 503 without an explanation."),
        (b"plain words", FaultKind.OVERLOADED, "plain words"),
        (b'{"error": "words"}', FaultKind.OVERLOADED, "words"),
        (b'{"error": {"message": "cut o', FaultKind.OVERLOADED, '{"error": {"message": "cut o'),
        (
            stdlib.dumps(
                {"error": {"message": stdlib.dumps(error(429, "RESOURCE_EXHAUSTED", "in"))}}
            ).encode(),
            FaultKind.RATE_LIMIT,
            "in",
        ),
        (
            stdlib.dumps({"error": stdlib.dumps(error(404, "NOT_FOUND", "in"))}).encode(),
            FaultKind.NOT_FOUND,
            "in",
        ),
        (b"\xff\xfe\x00", FaultKind.OVERLOADED, None),
        (b"[" * 100_000, FaultKind.OVERLOADED, None),
    ],
)
def test_trap_196_any_shape(body: bytes, kind: FaultKind, message: str | None) -> None:
    fault = CODEC.decode_error(503, {}, body)
    assert fault.kind is kind
    if message is not None:
        assert fault.message == message
    assert len(fault.message) <= 1000


def test_credentials_are_not_repeated() -> None:
    key = "AIzaSyA-0123456789abcdefghijklmnopqrstu"
    fault = decode(400, error(400, "INVALID_ARGUMENT", f"API key not valid: {key}"))
    assert key not in fault.message


@given(st.binary(max_size=300), st.integers(100, 599))
def test_it_never_raises(body: bytes, status: int) -> None:
    assert CODEC.decode_error(status, {}, body).message


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["error", "message", "status", "details", "code", "@type", "retryDelay"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)


@given(json_values, st.sampled_from([400, 401, 403, 429, 500, 503]))
def test_it_never_raises_on_any_json(value: Any, status: int) -> None:
    assert decode(status, value).message
