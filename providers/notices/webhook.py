"""A webhook through the one outbound client: guarded where it dials, bounded, never redirected."""

from __future__ import annotations

import asyncio
from typing import Final

from django.conf import settings

from providers.errors import (
    AddressRefused,
    NameNotFound,
    ProviderError,
    TlsFailed,
    UpstreamRedirected,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from providers.upstream.client import Timeouts
from providers.upstream.pool import ClientPool
from tenants.alerts.delivering import Message

# Together shorter than the lease of the job that waits for it.
LONGEST_SECONDS: Final = 20.0
_TIMEOUTS: Final = Timeouts(connect_seconds=10.0, first_byte_seconds=15.0, idle_seconds=5.0)
# An answer's words are nobody's business: enough to keep the connection in order.
_MOST_BYTES: Final = 64 * 1024


def post(message: Message) -> str:
    """Empty: it was taken (any status below 300). Else what is wrong, in a sentence. Waits."""
    return asyncio.run(_post(message))


async def _post(message: Message) -> str:
    clients = ClientPool(
        allowed=settings.UPSTREAM_ALLOWED_NETWORKS,
        allowed_for_tenants=settings.UPSTREAM_ALLOWED_NETWORKS_FOR_TENANTS,
    )
    client = clients.of("platform" if message.is_platform else "tenant")
    headers = {
        "Content-Type": "application/json",
        "Accept": "*/*",
        "User-Agent": "provider-control-plane",
        **message.headers,
    }
    try:
        async with asyncio.timeout(LONGEST_SECONDS):
            response = await client.send(
                "POST", message.url, headers=headers, body=message.body, timeouts=_TIMEOUTS
            )
            try:
                await response.read(_MOST_BYTES)
            finally:
                response.close()
    except TimeoutError:
        return f"The receiver did not answer within {LONGEST_SECONDS:g} seconds."
    except ProviderError as error:
        return _sentence(error, message.is_platform)
    finally:
        await clients.close()
    return "" if response.status < 300 else f"The receiver answered with {response.status}."


def _sentence(error: ProviderError, is_platform: bool) -> str:
    match error:
        case AddressRefused():
            name = "UPSTREAM_ALLOWED_NETWORKS" + ("" if is_platform else "_FOR_TENANTS")
            return f"The address is private or reserved. The operator can open it with {name}."
        case NameNotFound():
            return "The host's name cannot be resolved: check its spelling."
        case TlsFailed():
            return "No trusted TLS connection came about: check the receiver's certificate."
        case UpstreamRedirected():
            return "It answers with a redirect, which is never followed: use where that leads."
        case UpstreamTimeout():
            return "The receiver did not answer in time."
        case UpstreamUnreachable():
            return "The receiver refused the connection, or its address is no URL."
    return "The receiver does not answer as an HTTP server should."
