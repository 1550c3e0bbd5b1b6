"""A request and a response of the simulated vendors, as small as they can be."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import parse_qs

from controlplane.kit import json

if TYPE_CHECKING:
    from providers.simulator.world import World

# How the message ends after its last piece. `whole`: as it should. `close`: the connection is
# closed, `reset`: it is reset, both before the message was whole. `hold`: nothing more comes,
# until the caller goes.
Ending = Literal["whole", "close", "reset", "hold"]

_BOUNDARY: Final = re.compile(r'boundary=(?:"([^"]{1,200})"|([^\s;,]{1,200}))', re.IGNORECASE)
_NAME: Final = re.compile(rb'[;\s]name="([^"]*)"', re.IGNORECASE)
_FILENAME: Final = re.compile(rb'[;\s]filename="([^"]*)"', re.IGNORECASE)
_TYPE: Final = re.compile(rb"^content-type:\s*([^\r\n;]+)", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class FormPart:
    """One field of a multipart form. `filename` is empty for plain fields."""

    name: str
    content: bytes
    filename: str = ""
    content_type: str = ""


@dataclass(slots=True)
class Request:
    """Header names are lower case; `path` is still percent-encoded and without the prefix."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""
    query_string: str = ""
    client: str = ""
    # Filled from the path pattern's `{names}`, percent-decoded.
    params: dict[str, str] = field(default_factory=dict)
    # What was stripped from the path: signatures cover it.
    prefix: str = ""
    # The body was longer than the simulation reads; `body` holds its beginning.
    is_too_large: bool = False

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(self.query_string, keep_blank_values=True)

    def json(self) -> Any:
        """Raises InvalidJSON."""
        return json.loads(self.body)

    def form(self) -> dict[str, str]:
        """A urlencoded body; of repeated fields the last counts."""
        parsed = parse_qs(self.body.decode("utf-8", "replace"), keep_blank_values=True)
        return {name: values[-1] for name, values in parsed.items()}

    def multipart(self) -> list[FormPart]:
        """The fields of a multipart form, in order. Raises ValueError with a sentence."""
        found = _BOUNDARY.search(self.headers.get("content-type", ""))
        if not self.headers.get("content-type", "").startswith("multipart/") or not found:
            raise ValueError("send multipart/form-data with a boundary")
        delimiter = b"\r\n--" + (found.group(1) or found.group(2)).encode("latin-1")
        _, *sections = (b"\r\n" + self.body).split(delimiter)
        if not sections or not sections[-1].startswith(b"--"):
            raise ValueError("the multipart body has no closing boundary")
        return [_part(section) for section in sections[:-1]]

    def bearer(self) -> str:
        """The token of `Authorization: Bearer …`, or an empty string."""
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" else ""


def _part(section: bytes) -> FormPart:
    head, blank, content = section.partition(b"\r\n\r\n")
    name = _NAME.search(head)
    if not blank or name is None:
        raise ValueError("a part of the multipart body has no name")
    file, kind = _FILENAME.search(head), _TYPE.search(head.replace(b"\r\n", b"\n"))
    return FormPart(
        name=name.group(1).decode("utf-8", "replace"),
        content=content,
        filename=file.group(1).decode("utf-8", "replace") if file else "",
        content_type=kind.group(1).decode("latin-1").strip() if kind else "",
    )


@dataclass(slots=True)
class Response:
    """`body` whole or in pieces. Status 0 = not even a status line, see `ending`. To a canned
    one no headers are added: it leaves as it was kept."""

    status: int = 200
    body: bytes | AsyncIterator[bytes] = b""
    headers: dict[str, str] = field(default_factory=dict)
    ending: Ending = "whole"
    is_canned: bool = False


def json_response(value: object, status: int = 200, **headers: str) -> Response:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Response(status, json.dumps(value), {"content-type": "application/json", **named})


def html_response(text: str, status: int = 200) -> Response:
    return Response(
        status,
        text.encode(),
        {"content-type": "text/html; charset=utf-8", "cache-control": "no-store"},
    )


Handler = Callable[[Request, "World"], Awaitable[Response]]
