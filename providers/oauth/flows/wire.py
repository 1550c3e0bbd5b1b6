"""What a flow asks of a vendor's login server, and what came back. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import urlencode, urlsplit

from controlplane.kit import json
from controlplane.kit.json import JSONDict

FORM: Final = "application/x-www-form-urlencoded"
JSON: Final = "application/json"
# The grant that RFC 8628 names.
DEVICE_GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"
_LONGEST_QUOTE: Final = 200


@dataclass(frozen=True, slots=True)
class Ask:
    """One request. Headers and body hold secrets: neither is printed."""

    method: Literal["GET", "POST"]
    url: str
    headers: Mapping[str, str] = field(repr=False, default_factory=dict)
    body: bytes | None = field(repr=False, default=None)


@dataclass(frozen=True, slots=True)
class Reply:
    """Header names are lower case. The body holds secrets: it is not printed."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    def object(self) -> JSONDict:
        """The JSON object in the body; empty when there is none. Statuses say little here:
        several servers tell errors under 200, so the body is always read first."""
        try:
            return json.loads_dict(self.body)
        except json.InvalidJSON:
            return {}

    @property
    def is_outage(self) -> bool:
        """Nothing that a login server says on purpose."""
        return (
            self.status >= 500
            or self.status in (408, 429)
            or (not self.object() and self.status not in (202, 403, 404, 410))
        )

    @property
    def retry_after_seconds(self) -> float | None:
        try:
            seconds = float(self.headers.get("retry-after", ""))
        except ValueError:
            return None
        return seconds if 0 <= seconds <= 86_400 else None


def post(
    url: str,
    fields: Mapping[str, object],
    *,
    body: Literal["form", "json"],
    headers: Mapping[str, str] | None = None,
) -> Ask:
    """Fields with empty values are left out."""
    sent = {name: value for name, value in fields.items() if value not in ("", None)}
    data = urlencode({k: str(v) for k, v in sent.items()}).encode()
    return Ask(
        "POST",
        url,
        {
            "Accept": JSON,
            **(headers or {}),
            "Content-Type": FORM if body == "form" else JSON,
        },
        data if body == "form" else json.dumps(sent),
    )


def get(url: str, *, headers: Mapping[str, str] | None = None) -> Ask:
    return Ask("GET", url, {"Accept": JSON, **(headers or {})})


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def text(value: object) -> str:
    """A vendor's field as one line of text; empty for anything that is none."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    return "".join(c if c.isprintable() else " " for c in str(value)).strip()


def word(value: object) -> str:
    """A token, code or address: visible ASCII without a space; empty for anything else, which
    could not stand in a header or link."""
    if not isinstance(value, str) or not value.isascii() or not value.isprintable():
        return ""
    return "" if " " in value else value


def quoted(value: object) -> str:
    """A vendor's words as part of a sentence of ours: short, and on one line."""
    return text(value)[:_LONGEST_QUOTE]


def number(value: object) -> float | None:
    """A number, or a text that holds one: Codex sends its interval as text."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if -1e15 < found < 1e15 else None


def claims(token: str) -> JSONDict:
    """What a JWT says of itself, unverified: for showing, and for ids that the vendor checks
    again. Empty when it is none."""
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        raw = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        return json.loads_dict(raw)
    except (ValueError, binascii.Error):
        return {}


def inner(value: object) -> JSONDict:
    """A nested object, or an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def is_allowed(url: str, hosts: tuple[str, ...]) -> bool:
    """Whether a link or address that a vendor sent may be shown or called: https, a host of the
    provider's list, no credentials in it. Plain http only for a host that the list names with
    `http://` in front: simulations on this machine."""
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").lower().rstrip(".")
        netloc = parts.netloc.lower()
    except ValueError:
        return False
    if not host or "@" in parts.netloc or word(url) != url or "\\" in url:
        return False
    if parts.scheme == "http":
        return f"http://{netloc}" in hosts
    if parts.scheme != "https":
        return False
    return any(
        host.endswith(known[1:]) if known.startswith("*.") else host == known for known in hosts
    )
