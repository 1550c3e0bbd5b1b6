"""Reading a client's body: both spellings of every name, and a clear error for a wrong type."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

from controlplane.kit.json import JSONDict
from providers.protocols.errors import LocalProtocolError

_SNAKE: Final = re.compile(r"(?<=[a-z0-9])_([a-z0-9])")
# Names of fields are short; longer ones are data or an attack on the cache.
_MAX_NAME: Final = 64


@lru_cache(maxsize=1024)
def _camel(name: str) -> str:
    return _SNAKE.sub(lambda match: match.group(1).upper(), name)


def wrong(path: str, wanted: str, value: object) -> LocalProtocolError:
    kind = {dict: "an object", list: "a list", str: "a string", bool: "a boolean"}.get(
        type(value), "null" if value is None else "a number"
    )
    return LocalProtocolError(f"{path} must be {wanted}, not {kind}.", param=path)


def members(value: Any, path: str) -> JSONDict:
    """The object with camelCase names. Python clients send snake_case (trap 176)."""
    if type(value) is not dict:
        raise wrong(path, "an object", value)
    if "_" not in "".join(value):
        return value
    out: JSONDict = {}
    for name, item in value.items():
        spelled = _camel(name) if "_" in name and len(name) <= _MAX_NAME else name
        out[spelled] = item
    return out


def items(holder: JSONDict, name: str, path: str) -> list[Any]:
    value = holder.get(name)
    if value is None:
        return []
    if type(value) is not list:
        raise wrong(join(path, name), "a list", value)
    return value


def inner(holder: JSONDict, name: str, path: str) -> JSONDict | None:
    value = holder.get(name)
    return None if value is None else members(value, join(path, name))


def text(holder: JSONDict, name: str, path: str) -> str | None:
    value = holder.get(name)
    if value is None or type(value) is str:
        return value
    raise wrong(join(path, name), "a string", value)


def flag(holder: JSONDict, name: str, path: str) -> bool | None:
    value = holder.get(name)
    if value is None or type(value) is bool:
        return value
    raise wrong(join(path, name), "a boolean", value)


def number(holder: JSONDict, name: str, path: str) -> float | None:
    value = holder.get(name)
    if value is None:
        return None
    if type(value) is int or type(value) is float:
        return value
    raise wrong(join(path, name), "a number", value)


def integer(holder: JSONDict, name: str, path: str) -> int | None:
    """Google's JSON writes integers as numbers, as floats without a fraction, or as strings."""
    value = holder.get(name)
    if value is None or type(value) is int:
        return value
    if type(value) is float and value.is_integer():
        return int(value)
    if type(value) is str and len(value) < 20 and value.lstrip("-").isdecimal():
        return int(value)
    raise wrong(join(path, name), "a whole number", value)


def texts(holder: JSONDict, name: str, path: str) -> tuple[str, ...]:
    values = items(holder, name, path)
    for index, value in enumerate(values):
        if type(value) is not str:
            raise wrong(f"{join(path, name)}[{index}]", "a string", value)
    return tuple(values)


def join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
