"""Who gets the secrets of a registration, and what it takes to change that (bar C6).

Whoever changes the scheme, host or port that a stored secret is sent to, or puts a proxy or a
certificate authority of their own in between, has to know the secret: it comes in the same
request.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from django.conf import settings

from controlplane.kit import clock
from controlplane.kit.errors import FaultKind
from controlplane.kit.secret import Secret
from providers.catalog.addresses import Origin, Owner, check_url
from providers.catalog.effective import Effective
from providers.catalog.models import Provider
from providers.catalog.registrations import effective_of
from providers.errors import ProviderError
from tenants.audit.services import record
from tenants.vault import services as vault


class SecretNeededAgain(ProviderError):
    """The host a stored secret would be sent to changes: whoever changes it must know it (C6)."""

    kind = FaultKind.BAD_REQUEST
    code = "secret_needed_again"


@dataclass(frozen=True, slots=True)
class Destinations:
    """None as `origins` = unknown: the registration could not work."""

    origins: frozenset[Origin] | None
    proxy: Origin | None
    certificate: str

    def reach_beyond(self, before: Destinations) -> bool:
        """Whether somebody gets to see secrets who did not before. To leave a proxy or a CA of
        one's own for the public ones is no such step; to fewer hosts neither."""
        if self.origins is None or before.origins is None or not self.origins <= before.origins:
            return True
        return (self.proxy is not None and self.proxy != before.proxy) or (
            self.certificate != "" and self.certificate != before.certificate
        )


def destinations(provider: Provider, *, effective: Effective | None = None) -> Destinations:
    """Where this registration's secrets go. Raises BadAddress for where they may not."""
    if effective is None:
        try:
            effective = effective_of(provider)
        except ProviderError:
            return Destinations(None, None, "")
    owner: Owner = "tenant" if provider.tenant_id else "platform"
    allowed = allowed_networks(owner)
    urls = {effective.base_url: "base_url"}
    for model in effective.models:
        for url in (model.base_url, *model.fallback_base_urls):
            urls.setdefault(url, "base_url")
    origins = frozenset(
        check_url(url, owner=owner, allowed=allowed, param=param) for url, param in urls.items()
    )
    proxy = check_proxy(provider, provider.proxy_url)
    certificate = provider.ca_certificate.strip()
    digest = hashlib.sha256(certificate.encode()).hexdigest() if certificate else ""
    return Destinations(origins, proxy, digest)


def check_proxy(provider: Provider, url: str) -> Origin | None:
    """Who would be in between; None = nobody. Raises BadAddress for where this registration's
    owner may not go."""
    if not url:
        return None
    owner: Owner = "tenant" if provider.tenant_id else "platform"
    allowed = allowed_networks(owner)
    return check_url(url, owner=owner, allowed=allowed, param="proxy_url", is_proxy=True)


def allowed_networks(owner: Owner) -> list[str]:
    """The private networks the operator opened for registrations of this owner."""
    return list(
        settings.UPSTREAM_ALLOWED_NETWORKS_FOR_TENANTS
        if owner == "tenant"
        else settings.UPSTREAM_ALLOWED_NETWORKS
    )


def own_simulator(provider: Provider) -> str:
    """`host:port` of our own simulator, if this registration is it: it lives on this machine, and
    only where the operator switched it on. Empty for every other."""
    if not settings.SIMULATOR or provider.tenant_id or provider.catalog_id != "simulator":
        return ""
    origin = urlsplit(str(provider.endpoint.get("origin", "")))
    is_here = origin.hostname in ("127.0.0.1", "::1")
    return origin.netloc if is_here and origin.port and "@" not in origin.netloc else ""


def require_secrets_again(
    provider: Provider,
    secrets: Mapping[uuid.UUID, Secret],
    *,
    has_secret_headers: bool,
) -> None:
    """Each stored secret, given again; one that differs takes the place of the old, which then is
    sent nowhere. Raises SecretNeededAgain."""
    stored = list(provider.credentials.exclude(sealed=None).order_by("label"))
    for credential in stored:
        if credential.kind == credential.Kind.OAUTH:
            raise SecretNeededAgain(
                f"The address changes, and the login {credential.label!r} would go there: remove "
                "the login first and sign in again afterwards.",
                param="secrets",
            )
        if not secrets.get(credential.pk):
            raise SecretNeededAgain(
                f"The address changes: give the secret of {credential.label!r} again, so that "
                "nobody can send it to a host of their choice.",
                param="secrets",
            )
    if provider.sealed_header_names and not has_secret_headers:
        raise SecretNeededAgain(
            "The address changes: set the secret headers again in the same request.",
            param="secret_headers",
        )
    for credential in stored:
        secret = secrets[credential.pk]
        fingerprint = vault.fingerprint(secret)
        if fingerprint == credential.fingerprint:
            continue
        vault.seal_into(credential, "sealed", secret)
        type(credential).objects.filter(pk=credential.pk).update(
            sealed=credential.sealed,
            fingerprint=fingerprint,
            version=credential.version + 1,
            updated_at=clock.now(),
        )
        record(
            tenant_id=provider.tenant_id,
            action="credential.replaced",
            target=credential,
            before={"fingerprint": credential.fingerprint},
            after={"provider": provider.slug, "fingerprint": fingerprint},
        )
