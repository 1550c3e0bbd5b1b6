"""Reads a client's JSON: every value has its type checked, every error names its field.

`at` is the path of the object that holds the key, with its dot: `messages[2].`.
"""

from __future__ import annotations

from typing import Any, Final

from controlplane.kit.json import JSONDict
from providers.protocols.canonical import CacheMark, Level, Request
from providers.protocols.errors import LocalProtocolError, UnsupportedParameter

MAX_MESSAGES: Final = 10_000
MAX_TOOLS: Final = 1_000

_LEVELS: Final[dict[str, Level]] = {
    "none": "off",
    "off": "off",
    "minimal": "minimal",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "xhigh",
    "max": "max",
}


def wrong(path: str, problem: str) -> LocalProtocolError:
    return LocalProtocolError(f"`{path}` {problem}.", param=path)


def string(body: JSONDict, key: str, at: str = "") -> str | None:
    value = body.get(key)
    if value is None or type(value) is str:
        return value
    raise wrong(at + key, "must be a string")


def required_string(body: JSONDict, key: str, at: str = "") -> str:
    value = body.get(key)
    if type(value) is str and value:
        return value
    raise wrong(at + key, "is required and must be a non-empty string")


def any_string(body: JSONDict, key: str, at: str = "") -> str:
    """A string that must be there but may be empty."""
    value = body.get(key)
    if type(value) is str:
        return value
    raise wrong(at + key, "is required and must be a string")


def integer(body: JSONDict, key: str, at: str = "", *, least: int | None = None) -> int | None:
    value = body.get(key)
    if value is None:
        return None
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int:
        raise wrong(at + key, "must be an integer")
    if least is not None and value < least:
        raise wrong(at + key, f"must be at least {least}")
    return value


def number(body: JSONDict, key: str, at: str = "") -> float | None:
    value = body.get(key)
    if value is None or type(value) is float:
        return value
    if type(value) is int:
        return float(value)
    raise wrong(at + key, "must be a number")


def boolean(body: JSONDict, key: str, at: str = "") -> bool | None:
    value = body.get(key)
    if value is None or type(value) is bool:
        return value
    raise wrong(at + key, "must be true or false")


def mapping(body: JSONDict, key: str, at: str = "") -> JSONDict | None:
    value = body.get(key)
    if value is None or type(value) is dict:
        return value
    raise wrong(at + key, "must be an object")


def required_mapping(body: JSONDict, key: str, at: str = "") -> JSONDict:
    value = body.get(key)
    if type(value) is dict:
        return value
    raise wrong(at + key, "is required and must be an object")


def items(body: JSONDict, key: str, at: str = "", *, limit: int = 100_000) -> list[Any]:
    """A list; empty when the field is missing or null."""
    value = body.get(key)
    if value is None:
        return []
    if type(value) is not list:
        raise wrong(at + key, "must be an array")
    if len(value) > limit:
        raise wrong(at + key, f"holds {len(value)} entries; the limit is {limit}")
    return value


def as_mapping(value: object, path: str) -> JSONDict:
    if type(value) is dict:
        return value
    raise wrong(path, "must be an object")


def strings(body: JSONDict, key: str, at: str = "") -> tuple[str, ...]:
    """One string or several."""
    value = body.get(key)
    if value is None:
        return ()
    if type(value) is str:
        return (value,)
    if type(value) is list and all(type(entry) is str for entry in value):
        return tuple(value)
    raise wrong(at + key, "must be a string or an array of strings")


def string_map(body: JSONDict, key: str, at: str = "") -> dict[str, str]:
    value = mapping(body, key, at)
    for name, entry in (value or {}).items():
        if type(entry) is not str:
            raise wrong(f"{at}{key}.{name}", "must be a string")
    return value or {}


def one_of(body: JSONDict, key: str, words: tuple[str, ...], at: str = "") -> str | None:
    value = string(body, key, at)
    if value is None or value in words:
        return value
    raise wrong(at + key, f"must be one of {', '.join(words)}")


def level(value: object, path: str) -> Level:
    known = _LEVELS.get(value) if type(value) is str else None
    if known is None:
        raise wrong(path, "must be one of none, minimal, low, medium, high, xhigh, max")
    return known


def cache_mark(part: JSONDict, at: str) -> CacheMark | None:
    """The wish to cache up to this part, in either of the two spellings that are in use."""
    control = mapping(part, "cache_control", at)
    if control is not None:
        ttl = string(control, "ttl", f"{at}cache_control.")
        return CacheMark(ttl="1h") if ttl == "1h" else CacheMark(ttl="5m" if ttl == "5m" else None)
    breakpoint_ = mapping(part, "prompt_cache_breakpoint", at)
    if breakpoint_ is not None:
        # 12 hours is the long one of two; every other vendor's long one is an hour.
        return CacheMark(ttl="1h" if breakpoint_.get("ttl") == "12h" else None)
    return None


def refuse_server_state(request: Request) -> None:
    """State that lives at the vendor cannot follow the request to another protocol."""
    for name, value in (
        ("previous_response_id", request.previous_response_id),
        ("conversation", request.conversation),
        ("background", request.extra.get("background")),
        ("prompt", request.extra.get("prompt")),
    ):
        if value:
            raise UnsupportedParameter(
                f"`{name}` refers to state kept by an OpenAI Responses provider; the chosen model "
                "is served over another protocol. Send the whole conversation instead.",
                param=name,
            )
