"""Mistral's two kinds of refusal: its validator's 422, and its own 400 about the conversation."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from controlplane.kit.json import JSONDict
from providers.simulator.wire import Refused

Place = tuple[str | int, ...]


class Invalid(Refused):
    """A field that the validator refuses: where, why, and its word for it."""

    def __init__(self, place: Place, message: str, kind: str, given: Any = None) -> None:
        path = ".".join(str(step) for step in ("body", *place))
        super().__init__(422, f"{path}: {message}", rule=kind)
        self.detail: JSONDict = {
            "type": kind,
            "loc": ["body", *place],
            "msg": message,
            "input": given,
        }


def ordered(kind: str, message: str, code: str, *, rule: str) -> Refused:
    """A conversation that is well formed and still cannot be answered."""
    return Refused(400, message, code=code, rule=rule, param=kind)


def only(value: Mapping[str, Any], allowed: Collection[str], place: Place) -> None:
    for name, given in value.items():
        if name not in allowed:
            raise Invalid(
                (*place, name), "Extra inputs are not permitted", "extra_forbidden", given
            )


@dataclass(frozen=True, slots=True)
class at:  # noqa: N801  (reads as a word: at(place).text(value))
    """Checks of one place; each returns the value."""

    place: Place

    def text(self, value: Any) -> str:
        if not isinstance(value, str):
            raise self._wrong(value, "Input should be a valid string", "string_type")
        return value

    def table(self, value: Any) -> JSONDict:
        if not isinstance(value, dict):
            raise self._wrong(value, "Input should be a valid dictionary", "dict_type")
        return value

    def items(self, value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise self._wrong(value, "Input should be a valid list", "list_type")
        return value

    def flag(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise self._wrong(value, "Input should be a valid boolean", "bool_type")
        return value

    def number(self, value: Any, low: float, high: float) -> float:
        if type(value) not in (int, float):
            raise self._wrong(value, "Input should be a valid number", "float_type")
        if value < low:
            raise self._wrong(
                value, f"Input should be greater than or equal to {low}", "greater_than_equal"
            )
        if value > high:
            raise self._wrong(
                value, f"Input should be less than or equal to {high}", "less_than_equal"
            )
        return float(value)

    def whole(self, value: Any, least: int) -> int:
        if type(value) is not int:
            raise self._wrong(value, "Input should be a valid integer", "int_type")
        self.number(value, least, 10**12)
        return value

    def word(self, value: Any, allowed: Collection[str]) -> str:
        if value not in allowed:
            words = " or ".join(f"'{word}'" for word in allowed)
            raise self._wrong(value, f"Input should be {words}", "enum")
        return str(value)

    def _wrong(self, value: Any, message: str, kind: str) -> Invalid:
        if value is None:
            return Invalid(self.place, "Field required", "missing")
        return Invalid(self.place, message, kind, value)
