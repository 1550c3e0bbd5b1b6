"""A tenant's own price list: what it is charged for a model, from a moment on, whatever the
provider takes. Pure: a price is its own text here, and who sells reads it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
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
