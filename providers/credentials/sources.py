"""Where a secret comes from when it is needed. The value never leaves this process."""

from __future__ import annotations

from controlplane.kit import json
from controlplane.kit.secret import Secret
from providers.catalog.models import Provider
from providers.credentials import elsewhere
from providers.credentials.elsewhere import SourceUnavailable
from providers.credentials.models import Credential
from tenants import scope
from tenants.vault import services as vault

__all__ = ["SourceUnavailable", "secret_headers_of", "secret_of", "unsealed"]


def secret_of(credential_id: str) -> Secret:
    """The secret of one credential. Raises SourceUnavailable."""
    with scope.platform("unseal a credential for a request"):
        row = Credential.objects.filter(pk=credential_id).first()
    if row is None:
        raise SourceUnavailable("The provider's credential was removed.")
    return secret_in(row)


def secret_in(row: Credential) -> Secret:
    """What this credential shows to its provider. Raises SourceUnavailable."""
    if row.source != Credential.Source.STORED:
        return elsewhere.read(row)
    secret = unsealed(row)
    if row.kind == Credential.Kind.OAUTH:
        # A login's tokens are one object; what requests show is the access token.
        return Secret(str(json.loads_dict(secret.reveal())["access_token"]))
    return secret


def secret_headers_of(provider_id: str) -> dict[str, Secret]:
    """The sealed headers of one registration. Empty when it has none or is gone."""
    with scope.platform("unseal headers for a request"):
        row = Provider.objects.filter(pk=provider_id).first()
    if row is None or not row.sealed_headers:
        return {}
    opened = json.loads_dict(vault.unseal_from(row, "sealed_headers").reveal())
    return {name: Secret(value) for name, value in opened.items()}


def unsealed(row: Credential) -> Secret:
    if not row.sealed:
        raise SourceUnavailable(f"Credential {row.label!r} holds no secret yet.")
    return vault.unseal_from(row, "sealed")
