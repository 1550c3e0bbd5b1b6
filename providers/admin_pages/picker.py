"""The catalog as a shelf to pick a new provider from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from providers.catalog.loader import catalog
from providers.catalog.models import Provider
from providers.catalog.schema import ProviderFile

_GROUPS: Final = (
    (Provider.Kind.DIRECT, "Vendors", "The makers of the models."),
    (Provider.Kind.AGGREGATOR, "Aggregators", "Many vendors behind one account."),
    (Provider.Kind.CLOUD, "Clouds", "Models in your own cloud account."),
    (Provider.Kind.PROPRIETARY, "Subscriptions", "Used with a login instead of a key."),
    (Provider.Kind.CUSTOM, "On your own machines", "Servers that you run yourself."),
)


@dataclass(frozen=True, slots=True)
class Entry:
    id: str
    name: str
    what: str
    is_refused: bool


@dataclass(frozen=True, slots=True)
class Group:
    title: str
    text: str
    entries: tuple[Entry, ...]


def shelf(search: str) -> list[Group]:
    """The catalog by kind; with `search`, what is called or known as something like it."""
    words = search.lower().split()
    found = [file for file in catalog().values() if _matches(file, words)]
    files = sorted(found, key=lambda file: file.name.lower())
    groups = [
        Group(title, text, tuple(_entry(file) for file in files if file.kind == kind))
        for kind, title, text in _GROUPS
    ]
    return [group for group in groups if group.entries]


def _matches(file: ProviderFile, words: list[str]) -> bool:
    text = " ".join((file.id, file.name, *file.known_as)).lower()
    return all(word in text for word in words)


def _entry(file: ProviderFile) -> Entry:
    count = sum(not model.is_retired for model in file.models)
    models = "1 model" if count == 1 else f"{count} models"
    return Entry(
        id=file.id,
        name=file.name,
        what=models if count else "models as the server lists them",
        is_refused=bool(file.refused_at_runtime),
    )
