"""What an import has read: a bundle without a name, the secrets apart, and what stayed behind with
the reason. Reading does no more than that: providers/bundle plans and applies it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from django.core.exceptions import ValidationError

from controlplane.kit.errors import FaultKind
from controlplane.kit.secret import Secret
from providers.bundle.document import (
    AliasEntry,
    Bundle,
    CredentialEntry,
    PolicyEntry,
    ProviderEntry,
)
from providers.bundle.secrets import Place, Secrets
from providers.catalog.validators import valid_headers, valid_quirks
from providers.credentials.models import Credential
from providers.errors import ProviderError

_NOT_IN_A_SLUG: Final = re.compile(r"[^a-z0-9._-]+")
_LONGEST_SLUG: Final = 63
_LONGEST_PLACE: Final = 120


class UnreadableImport(ProviderError):
    """Not a file of the kind that was said."""

    kind = FaultKind.BAD_REQUEST
    code = "unreadable_import"


class Ignored(msgspec.Struct, frozen=True, kw_only=True):
    """A key that was not taken over. Its value is never repeated: it may be a secret."""

    key: str
    reason: str

    def __str__(self) -> str:
        return f"{self.key}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Imported:
    bundle: Bundle
    secrets: Secrets
    ignored: tuple[Ignored, ...]


@dataclass(slots=True)
class Draft:
    """An import as it is read."""

    providers: list[ProviderEntry] = field(default_factory=list)
    aliases: list[AliasEntry] = field(default_factory=list)
    policies: list[PolicyEntry] = field(default_factory=list)
    ignored: list[Ignored] = field(default_factory=list)
    keys: dict[tuple[Place, str], Secret] = field(default_factory=dict)
    headers: dict[Place, dict[str, Secret]] = field(default_factory=dict)
    # What `$Name` means as the value of a header, and why it stays behind.
    dollar: str = "A caller's headers are never sent on to a provider."

    def ignore(self, key: str, reason: str) -> None:
        self.ignored.append(Ignored(key=line(key), reason=reason))

    def ignore_rest(self, table: Mapping[str, Any], known: Mapping[str, str], where: str) -> None:
        """Keys that nobody took: with their reason where we know them, else as unknown."""
        for key in table:
            self.ignore(f"{where}{key}", known.get(key, "This key is not known here."))

    def slug(self, wanted: str) -> str:
        """A name that is free in this import."""
        base = _NOT_IN_A_SLUG.sub("-", wanted.lower()).strip("-._")[:_LONGEST_SLUG] or "imported"
        taken = {entry.slug for entry in self.providers}
        number, slug = 1, base
        while slug in taken:
            number += 1
            slug = f"{base[: _LONGEST_SLUG - 5]}-{number}"
        return slug

    def add(self, entry: ProviderEntry, *, secret_headers: Mapping[str, Secret]) -> None:
        if secret_headers:
            self.headers["", entry.slug] = dict(secret_headers)
            entry = msgspec.structs.replace(entry, secret_headers=sorted(secret_headers))
        self.providers.append(entry)

    def split_headers(
        self, headers: Mapping[str, Any], where: str
    ) -> tuple[dict[str, str], dict[str, Secret]]:
        """Plain ones and those that look secret."""
        plain: dict[str, str] = {}
        secret: dict[str, Secret] = {}
        for name, value in headers.items():
            text = str(value)
            if text.startswith("$"):
                self.ignore(f"{where}{name}", self.dollar)
            elif text.startswith("!"):
                self.ignore(f"{where}{name}", COMMAND)
            else:
                try:
                    valid_headers({name: text})
                    plain[name] = text
                except ValidationError as error:
                    if error.code == "secret":
                        secret[name] = Secret(text)
                    else:
                        self.ignore(f"{where}{name}", " ".join(error.messages))
        return plain, secret

    def quirks(self, given: Mapping[str, Any], where: str) -> dict[str, Any]:
        """Those that exist here."""
        good: dict[str, Any] = {}
        for name, value in given.items():
            try:
                valid_quirks({name: value})
                good[name] = value
            except ValidationError:
                self.ignore(
                    f"{where}{name}", "There is no such switch here, or not with this value."
                )
        return good

    def done(self, *, tenant: str = "") -> Imported:
        """`tenant`: into this tenant instead of the platform."""
        providers = [self._owned(entry, tenant) for entry in self.providers]
        bundle = Bundle(
            name="",
            policies=[msgspec.structs.replace(entry, tenant=tenant) for entry in self.policies],
            providers=providers,
            aliases=[msgspec.structs.replace(entry, tenant=tenant) for entry in self.aliases],
        )
        secrets = Secrets(
            {((tenant, slug), label): secret for ((_, slug), label), secret in self.keys.items()},
            {(tenant, slug): named for (_, slug), named in self.headers.items()},
        )
        return Imported(bundle, secrets, tuple(self.ignored))

    def _owned(self, entry: ProviderEntry, tenant: str) -> ProviderEntry:
        if not tenant:
            return entry
        kept: list[CredentialEntry] = []
        for credential in entry.credentials:
            if credential.source == Credential.Source.STORED:
                kept.append(credential)
            else:
                self.ignore(
                    f"{entry.slug}/{credential.label}",
                    "A tenant's secrets are stored here, sealed: variables and files are the "
                    "operator's.",
                )
        return msgspec.structs.replace(entry, tenant=tenant, credentials=kept)


COMMAND: Final = "Commands out of files are never run: store the secret itself."


def line(text: str) -> str:
    """One printable line, for keys that anybody may have named."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)[:_LONGEST_PLACE]


def table_of(value: Any, what: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UnreadableImport(f"{line(what)} is no table of names and values.")
    return dict(value)


def tables_of(value: Any, what: str) -> list[dict[str, Any]]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise UnreadableImport(f"{line(what)} is no list.")
    return [table_of(entry, f"{what}[{number}]") for number, entry in enumerate(value)]


def text_of(value: Any, what: str) -> str:
    """Texts, and numbers that somebody did not quote."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UnreadableImport(f"{line(what)} is no text.")
    return str(value).strip()


def texts_of(value: Any, what: str) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise UnreadableImport(f"{line(what)} is no list.")
    return [text_of(entry, what) for entry in value]


def number_of(value: Any, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise UnreadableImport(f"{line(what)} is no whole number.")
    return value
