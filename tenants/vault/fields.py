"""The column type of a sealed secret, and how the vault finds all such columns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from django.apps import apps
from django.db import models

# Whether there is one, and compare-and-set. Nothing that could ask about the contents.
_LOOKUPS: Final = frozenset({"exact", "isnull"})


class SealedField(models.BinaryField):  # type: ignore[type-arg]  # generic in the stubs only
    """Holds what `vault.services.seal` returned, or None. Reading it gives the sealed bytes:
    opening is a call (`unseal_from`), never an attribute access.

    The model's primary key must be a UUID known before the insert (kit.models.Row); a model
    with `tenant_id` seals for that tenant (None = the platform), any other for the platform.
    """

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> bytes | None:
        return None if value is None else bytes(value)

    def get_lookup(self, lookup_name: str) -> Any:
        return super().get_lookup(lookup_name) if lookup_name in _LOOKUPS else None


@dataclass(frozen=True, slots=True)
class SealedColumn:
    model: type[models.Model]
    field: str

    @property
    def model_name(self) -> str:
        return self.model._meta.label_lower

    @property
    def has_tenant(self) -> bool:
        return any(field.attname == "tenant_id" for field in self.model._meta.concrete_fields)

    def __str__(self) -> str:
        return f"{self.model_name}.{self.field}"


def installed_models() -> Iterable[type[models.Model]]:
    return apps.get_models(include_auto_created=True)


def sealed_columns() -> list[SealedColumn]:
    """Every sealed column of every installed model, each once, in a stable order."""
    found = [
        SealedColumn(model, field.name)
        for model in installed_models()
        if model._meta.managed and not model._meta.proxy
        for field in model._meta.local_fields
        if isinstance(field, SealedField)
    ]
    return sorted(found, key=str)
