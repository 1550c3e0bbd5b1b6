"""Typed reading of a client's JSON: a wrong type anywhere names its field."""

from __future__ import annotations

from typing import Any

from controlplane.kit.json import JSONDict
from providers.protocols.errors import LocalProtocolError


def wrong(param: str, expected: str) -> LocalProtocolError:
    return LocalProtocolError(f"`{param}` must be {expected}.", param=param)


def dictionary(value: Any, param: str) -> JSONDict:
    if type(value) is not dict:
        raise wrong(param, "an object")
    return value


def items(value: Any, param: str) -> list[Any]:
    if type(value) is not list:
        raise wrong(param, "an array")
    return value


def string(body: JSONDict, key: str, parent: str) -> str:
    value = body.get(key)
    if type(value) is not str:
        raise wrong(f"{parent}.{key}" if parent else key, "a string")
    return value


def optional_string(body: JSONDict, key: str, parent: str) -> str | None:
    value = body.get(key)
    if value is None:
        return None
    return string(body, key, parent)


def flag(body: JSONDict, key: str, parent: str) -> bool | None:
    value = body.get(key)
    if value is None or type(value) is bool:
        return value
    raise wrong(f"{parent}.{key}" if parent else key, "true or false")


def integer(body: JSONDict, key: str, parent: str, *, low: int = 0) -> int | None:
    value = body.get(key)
    if value is None:
        return None
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int or not low <= value <= 1_000_000_000:
        raise wrong(f"{parent}.{key}" if parent else key, f"an integer of at least {low}")
    return value


def number(body: JSONDict, key: str, *, low: float, high: float) -> float | None:
    value = body.get(key)
    if value is None:
        return None
    if type(value) not in (int, float) or not low <= value <= high:
        raise wrong(key, f"a number between {low:g} and {high:g}")
    return float(value)


def strings(value: Any, param: str) -> tuple[str, ...]:
    if value is None:
        return ()
    entries = items(value, param)
    for index, entry in enumerate(entries):
        if type(entry) is not str:
            raise wrong(f"{param}[{index}]", "a string")
    return tuple(entries)
