"""Whose key a check or a listing shows: the one that requests of the registration's owner would
show first, found by the same order (credentials/resolution.py) and read from the same place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from controlplane.kit.secret import Secret
from providers.catalog.effective import Effective
from providers.catalog.models import Provider
from providers.credentials.elsewhere import variable
from providers.credentials.models import Credential
from providers.credentials.references import reference_of, references
from providers.credentials.resolution import HEADERS
from providers.credentials.sources import secret_of
from providers.oauth.refresh import ensure_fresh
from providers.routing.table import CredentialRef


@dataclass(frozen=True, slots=True)
class Key:
    """`secret` None = the registration's sealed headers hold it."""

    ref: CredentialRef
    secret: Secret | None = field(repr=False)

    @property
    def said(self) -> str:
        """Which one it is, for people; never its value."""
        if self.ref.kind == HEADERS.kind:
            return self.ref.label
        if self.ref.variable:
            return f"the variable {self.ref.variable}"
        if self.ref.source != Credential.Source.STORED:
            place = str(Credential.Source(self.ref.source).label)
            return f"credential {self.ref.label!r} ({place})"
        return f"credential {self.ref.label!r}"

    @property
    def headers(self) -> Mapping[str, str]:
        return self.ref.headers

    def base_url(self, base_url: str) -> str:
        """Where this key is taken, for a provider whose host depends on who signed in."""
        return self.ref.base_urls.get(base_url, base_url)


def key_for(
    provider: Provider, settings: Effective, credential: Credential | None = None
) -> Key | None:
    """By this credential, or else the first in order. People's own logins are left out: no check
    spends their quota by itself. A login is renewed if need be. Waits. None = there is none.
    Raises ProviderError for one that gives no secret now."""
    if credential is not None:
        return _key(reference_of(provider, settings, credential))
    found = references(provider, settings, provider.tenant_id, {})
    return _key(found[0]) if found else None


def _key(ref: CredentialRef) -> Key:
    if ref.kind == HEADERS.kind:
        return Key(ref, None)
    if ref.variable:
        return Key(ref, variable(ref.variable))
    if ref.kind == Credential.Kind.OAUTH:
        return Key(ref, ensure_fresh(ref.id).token)
    return Key(ref, secret_of(ref.id))


def merged(*layers: Mapping[str, str]) -> dict[str, str]:
    """Headers of one request: names compare without case, and later layers win."""
    found: dict[str, tuple[str, str]] = {}
    for layer in layers:
        found |= {name.lower(): (name, value) for name, value in layer.items()}
    return dict(found.values())
