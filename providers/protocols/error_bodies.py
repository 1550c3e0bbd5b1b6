"""What an error answer says, whatever its shape: JSON, nested JSON, an array, HTML, nothing.

Reads defensively, keeps the vendor's words short and free of credentials (trap 196).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final

import msgspec

from controlplane.kit.errors import Fault, FaultKind
from controlplane.kit.json import InvalidJSON, depth_exceeds, loads
from providers.protocols import numbers

MAX_MESSAGE: Final = 1000
_MAX_BODY: Final = 256 * 1024

_MARKUP: Final = re.compile(r"<[^>]{0,400}>")
_TITLE: Final = re.compile(r"<title[^>]{0,200}>([^<]{1,300})</title>", re.IGNORECASE)
_SPACE: Final = re.compile(r"\s+")
# Things that look like credentials in the wild: keys with known prefixes, bearer tokens, JWTs,
# key=value pairs, AWS access key ids.
_CREDENTIAL: Final = re.compile(
    r"(?i:bearer)\s+[\w.~+/=-]{8,}"
    r"|\b(?:sk|pk|rk|gsk|xai|AIza|ghp|gho|ghu|ghs|hf|nvapi|pplx)[-_A-Za-z0-9]{12,}"
    r"|\beyJ[\w-]{8,}\.[\w-]{4,}(?:\.[\w-]*)?"
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{12,}"
    r"|(?i:\b(?:api[_-]?key|key|token|secret|signature|password)\s*[=:]\s*)[\"']?[^\s\"'&,]{8,}"
)

_OVERFLOW: Final = re.compile(
    r"prompt is too long|prompt exceeds max length|prompt too long"
    r"|input is too long for requested model|context window exceeds limit"
    r"|exceeds? the (?:model's )?(?:maximum )?context (?:window|length)|context window exceeded"
    r"|`max_tokens` exceed context limit"
    r"|context_length_exceeded|model_context_window_exceeded|content_length_exceeds_threshold"
    r"|input token count.{0,80}exceeds the maximum|maximum prompt length is \d"
    r"|reduce the length of the messages|maximum context length is \d"
    r"|exceeds the maximum allowed input length|longer than the model's context length"
    r"|exceeds the limit of \d+|exceeds the available context size"
    r"|greater than the context length|exceeded model token limit"
    r"|too large for model with \d+ maximum context length|range of input length should be",
    re.IGNORECASE | re.DOTALL,
)
# Bedrock says "too many tokens" when it throttles: that is not an overflow (trap 193).
_NOT_OVERFLOW: Final = re.compile(
    r"rate limit|too many requests|throttl|service unavailable", re.IGNORECASE
)
_QUOTA: Final = re.compile(
    r"insufficient_quota|credit balance|available balance|out of budget|quota exceeded|billing"
    r"|usage limit reached|usage_limit_reached|UsageLimitError|monthly.{0,20}limit",
    re.IGNORECASE,
)
_TEXT_DELAY: Final = re.compile(
    r"(?:retry|reset|again)\s+(?:in|after)\s+"
    r"(?:(\d+(?:\.\d+)?)\s*h(?:ours?)?)?\s*(?:(\d+(?:\.\d+)?)\s*m(?:in(?:ute)?s?)?(?![a-z]))?\s*"
    r"(?:(\d+(?:\.\d+)?)\s*s(?:ec(?:ond)?s?)?)?",
    re.IGNORECASE,
)


class Said(msgspec.Struct, frozen=True):
    """`type` and `code` are the vendor's own words; empty when it said none."""

    message: str = ""
    type: str = ""
    code: str = ""


_STATUS_KINDS: Final[dict[int, FaultKind]] = {
    400: FaultKind.BAD_REQUEST,
    401: FaultKind.AUTH,
    402: FaultKind.PAYMENT,
    403: FaultKind.FORBIDDEN,
    404: FaultKind.NOT_FOUND,
    405: FaultKind.METHOD,
    408: FaultKind.TIMEOUT,
    409: FaultKind.CONFLICT,
    412: FaultKind.CONFLICT,
    413: FaultKind.TOO_LARGE,
    415: FaultKind.UNSUPPORTED_MEDIA,
    422: FaultKind.UNPROCESSABLE,
    424: FaultKind.UPSTREAM,
    429: FaultKind.RATE_LIMIT,
    503: FaultKind.OVERLOADED,
    504: FaultKind.TIMEOUT,
    524: FaultKind.TIMEOUT,
    529: FaultKind.OVERLOADED,
}

# Our stable word per kind for what an upstream refused.
CODES: Final[dict[FaultKind, str]] = {
    FaultKind.BAD_REQUEST: "upstream_bad_request",
    FaultKind.CONTEXT_OVERFLOW: "context_length_exceeded",
    FaultKind.AUTH: "upstream_auth",
    FaultKind.PAYMENT: "upstream_quota_exhausted",
    FaultKind.FORBIDDEN: "upstream_forbidden",
    FaultKind.NOT_FOUND: "upstream_not_found",
    FaultKind.METHOD: "upstream_method",
    FaultKind.CONFLICT: "upstream_conflict",
    FaultKind.TOO_LARGE: "upstream_request_too_large",
    FaultKind.UNSUPPORTED_MEDIA: "upstream_unsupported_media",
    FaultKind.UNPROCESSABLE: "upstream_unprocessable",
    FaultKind.RATE_LIMIT: "upstream_rate_limited",
    FaultKind.OVERLOADED: "upstream_overloaded",
    FaultKind.TIMEOUT: "upstream_timeout",
    FaultKind.UPSTREAM: "upstream_error",
    FaultKind.INTERNAL: "upstream_error",
}


def kind_of_status(status: int) -> FaultKind:
    known = _STATUS_KINDS.get(status)
    if known is not None:
        return known
    return FaultKind.BAD_REQUEST if 400 <= status < 500 else FaultKind.UPSTREAM


def read(body: bytes) -> Said:
    """The vendor's words. Never raises."""
    body = body[:_MAX_BODY].strip()
    if not body:
        return Said()
    if body[:1] in b'{["' and not depth_exceeds(body):
        try:
            return of_value(loads(body))
        except InvalidJSON:
            pass  # a cut or broken body still says something as text
    text = body[:8192].decode("utf-8", "replace")
    title = _TITLE.search(text)
    return Said(clean(title.group(1) if title else _MARKUP.sub(" ", text)))


def of_value(value: Any, depth: int = 0) -> Said:
    """The words inside a parsed error of any nesting."""
    if depth > 6:
        return Said()
    if isinstance(value, list):
        return of_value(value[0], depth + 1) if value else Said()
    if isinstance(value, str):
        inner = value.strip()
        if inner[:1] in ("{", "[") and not depth_exceeds(inner.encode("utf-8", "replace")):
            try:
                return of_value(loads(inner), depth + 1)
            except InvalidJSON:
                pass  # plain text that begins with a bracket
        return Said(clean(value))
    if not isinstance(value, dict):
        return Said()
    own_type = _word(value.get("__type") or value.get("type"))
    own_code = _word(value.get("code") or value.get("reason"))
    for key in ("error", "message", "Message", "detail", "errorMessage", "errors"):
        inner_value = value.get(key)
        if inner_value is None or isinstance(inner_value, bool | int | float):
            continue
        said = of_value(inner_value, depth + 1)
        if said.message or said.type or said.code:
            return Said(
                said.message or clean(_text(value.get("message"))),
                said.type or ("" if own_type == "error" else own_type),
                said.code or own_code,
            )
    return Said("", own_type, own_code)


def clean(text: str) -> str:
    """One line, bounded, without anything that looks like a credential."""
    text = _CREDENTIAL.sub("[hidden]", _SPACE.sub(" ", text[: MAX_MESSAGE * 4]).strip())
    return text if len(text) <= MAX_MESSAGE else text[: MAX_MESSAGE - 1] + "…"


def _word(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    return clean(str(value))[:100]


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def is_overflow(said: Said) -> bool:
    words = f"{said.type} {said.code} {said.message}"
    return _OVERFLOW.search(words) is not None and _NOT_OVERFLOW.search(words) is None


def is_quota(said: Said) -> bool:
    """Money or a long-term allowance is used up: waiting a minute does not help."""
    return _QUOTA.search(f"{said.type} {said.code} {said.message}") is not None


def delay(headers: Mapping[str, str], said: Said) -> float | None:
    """Seconds the vendor asks to wait. Dates are read against the answer's own `date` header,
    for this code has no clock."""
    milliseconds = numbers.seconds(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    after = headers.get("retry-after", "")
    value = numbers.seconds(after) if after else None
    if value is None and after:
        value = _seconds_until(after, headers.get("date", ""))
    if value is None:
        value = numbers.seconds(headers.get("x-ratelimit-reset-after"))
    if value is not None:
        return value
    match = _TEXT_DELAY.search(said.message)
    if match is None or not any(match.groups()):
        return None
    hours, minutes, secs = (float(group) if group else 0.0 for group in match.groups())
    return numbers.seconds(hours * 3600 + minutes * 60 + secs)


def epoch_seconds(date: str) -> float | None:
    """An HTTP date as epoch seconds."""
    try:
        return parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def _seconds_until(date: str, now: str) -> float | None:
    then, since = epoch_seconds(date), epoch_seconds(now)
    return None if then is None or since is None else numbers.seconds(then - since)


def fault(
    kind: FaultKind,
    said: Said,
    *,
    retry_after_seconds: float | None = None,
    code: str | None = None,
    fallback: str = "",
) -> Fault:
    return Fault(
        kind=kind,
        code=code or CODES.get(kind, "upstream_error"),
        message=said.message or fallback or "The upstream refused the request and gave no reason.",
        retry_after_seconds=retry_after_seconds,
        upstream_code=said.code or said.type or None,
    )


def fault_of_answer(
    status: int,
    headers: Mapping[str, str],
    said: Said,
    *,
    kinds: Mapping[str, FaultKind],
) -> Fault:
    """The common judgement: overflow first, then the vendor's own word, then the status."""
    kind = kinds.get(said.type) or kinds.get(said.code) or kind_of_status(status)
    if kind in (FaultKind.BAD_REQUEST, FaultKind.TOO_LARGE, FaultKind.UNPROCESSABLE):
        if is_overflow(said):
            kind = FaultKind.CONTEXT_OVERFLOW
        elif is_quota(said):
            kind = FaultKind.PAYMENT
    elif kind is FaultKind.RATE_LIMIT and is_quota(said):
        kind = FaultKind.PAYMENT
    return fault(
        kind,
        said,
        retry_after_seconds=delay(headers, said),
        fallback=f"The upstream answered {status} without an explanation.",
    )
