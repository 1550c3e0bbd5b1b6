"""Secrets handed over beside a bundle, by the places the bundle names. They live in memory, and
go from here into the vault."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from controlplane.kit.secret import Secret
from providers.bundle import text
from providers.bundle.document import BadBundle, ProviderEntry
from providers.catalog.models import Provider

# Registration: the tenant's slug (empty = the platform's) and its own.
Place = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Secrets:
    """`keys` by registration and label, `headers` by registration and name."""

    keys: Mapping[tuple[Place, str], Secret] = field(default_factory=dict)
    headers: Mapping[Place, Mapping[str, Secret]] = field(default_factory=dict)

    def by_id(self, entry: ProviderEntry, row: Provider) -> dict[uuid.UUID, Secret]:
        """Those of one registration's stored credentials, as its services want them."""
        place = (entry.tenant, entry.slug)
        return {
            key: secret
            for key, label in row.credentials.values_list("pk", "label")
            if (secret := self.keys.get((place, label))) is not None
        }


NONE = Secrets()


def place_of(written: str) -> Place:
    """`claude` or, of a tenant, `acme:claude`."""
    tenant, _, slug = written.rpartition(":")
    return tenant, slug


def secrets_of(keys: Mapping[str, Secret], headers: Mapping[str, Mapping[str, Secret]]) -> Secrets:
    """From `claude/label` or `acme:claude/label`. Raises BadBundle."""
    found: dict[tuple[Place, str], Secret] = {}
    for written, secret in keys.items():
        registration, slash, label = written.partition("/")
        if not (registration and slash and label):
            raise BadBundle(
                "Secrets are named `registration/label`, those of a tenant's registration "
                "`tenant:registration/label`.",
                param="secrets",
            )
        found[place_of(registration), label] = secret
    return Secrets(found, {place_of(written): named for written, named in headers.items()})


def read(content: Secret) -> Secrets:
    """A file with the tables `secrets` and `secret_headers`. Raises UnreadableText, BadBundle."""
    tables = text.loads(content.reveal())
    if not isinstance(tables, dict) or tables.keys() - {"secrets", "secret_headers"}:
        raise BadBundle("A file of secrets holds the tables `secrets` and `secret_headers` alone.")
    headers = tables.get("secret_headers") or {}
    if not isinstance(headers, dict):
        raise BadBundle("`secret_headers` is a table of registrations.")
    return secrets_of(
        _texts(tables.get("secrets") or {}),
        {str(registration): _texts(named) for registration, named in headers.items()},
    )


def _texts(table: Any) -> dict[str, Secret]:
    if not isinstance(table, dict) or not all(isinstance(value, str) for value in table.values()):
        raise BadBundle("Each secret is a text: put it in quotes.")
    return {str(name): Secret(value) for name, value in table.items()}
