"""Words for the vendors' rules: each raises Refused with the vendor's kind of sentence."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Collection, Mapping
from typing import Any, Final

from controlplane.kit import json
from controlplane.kit.json import JSONDict
from providers.simulator.keys import key_status
from providers.simulator.wire import Refused
from providers.simulator.world import World

TOOL_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_DATA_URL: Final = re.compile(r"data:([\w.+-]+/[\w.+-]+);base64,(.*)\Z", re.DOTALL)
_MAGIC: Final[dict[str, tuple[bytes, ...]]] = {
    "image/png": (b"\x89PNG",),
    "image/jpeg": (b"\xff\xd8\xff",),
    "image/gif": (b"GIF8",),
    "image/webp": (b"RIFF",),
    "application/pdf": (b"%PDF",),
}


def fail(rule: str, message: str) -> Refused:
    return Refused(400, message, rule=rule)


def require(condition: object, rule: str, message: str) -> None:
    if not condition:
        raise fail(rule, message)


def known_fields(body: Mapping[str, Any], allowed: Collection[str], place: str = "") -> None:
    """Vendors refuse arguments they do not know."""
    if unknown := sorted(set(body) - set(allowed)):
        raise fail("unknown_field", f"Unrecognized request argument supplied: {place}{unknown[0]}")


def text(value: object, place: str, *, may_be_empty: bool = True) -> str:
    if not isinstance(value, str):
        raise fail("type", f"{place} must be a string")
    if not may_be_empty and not value.strip():
        raise fail("empty_text", f"{place} must not be empty")
    return value


def items(value: object, place: str) -> list[Any]:
    if not isinstance(value, list):
        raise fail("type", f"{place} must be an array")
    return value


def table(value: object, place: str) -> JSONDict:
    if not isinstance(value, dict):
        raise fail("type", f"{place} must be an object")
    return value


def whole_number(value: object, place: str, low: int, high: int = 10**9) -> int:
    if type(value) is not int or not low <= value <= high:
        raise fail("range", f"{place} must be an integer between {low} and {high}")
    return value


def number(value: object, place: str, low: float, high: float) -> float:
    if type(value) not in (int, float) or not low <= value <= high:  # type: ignore[operator]
        raise fail("range", f"{place} must be a number between {low} and {high}")
    return float(value)  # type: ignore[arg-type]


def one_of(value: object, place: str, allowed: Collection[str]) -> str:
    if value not in allowed:
        raise fail("enum", f"{place}: invalid value {value!r}; supported: {sorted(allowed)}")
    return str(value)


def inline(media_type: str, data: str, place: str) -> int:
    """Checks base64 and that the bytes are what the media type says. Returns their count."""
    try:
        raw = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise fail("base64", f"{place} is not valid base64") from None
    require(raw, "base64", f"{place} is empty")
    magic = _MAGIC.get(media_type)
    if magic and not raw.startswith(magic):
        raise fail("media_type", f"{place}: the bytes are not {media_type}")
    return len(raw)


def data_url(url: str, place: str) -> tuple[str, int]:
    found = _DATA_URL.match(url)
    if found is None:
        raise fail("data_url", f"{place} is not a valid data URL")
    return found.group(1), inline(found.group(1), found.group(2), place)


def schema(value: object, place: str, *, strict: bool = False) -> JSONDict:
    """A JSON schema of an object; strict ones close every object and require every property."""
    found = table(value, place)
    if strict:
        _strict(found, place)
    return found


def _strict(node: JSONDict, place: str) -> None:
    if node.get("type") == "object" or "properties" in node:
        properties = table(node.get("properties", {}), f"{place}.properties")
        require(
            node.get("additionalProperties") is False,
            "strict_schema",
            f"{place}: 'additionalProperties' is required to be supplied and to be false",
        )
        require(
            set(node.get("required", ())) == set(properties),
            "strict_schema",
            f"{place}: 'required' must include every key in properties",
        )
        for name, inner in properties.items():
            if isinstance(inner, dict):
                _strict(inner, f"{place}.{name}")
    inner = node.get("items")
    if isinstance(inner, dict):
        _strict(inner, f"{place}.items")


def prompt_bytes(body: JSONDict) -> int:
    """What a prompt's tokens are counted from: the same for an answer streamed or whole."""
    asked = {name: body[name] for name in body if not name.startswith("stream")}
    return len(json.dumps(asked))


def check_key(key: str, world: World) -> None:
    status = key_status(key, world)
    if status:
        raise Refused(status, "Incorrect API key provided.", code="invalid_api_key")
