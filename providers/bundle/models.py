"""The part of a bundle that says what a registration offers, and under which names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from providers.bundle.document import ProviderEntry
from providers.bundle.notes import Notes
from providers.bundle.secrets import Secrets
from providers.catalog.model_services import (
    MODEL_FIELDS,
    add_mapping,
    add_model,
    change_mapping,
    change_model,
    remove_mapping,
    remove_model,
    together,
)
from providers.catalog.models import Provider, ProviderModel


@dataclass(frozen=True, slots=True)
class _Difference:
    """`row` None = to be made; `after` empty = to be taken away."""

    row: ProviderModel | None
    before: dict[str, Any]
    after: dict[str, Any]


class Models:
    def __init__(self, bundle: str, secrets: Secrets, notes: Notes) -> None:
        self._bundle = bundle
        self._secrets = secrets
        self._notes = notes

    def settle(self, entry: ProviderEntry, provider: Provider) -> None:
        name = f"{entry.tenant}:{entry.slug}" if entry.tenant else entry.slug
        differences = self._differences(entry, provider)
        if differences:
            is_moving = any(
                "protocol" in one.before or one.after.get("protocol") for one in differences
            )
            secrets = self._secrets.by_id(entry, provider)
            with together(provider, is_moving=is_moving, secrets=secrets):
                for difference in differences:
                    self._write(difference, provider, name)
        self._mappings(entry, provider, name)

    def _differences(self, entry: ProviderEntry, provider: Provider) -> list[_Difference]:
        marks = {"owned_by": self._bundle} if self._bundle else {}
        wanted: dict[tuple[str, str], dict[str, Any]] = {
            (model.upstream_id, model.alias): {
                **{field: getattr(model, field) for field in MODEL_FIELDS},
                **marks,
            }
            for model in entry.models
        }
        found: list[_Difference] = []
        for row in provider.models.order_by("upstream_id", "alias"):
            row.provider = provider
            values = wanted.pop((row.upstream_id, row.alias), None)
            if values is None:
                if self._bundle and row.owned_by == self._bundle:
                    found.append(_Difference(row, {"protocol": row.protocol}, {}))
                continue
            self._notes.refuse_others(f"model {row}", row.owned_by, self._bundle)
            before = {
                field: getattr(row, field)
                for field, value in values.items()
                if getattr(row, field) != value
            }
            if before:
                found.append(_Difference(row, before, values))
        return found + [_Difference(None, {}, values) for values in wanted.values()]

    def _write(self, difference: _Difference, provider: Provider, name: str) -> None:
        row, before, after = difference.row, difference.before, difference.after
        if row is None:
            add_model(provider=provider, **after)
            place = _name(name, after["upstream_id"], after["alias"])
            shown = {field: value for field, value in after.items() if value not in _EMPTY}
            shown.pop("owned_by", None)
            self._notes.step("create", "model", place, after=shown)
        elif after:
            change_model(row, **after)
            place = _name(name, row.upstream_id, row.alias)
            self._notes.step("change", "model", place, before=before, after=after)
        else:
            place = _name(name, row.upstream_id, row.alias)
            remove_model(row)
            self._notes.step("remove", "model", place)

    def _mappings(self, entry: ProviderEntry, provider: Provider, name: str) -> None:
        wanted = dict(entry.mappings)
        marks = {"owned_by": self._bundle} if self._bundle else {}
        for row in provider.mappings.select_related("provider").order_by("client_model"):
            place = f"{name} {row.client_model}"
            upstream = wanted.pop(row.client_model, None)
            if upstream is None:
                if self._bundle and row.owned_by == self._bundle:
                    remove_mapping(row)
                    self._notes.step("remove", "mapping", place)
                continue
            self._notes.refuse_others(f"mapping of {row.client_model}", row.owned_by, self._bundle)
            values: dict[str, Any] = {"upstream_model": upstream, **marks}
            before = {
                field: getattr(row, field)
                for field, value in values.items()
                if getattr(row, field) != value
            }
            if before:
                change_mapping(row, **values)
                self._notes.step("change", "mapping", place, before=before, after=values)
        for client_model, upstream in wanted.items():
            add_mapping(
                provider, client_model=client_model, upstream_model=upstream, owned_by=self._bundle
            )
            self._notes.step(
                "create", "mapping", f"{name} {client_model}", after={"upstream_model": upstream}
            )


_EMPTY: tuple[Any, ...] = ("", None, {})


def _name(provider: str, upstream_id: str, alias: str) -> str:
    return f"{provider}/{upstream_id}" + (f" as {alias}" if alias else "")
