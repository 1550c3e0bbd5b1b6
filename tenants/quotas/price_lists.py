"""A tenant's own price list: what it is charged for a model, from a moment on, whatever the
provider takes. Pure: a price is its own text here, and who sells reads it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

from controlplane.kit import json


@dataclass(frozen=True, slots=True)
class ListedPrice:
    """`model` is the name that callers use; `*` stands for any part of it."""

    model: str
    effective_from: float
    price: str
    version: str

    def fits(self, model: str, at: float) -> bool:
        return self.effective_from <= at and fnmatchcase(model, self.model)


def read(rows: Iterable[Mapping[str, Any]]) -> tuple[ListedPrice, ...]:
    """The best first: whole names before patterns, longer patterns before shorter ones, and of the
    same the latest."""
    found = []
    for row in rows:
        price = json.dumps_str(dict(sorted(row["price"].items())))
        began = datetime.fromisoformat(row["effective_from"]).timestamp()
        version = hashlib.sha256(price.encode()).hexdigest()[:16]
        found.append(ListedPrice(row["model"], began, price, version))
    return tuple(
        sorted(found, key=lambda one: ("*" in one.model, -len(one.model), -one.effective_from))
    )


def in_force(listed: tuple[ListedPrice, ...], model: str, at: float) -> ListedPrice | None:
    """None = nothing is agreed for this model: the provider's price and the mark-up hold."""
    return next((one for one in listed if one.fits(model, at)), None)


class UnreadableLine(ValueError):
    """A line of a price list's text that says no price; its text says what is wrong."""


def to_text(rows: Iterable[Mapping[str, Any]]) -> str:
    """A line for each price, as people edit it: `gpt-* 2026-01-01 input=2 output=8`."""
    return "\n".join(_line(row) for row in rows)


def from_text(text: str) -> list[dict[str, Any]]:
    """The rows that `to_text` spells. Whether they are prices is for others to say. Raises
    UnreadableLine."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        model, began, *rest = [*line.split(maxsplit=2), "", ""][:3]
        if not began or not rest[0]:
            raise UnreadableLine(
                f"Line {number}: write a model, a day and a price, as in "
                "gpt-* 2026-01-01 input=2 output=8."
            )
        found.append(
            {
                "model": model,
                "effective_from": _moment(began, number),
                "price": _price(rest[0].strip(), number),
            }
        )
    return found


def _line(row: Mapping[str, Any]) -> str:
    began = str(row["effective_from"]).removesuffix("+00:00").removesuffix("T00:00:00")
    price = row["price"]
    if all(isinstance(amount, str) for amount in price.values()):
        spelled = " ".join(f"{name}={amount}" for name, amount in price.items())
    else:
        # With tiers: tables of their own, which no pairs can spell.
        spelled = json.dumps_str(price)
    return f"{row['model']} {began} {spelled}"


def _moment(text: str, number: int) -> str:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UnreadableLine(
            f"Line {number}: {text[:40]!r} is no day: write 2026-01-01, or 2026-01-01T12:00:00."
        ) from None
    return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).isoformat()


def _price(text: str, number: int) -> dict[str, Any]:
    if text.startswith("{"):
        try:
            return json.loads_dict(text)
        except json.InvalidJSON:
            raise UnreadableLine(f"Line {number}: the price is no JSON object.") from None
    pairs = [pair.partition("=") for pair in text.split()]
    for name, is_there, amount in pairs:
        if not (name and is_there and amount):
            raise UnreadableLine(
                f"Line {number}: {name[:40]!r} names no amount: write input=2 output=8."
            )
    return {name: amount for name, _, amount in pairs}
