"""The part of a bundle that is a registration's own: its fields, secret headers and sharing."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final

from django.core.exceptions import ValidationError
from msgspec import UNSET

from controlplane.kit.secret import Secret
from providers.bundle import rules
from providers.bundle.document import ProviderEntry
from providers.bundle.notes import Notes
from providers.bundle.ownership import warnings_of_fields
from providers.bundle.secrets import Secrets
from providers.catalog.loader import catalog
from providers.catalog.models import Provider
from providers.catalog.services import EDITABLE, change_registration, register, share
from providers.credentials.sources import secret_headers_of
from tenants.members.models import Tenant

# Marked as a field is, although it is rows beside the registration.
_SHARING: Final = "shared_with"
_BESIDE: Final = {_SHARING, rules.FIELD}


class Registrations:
    """`bundle` empty: nothing is marked, an import."""

    def __init__(self, bundle: str, secrets: Secrets, notes: Notes) -> None:
        self._bundle = bundle
        self._secrets = secrets
        self._notes = notes

    def settle(
        self, entry: ProviderEntry, row: Provider | None, tenant_id: uuid.UUID | None
    ) -> Provider:
        """The registration as the entry wants it."""
        given = _given(entry)
        headers = self._secrets.headers.get((entry.tenant, entry.slug))
        owner = row.owned_fields.get(rules.FIELD, "") if row is not None else ""
        had_rules = bool(owner) and owner == self._bundle
        name = f"{entry.tenant}:{entry.slug}" if entry.tenant else entry.slug
        if row is None:
            row = register(
                slug=entry.slug,
                tenant_id=tenant_id,
                secret_headers=headers,
                owned_by=self._bundle,
                owned_fields=dict.fromkeys(_marked(entry, given), self._bundle)
                if self._bundle
                else {},
                **given,
            )
            after = dict(given)
            if headers:
                after["secret_headers"] = row.sealed_header_names
            self._notes.step("create", "registration", name, after=after)
        else:
            self._change(entry, row, given, headers, name)
        rules.settle(entry, row, name, self._notes, were_ours=had_rules)
        missing = sorted(set(entry.secret_headers) - set(row.sealed_header_names))
        if missing:
            self._notes.note(
                f"It waits for the secret header {', '.join(missing)}: a bundle carries no "
                "secrets, so set it in the registration or hand it over beside the bundle."
            )
        return row

    def _change(
        self,
        entry: ProviderEntry,
        row: Provider,
        given: dict[str, Any],
        headers: Mapping[str, Secret] | None,
        name: str,
    ) -> None:
        self._notes.refuse_others("registration", row.owned_by, self._bundle)
        others = {
            field: owner for field, owner in row.owned_fields.items() if owner != self._bundle
        }
        if self._bundle:
            for field in _marked(entry, given):
                self._notes.refuse_others(
                    f"registration's {field}", others.get(field, ""), self._bundle
                )
        owned = others
        values = dict(given)
        if self._bundle:
            owned = {**others, **dict.fromkeys(_marked(entry, given), self._bundle)}
            # What the bundle once set and no longer names goes back to where it was.
            columns = {field.name: field for field in Provider._meta.concrete_fields}
            for field in row.owned_fields.keys() - owned.keys() - _BESIDE:
                values[field] = columns[field].get_default()
        differs = {field: value for field, value in values.items() if getattr(row, field) != value}
        before = {field: getattr(row, field) for field in differs}
        if not self._bundle:
            for sentence in warnings_of_fields(row, differs):
                self._notes.note(sentence)
        _refuse_part_of_the_headers(row, headers)
        is_other_headers = bool(headers) and secret_headers_of(str(row.pk)) != dict(headers or {})
        if not differs and not is_other_headers and (owned == row.owned_fields or not self._bundle):
            return
        after = dict(differs)
        if is_other_headers:
            before["secret_headers"] = row.sealed_header_names
            after["secret_headers"] = sorted(headers or {}, key=str.lower)
        if not before:
            before["owned_fields"], after["owned_fields"] = row.owned_fields, owned
        marks: dict[str, Any] = {"owned_fields": owned} if self._bundle else {}
        change_registration(
            row,
            secrets=self._secrets.by_id(entry, row),
            secret_headers=headers,
            **differs,
            **marks,
        )
        self._notes.step("change", "registration", name, before=before, after=after)

    def share(self, entry: ProviderEntry, row: Provider, tenants: Sequence[Tenant]) -> None:
        """The chosen tenants, where the entry names them."""
        if entry.shared_with is UNSET:
            return
        current = {
            sharing.tenant_id: sharing.tenant.slug
            for sharing in row.shares.select_related("tenant")
        }
        if set(current) == {tenant.pk for tenant in tenants}:
            return
        share(row, with_all=row.is_shared_with_all, tenants=tenants)
        self._notes.step(
            "change",
            "sharing",
            entry.slug,
            before={"shared_with": sorted(current.values())},
            after={"shared_with": sorted(tenant.slug for tenant in tenants)},
        )


def _refuse_part_of_the_headers(row: Provider, headers: Mapping[str, Secret] | None) -> None:
    """Secret headers are kept together: some of them alone would take the others away, or send
    them along to another host."""
    if not headers:
        return
    given = {name.lower() for name in headers}
    missing = [name for name in row.sealed_header_names if name.lower() not in given]
    if missing:
        raise ValidationError(
            f"Hand over all secret headers of this registration, or none: "
            f"{', '.join(missing)} is missing. To take one away, do it in the registration."
        )


def _marked(entry: ProviderEntry, given: Mapping[str, Any]) -> list[str]:
    beside = {_SHARING: entry.shared_with, rules.FIELD: entry.error_rules}
    return [*given, *(field for field, value in beside.items() if value is not UNSET)]


def _given(entry: ProviderEntry) -> dict[str, Any]:
    """What the entry sets, in the spelling in which rows hold it."""
    given: dict[str, Any] = {
        field: value for field in EDITABLE if (value := getattr(entry, field)) is not UNSET
    }
    if entry.tenant and (
        given.pop("is_shared_with_all", True) is not True or entry.shared_with is not UNSET
    ):
        raise ValidationError("Only registrations of the platform are shared.")
    # An empty name is the catalog's to fill in.
    if given.get("name") == "":
        del given["name"]
    if "base_url" in given:
        given["base_url"] = given["base_url"].rstrip("/")
    if given.get("catalog_id"):
        file = catalog().named(given["catalog_id"])
        given["catalog_id"] = file.id if file is not None else given["catalog_id"]
    return given
