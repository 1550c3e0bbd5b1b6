"""What goes into `before` and `after`: plain, short, and never a secret."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Set
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Final

from django.db import models
from django.utils.functional import Promise

from controlplane.kit import json
from controlplane.kit.secret import Secret
from tenants.vault.fingerprints import fingerprint

LONGEST_TEXT: Final = 2_000
LONGEST_LIST: Final = 200
LARGEST_BYTES: Final = 65_536

# A second net under the rule "wrap it in Secret": text under such a name is taken for one.
_SECRET_NAME: Final = re.compile(
    r"(?i)(secret|password|passphrase|passwd|token|api_?key|private_?key|cookie|authorization)\Z"
)
# Control characters (a log line must stay one line), and what no encoding can hold.
_UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def as_json(values: Mapping[str, Any] | None) -> str:
    """The mapping as JSON with sorted names; empty for None. Raises TypeError on what has no
    plain form (bytes, querysets), ValueError when it is too large to be a description."""
    if values is None:
        return ""
    text = json.dumps_str(_plain_mapping(values))
    if len(text.encode()) > LARGEST_BYTES:
        raise ValueError(
            f"An audit event describes a change in at most {LARGEST_BYTES} bytes, "
            f"this one takes {len(text.encode())}: record counts or ids instead."
        )
    return text


def line(text: str, limit: int) -> str:
    """One line of at most `limit` characters, for labels."""
    clean = _UNPRINTABLE.sub("\ufffd", text)
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def _plain_mapping(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        str(name): _plain(value, is_secret=_SECRET_NAME.search(str(name)) is not None)
        for name, value in sorted(values.items(), key=lambda item: str(item[0]))
    }


def _plain(value: Any, *, is_secret: bool = False) -> Any:
    match value:
        case Secret():
            return {"fingerprint": fingerprint(value)} if value else None
        case Enum():
            return _plain(value.value, is_secret=is_secret)
        case str() if is_secret:
            return {"fingerprint": fingerprint(Secret(value))} if value else ""
        case None | bool() | int() | float():
            return value
        case str():
            return _text(value)
        case uuid.UUID() | Decimal() | timedelta() | Promise():
            return str(value)
        case datetime() | date():
            return value.isoformat()
        case models.Model():
            return {"id": str(value.pk), "label": line(str(value), 200)}
        case Mapping():
            return _plain_mapping(value)
        case list() | tuple():
            return _list([_plain(item, is_secret=is_secret) for item in value])
        case Set():
            return _list(sorted((_plain(item, is_secret=is_secret) for item in value), key=str))
    raise TypeError(f"{type(value).__name__} has no plain form for the audit log: pass text.")


def _text(value: str) -> str:
    clean = re.sub("[\ud800-\udfff]", "\ufffd", value)
    if len(clean) <= LONGEST_TEXT:
        return clean
    return f"{clean[:LONGEST_TEXT]}… ({len(clean)} characters)"


def _list(items: list[Any]) -> list[Any]:
    if len(items) <= LONGEST_LIST:
        return items
    return [*items[:LONGEST_LIST], f"… ({len(items)} items)"]
