"""Fills `{name}` in a provider's URL with identifiers, strictly. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from controlplane.kit.errors import FaultKind
from providers.catalog.schema import Identifier
from providers.errors import ProviderError

_PLACEHOLDER: Final = re.compile(r"\{([a-z_]+)\}")


class IdentifierError(ProviderError):
    """A value that does not match its pattern, or is missing: it would end up in a URL."""

    kind = FaultKind.BAD_REQUEST
    code = "invalid_identifier"


def fill(url: str, identifiers: Mapping[str, Identifier], values: Mapping[str, str]) -> str:
    """`url` with every placeholder replaced. Raises IdentifierError in one clear sentence."""
    for name in _PLACEHOLDER.findall(url):
        known = identifiers.get(name)
        value = _value(name, known, values)
        if known is not None and value in known.base_urls:
            return fill(known.base_urls[value], identifiers, values)

    def replace(match: re.Match[str]) -> str:
        name = match.group(1)
        known = identifiers.get(name)
        value = _value(name, known, values)
        if not value:
            raise IdentifierError(f"Give {name!r}: the base URL {url} needs it.", param=name)
        check(name, value, known)
        return value

    return _PLACEHOLDER.sub(replace, url)


def endpoint_of(
    identifiers: Mapping[str, Identifier], *layers: Mapping[str, str]
) -> dict[str, str]:
    """What URLs and envelopes are filled with: defaults, then each layer over the one before.
    Empty values count as not given. Raises IdentifierError for a value of the wrong form."""
    merged = {name: known.default for name, known in identifiers.items() if known.default}
    for layer in layers:
        merged.update({name: value for name, value in layer.items() if value})
    for name, value in merged.items():
        if name in identifiers:
            check(name, value, identifiers[name])
    return merged


def fill_headers(
    templates: Mapping[str, str], identifiers: Mapping[str, Identifier], values: Mapping[str, str]
) -> dict[str, str]:
    """Headers made of a credential's own identifiers (`[auth.headers]`); one whose value is not
    known is left out. Raises IdentifierError for a value of the wrong form."""
    return {
        header: fill(template, identifiers, values)
        for header, template in templates.items()
        if all(
            _value(name, identifiers.get(name), values) for name in _PLACEHOLDER.findall(template)
        )
    }


def check(name: str, value: str, identifier: Identifier | None) -> None:
    """Raises IdentifierError unless `value` matches the identifier's pattern as a whole."""
    if identifier is None:
        raise IdentifierError(f"{name!r} is not an identifier of this provider.", param=name)
    if not re.fullmatch(identifier.pattern, value):
        raise IdentifierError(
            f"{name!r} has a form this provider does not use: {identifier.description}.",
            param=name,
        )


def _value(name: str, known: Identifier | None, values: Mapping[str, str]) -> str:
    return values.get(name) or (known.default if known else "")
