"""Watches a relayed Responses stream: scans bytes, parses the last event only."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from controlplane.kit.json import JSONDict
from providers.protocols.canonical import Usage
from providers.protocols.openai_completions.errors import fault_in_stream
from providers.protocols.openai_completions.meter import LineMeter
from providers.protocols.openai_responses.usage import decode_usage

# A quote inside a JSON string is escaped, so these match members only, never text.
_NOTABLE: Final = re.compile(
    rb'"type"\s*:\s*"(?:response\.(?:completed|incomplete|failed|cancelled|done)|error)"'
)
_CONTENT: Final = re.compile(rb'"type"\s*:\s*"response\.(?:[a-z_]+\.delta|output_item\.done)"')
_FAILED: Final = frozenset({"response.failed", "response.cancelled"})


class _Response(msgspec.Struct):
    usage: Any = None
    error: Any = None
    service_tier: Any = None
    tool_usage: Any = None


class _Event(msgspec.Struct):
    type: Any = None
    response: _Response | None = None
    error: Any = None
    code: Any = None
    message: Any = None


_decode: Final = msgspec.json.Decoder(_Event).decode
_decode_response: Final = msgspec.json.Decoder(_Response).decode


def _usage_of(response: _Response) -> Usage | None:
    if type(response.usage) is not dict:
        return None
    usage: JSONDict = response.usage
    around = {"service_tier": response.service_tier, "tool_usage": response.tool_usage}
    return decode_usage(usage, around)


class ResponsesMeter(LineMeter):
    def scan(self, lines: bytes) -> None:
        if not self.has_content and _CONTENT.search(lines):
            self.has_content = True
        if _NOTABLE.search(lines) is None:
            return
        for line in lines.splitlines():
            if line.startswith(b"data:") and _NOTABLE.search(line) is not None:
                self._note(line[5:].strip())

    def _note(self, data: bytes) -> None:
        try:
            event = _decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return  # not ours to judge: the bytes go to the client as they are
        if event.type == "error":
            flat = {"code": event.code, "message": event.message}
            self.fault = fault_in_stream(event.error or flat)
        elif event.response is not None and type(event.type) is str:
            self.usage = _usage_of(event.response) or self.usage
            if event.type in _FAILED:
                self.fault = fault_in_stream(event.response.error or {})
            self.is_ended = True


def answer_usage(body: bytes) -> Usage | None:
    try:
        return _usage_of(_decode_response(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
