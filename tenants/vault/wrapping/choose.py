"""Which provider wraps (VAULT_PROVIDER) and which one unwraps a given data key (its scheme).

That they may differ is how an installation moves: set VAULT_PROVIDER to the new one, keep
the old one's settings, run `manage.py vault rewrap`.
"""

from __future__ import annotations

from pathlib import Path

from django.conf import settings

from controlplane.kit.secret import Secret
from tenants.vault.errors import KeyRingProblem
from tenants.vault.wrapping import aws, hashicorp, key_file
from tenants.vault.wrapping.contract import KeyProvider

SCHEMES = (key_file.SCHEME, hashicorp.SCHEME, aws.SCHEME)


def wrapping_provider() -> KeyProvider:
    return _provider(settings.VAULT_PROVIDER, "VAULT_PROVIDER")


def provider_of(wrapped_by: str) -> KeyProvider:
    return _provider(wrapped_by.partition(":")[0], "a stored data key")


def local_key_file() -> key_file.KeyFile:
    return key_file.KeyFile(Path(settings.VAULT_KEYS_FILE), settings.VAULT_KEYS)


def _provider(scheme: str, who: str) -> KeyProvider:
    match scheme:
        case key_file.SCHEME:
            return local_key_file()
        case hashicorp.SCHEME:
            token_file = settings.HASHICORP_VAULT_TOKEN_FILE
            ca_file = settings.HASHICORP_VAULT_CA_FILE
            return hashicorp.Transit(
                url=settings.HASHICORP_VAULT_URL,
                key=settings.HASHICORP_VAULT_TRANSIT_KEY,
                mount=settings.HASHICORP_VAULT_TRANSIT_MOUNT,
                token=Secret(settings.HASHICORP_VAULT_TOKEN),
                token_file=Path(token_file) if token_file else None,
                namespace=settings.HASHICORP_VAULT_NAMESPACE,
                ca_file=Path(ca_file) if ca_file else None,
            )
        case aws.SCHEME:
            return aws.Kms(
                key=settings.AWS_KMS_KEY_ID,
                region=settings.AWS_KMS_REGION,
                endpoint_url=settings.AWS_KMS_ENDPOINT_URL,
            )
    raise KeyRingProblem(f"{who} names {scheme!r}: it must be one of {', '.join(SCHEMES)}.")
