"""Variables that hold a provider's key, by the catalog's own table of names.

Only names that the table lists are looked at, whatever else stands in the file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from controlplane.kit.secret import Secret
from providers.bundle.document import CredentialEntry, ProviderEntry
from providers.bundle.text import check_texts
from providers.catalog.loader import catalog
from providers.catalog.schema import ProviderFile
from providers.imports.found import Draft, Imported, UnreadableImport

_ASSIGNMENT: Final = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)\Z")
_MOST_BYTES: Final = 1024 * 1024
# Credentials of these types are no single value that could be sealed as it is.
_NOT_A_KEY: Final = {
    "aws": "AWS credentials are several values: add the registration and let it find them.",
    "gcp_adc": "This names a file of the operator's: add the registration and let it find it.",
}


def read(content: Secret, *, tenant: str = "") -> Imported:
    """The text of a .env file or of `env`. Raises UnreadableImport."""
    values = variables(content.reveal())
    draft = Draft()
    for file in catalog().values():
        _provider(file, values, draft)
    return draft.done(tenant=tenant)


def variables(text: str) -> dict[str, str]:
    """`NAME=value` by line, with or without `export` and quotes; the last of a name counts. A line
    that is none is skipped: `env` prints values of several lines as they are."""
    if len(text) > _MOST_BYTES:
        raise UnreadableImport(f"A file may hold at most {_MOST_BYTES:,} characters.")
    check_texts(text)
    found: dict[str, str] = {}
    for raw in text.splitlines():
        match = _ASSIGNMENT.match(raw.strip())
        if match is None:
            continue
        name, value = match[1], match[2].strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        found[name] = value
    return {name: value for name, value in found.items() if value}


def _provider(file: ProviderFile, values: Mapping[str, str], draft: Draft) -> None:
    auth_type, name = _first(file, values)
    if not name:
        return
    if file.subscription is not None:
        draft.ignore(
            name, f"{file.name} takes the login of a person: sign in there instead of copying it."
        )
        return
    reason = _NOT_A_KEY.get(auth_type or file.auth.type)
    if reason is not None:
        draft.ignore(name, reason)
        return
    endpoint: dict[str, str] = {}
    for identifier, known in file.auth.identifiers.items():
        given = next((values[entry] for entry in known.env if entry in values), "")
        if given:
            endpoint[identifier] = given
        elif known.required and not known.default:
            wanted = " or ".join(known.env)
            draft.ignore(
                name, f"{file.name} also needs {known.description}: set {wanted or identifier}."
            )
            return
    settings: dict[str, object] = {"endpoint": endpoint} if endpoint else {}
    if auth_type:
        settings["auth_type"] = auth_type
    slug = draft.slug(file.id)
    draft.keys[("", slug), name] = Secret(values[name])
    draft.add(
        ProviderEntry(
            slug=slug,
            catalog_id=file.id,
            credentials=[CredentialEntry(label=name)],
            **settings,  # type: ignore[arg-type]  # chosen above
        ),
        secret_headers={},
    )


def _first(file: ProviderFile, values: Mapping[str, str]) -> tuple[str, str]:
    """The auth type, empty for the usual one, and the variable. Alternatives outrank it where both
    are set, as the vendors' own programs have it."""
    for auth_type, alternative in file.auth.alternatives.items():
        for name in alternative.env:
            if name in values:
                return auth_type, name
    return "", next((name for name in file.auth.env if name in values), "")
