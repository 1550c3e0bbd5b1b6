"""Error answers of every vendor as faults."""

from __future__ import annotations

import pytest

from controlplane.kit.errors import FaultKind
from controlplane.kit.json import dumps
from providers.protocols.openai_completions import CODEC
from providers.protocols.openai_completions.errors import duration, fault_in_stream

decode = CODEC.decode_error


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, FaultKind.BAD_REQUEST),
        (401, FaultKind.AUTH),
        (402, FaultKind.PAYMENT),
        (403, FaultKind.FORBIDDEN),
        (404, FaultKind.NOT_FOUND),
        (409, FaultKind.CONFLICT),
        (413, FaultKind.TOO_LARGE),
        (422, FaultKind.UNPROCESSABLE),
        (429, FaultKind.RATE_LIMIT),
        (498, FaultKind.OVERLOADED),
        (500, FaultKind.UPSTREAM),
        (503, FaultKind.OVERLOADED),
        (504, FaultKind.TIMEOUT),
        (529, FaultKind.OVERLOADED),
    ],
)
@pytest.mark.parametrize("body", [b"", b"<html><title>Bad</title></html>", b"[]", b"{", b"null"])
def test_trap_196_any_body_keeps_the_kind_of_its_status(
    status: int, kind: FaultKind, body: bytes
) -> None:
    fault = decode(status, {}, body)
    assert fault.kind is kind
    assert fault.message


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (
            400,
            b'{"error":{"type":"invalid_request_error","code":"context_length_exceeded"}}',
            FaultKind.CONTEXT_OVERFLOW,
            "context_length_exceeded",
        ),
        (
            400,
            b'{"error":{"code":"1261","message":"Prompt exceeds max length"}}',
            FaultKind.CONTEXT_OVERFLOW,
            "1261",
        ),
        (
            429,
            b'{"error":{"message":"You exceeded your current quota","code":"insufficient_quota"}}',
            FaultKind.PAYMENT,
            "insufficient_quota",
        ),
        (429, b'{"error":{"code":"1308","message":"limit"}}', FaultKind.PAYMENT, "1308"),
        (
            429,
            b'{"error":{"type":"GoUsageLimitError","message":"Monthly usage limit reached"}}',
            FaultKind.PAYMENT,
            "GoUsageLimitError",
        ),
        (
            429,
            b'{"error":{"message":"Add money at /account/billing","code":"rate_limit_exceeded"}}',
            FaultKind.RATE_LIMIT,
            "rate_limit_exceeded",
        ),
        (
            404,
            b'{"error":{"message":"no model","code":"model_not_found"}}',
            FaultKind.NOT_FOUND,
            "model_not_found",
        ),
        (402, b'{"error":{"code":402,"message":"no credits"}}', FaultKind.PAYMENT, "402"),
        (
            403,
            b'{"error":{"code":"unsupported_country"}}',
            FaultKind.FORBIDDEN,
            "unsupported_country",
        ),
        (500, b'{"detail":"boom"}', FaultKind.UPSTREAM, None),
        (
            422,
            b'{"detail":[{"loc":["body"],"msg":"x","type":"missing"}]}',
            FaultKind.UNPROCESSABLE,
            "missing",
        ),
        (
            400,
            b'[{"error":{"code":400,"message":"bad","status":"INVALID_ARGUMENT"}}]',
            FaultKind.BAD_REQUEST,
            "400",
        ),
        (
            503,
            b'{"error":{"message":"{\\"error\\":{\\"message\\":\\"inner words\\"}}"}}',
            FaultKind.OVERLOADED,
            None,
        ),
        (
            413,
            b'{"error":{"message":"Request too large: reduce the length of the messages"}}',
            FaultKind.CONTEXT_OVERFLOW,
            None,
        ),
    ],
)
def test_vendors_words(status: int, body: bytes, kind: FaultKind, code: str | None) -> None:
    fault = decode(status, {}, body)
    assert fault.kind is kind
    assert fault.upstream_code == code


def test_trap_193_throttling_is_no_overflow() -> None:
    body = b'{"error":{"message":"Too many requests: maximum context length is 5 tokens"}}'
    assert decode(429, {}, body).kind is FaultKind.RATE_LIMIT


def test_trap_194_digits_inside_texts_are_no_status() -> None:
    error = {"message": "request 503 of 42900 bytes failed", "code": "req_429500"}
    assert fault_in_stream(error).kind is FaultKind.UPSTREAM
    assert fault_in_stream({"message": "x", "code": "429"}).kind is FaultKind.RATE_LIMIT


def test_the_param_is_kept_and_credentials_are_not() -> None:
    words = "Incorrect API key provided: sk-proj-abcdefghijklmnop1234"
    fault = decode(401, {}, dumps({"error": {"message": words, "param": "model"}}))
    assert fault.param == "model"
    assert "abcdefgh" not in fault.message


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({"retry-after-ms": "1500"}, b"{}", 1.5),
        ({"retry-after": "7"}, b"{}", 7.0),
        (
            {
                "retry-after": "Sat, 21 Nov 2026 10:00:30 GMT",
                "date": "Sat, 21 Nov 2026 10:00:00 GMT",
            },
            b"{}",
            30.0,
        ),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"}, b"{}", 360.0),
        ({"x-ratelimit-reset-tokens": "6m0s"}, b"{}", None),
        ({}, b'{"error":{"message":"Please try again in 20s."}}', 20.0),
        ({}, b'{"error":{"resets_in_seconds":90,"type":"usage_limit_reached"}}', 90.0),
        (
            {"date": "Thu, 01 Jan 1970 00:01:00 GMT"},
            b'{"error":{"resets_at":100,"type":"usage_limit_reached"}}',
            40.0,
        ),
        ({}, b'{"error":{"details":[{"retryDelay":"3.5s"}]}}', 3.5),
        ({"retry-after": "soon"}, b"{}", None),
    ],
)
def test_how_long_to_wait(headers: dict[str, str], body: bytes, seconds: float | None) -> None:
    fault = decode(429, headers, body)
    assert fault.kind is FaultKind.RATE_LIMIT
    assert fault.retry_after_seconds == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("12ms", 0.012),
        ("1h2m3s", 3723.0),
        ("17", 17.0),
        ("", None),
        ("x", None),
        ("1d", None),
    ],
)
def test_durations(text: str, seconds: float | None) -> None:
    assert duration(text) == (pytest.approx(seconds) if seconds is not None else None)


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens "
        "(5000 in the messages, 4000 in the completion).",
        "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000, decrease "
        "input length or `max_tokens` and try again",
    ],
)
def test_trap_171_input_and_output_in_one_window(message: str) -> None:
    """No limit is lowered on a guess of the prompt's tokens: the vendor's own count decides, and
    its refusal is told from other bad requests."""
    fault = decode(400, {}, dumps({"error": {"message": message}}))
    assert fault.kind is FaultKind.CONTEXT_OVERFLOW


@pytest.mark.parametrize("body", [b"failed to parse request", b"", b'{"error":{"message":"big"}}'])
def test_trap_199_a_body_that_is_too_large(body: bytes) -> None:
    """Vendors differ in their limits and their words, not in the status."""
    assert decode(413, {}, body).kind is FaultKind.TOO_LARGE
