"""What a person should hear who changes something that a bundle sets: the next apply would undo
it. Screens and the API say so; they do not refuse, since an emergency does not wait for a file."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from providers.catalog.models import Provider


class Owned(Protocol):
    """A model, mapping or alias: a bundle owns the whole row."""

    owned_by: str


def warnings_of_fields(provider: Provider, fields: Iterable[str]) -> list[str]:
    """Before fields of a registration are changed: one sentence per bundle that sets some."""
    by_bundle: dict[str, list[str]] = {}
    for field in fields:
        if owner := provider.owned_fields.get(field):
            by_bundle.setdefault(owner, []).append(field)
    return [
        f"The bundle {owner!r} sets {', '.join(sorted(set(named)))}: its next apply would undo "
        "this. Change the file too."
        for owner, named in sorted(by_bundle.items())
    ]


def warnings_of_change(row: Owned) -> list[str]:
    if not row.owned_by:
        return []
    return [
        f"This comes from the bundle {row.owned_by!r}: its next apply would undo the change. "
        "Change the file too."
    ]


def warnings_of_removal(row: Owned | Provider) -> list[str]:
    if not row.owned_by:
        return []
    return [
        f"This comes from the bundle {row.owned_by!r}: its next apply would make it again. Take "
        "it out of the file too."
    ]
