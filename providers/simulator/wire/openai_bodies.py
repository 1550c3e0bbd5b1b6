"""How the operations beside conversations read their bodies and write their streams."""

from __future__ import annotations

from typing import Final

from controlplane.kit import json
from controlplane.kit.json import JSONDict
from providers.simulator.http import FormPart, Request
from providers.simulator.wire import checks
from providers.simulator.wire.checks import fail
from providers.simulator.wire.openai_chat import check_fields

EVENTS: Final = "text/event-stream; charset=utf-8"


def read_body(request: Request, fields: str) -> JSONDict:
    """A JSON object with no field beside `fields`, a list in one string."""
    body = checks.table(request.json(), "body")
    check_fields(body, fields.split(" "))
    return body


def form_of(request: Request) -> list[FormPart]:
    try:
        return request.multipart()
    except ValueError as error:
        raise fail("multipart", f"Could not parse multipart form: {error}.") from None


def named_event(event: JSONDict) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), json.dumps(event))
