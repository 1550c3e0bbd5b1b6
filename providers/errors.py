"""What can go wrong between us and a provider."""

from __future__ import annotations

from controlplane.kit.errors import FaultKind, GatewayError


class ProviderError(GatewayError):
    """Base. Raise a leaf."""


class UpstreamUnreachable(ProviderError):
    """Name, connection or TLS failed: nothing was sent, another target may be tried."""

    kind = FaultKind.UPSTREAM
    code = "upstream_unreachable"


class NameNotFound(UpstreamUnreachable):
    """The host name cannot be resolved."""


class TlsFailed(UpstreamUnreachable):
    """No trusted TLS connection came about."""


class AddressRefused(UpstreamUnreachable):
    """The address guard refused to dial: private, metadata or reserved."""

    code = "upstream_address_refused"


class UpstreamTimeout(ProviderError):
    """No first byte, or silence in the middle, for longer than the limit."""

    kind = FaultKind.TIMEOUT
    code = "upstream_timeout"


class UpstreamBroken(ProviderError):
    """The connection broke after the request was sent."""

    kind = FaultKind.UPSTREAM
    code = "upstream_broken"


class UpstreamTooLarge(ProviderError):
    """More bytes than our bounds allow."""

    kind = FaultKind.UPSTREAM
    code = "upstream_too_large"


class UpstreamRedirected(ProviderError):
    """Redirects are never followed: they would carry a credential to another host."""

    kind = FaultKind.UPSTREAM
    code = "upstream_redirected"
