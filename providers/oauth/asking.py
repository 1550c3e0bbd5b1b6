"""One question to a vendor's login server, through the one outbound client.

Never repeated by itself: a refresh token that was sent twice may end the whole login.
"""

from __future__ import annotations

import asyncio
from typing import Final

from django.conf import settings

from providers.catalog.models import Provider
from providers.credentials.models import Credential
from providers.credentials.pick import proxy_of
from providers.errors import UpstreamTimeout
from providers.oauth.flows.wire import Ask, Reply
from providers.upstream.client import Timeouts, UpstreamClient
from providers.upstream.pool import ClientPool

MAX_ANSWER_BYTES: Final = 1024 * 1024
# Together shorter than every lease that is held meanwhile.
LONGEST_SECONDS: Final = 20.0
_TIMEOUTS: Final = Timeouts(connect_seconds=10.0, first_byte_seconds=18.0, idle_seconds=10.0)


def ask(provider: Provider, question: Ask, credential: Credential | None = None) -> Reply:
    """`credential` = the login that it is about, where there is one yet. Raises a ProviderError
    leaf where no answer came. Waits: not for an event loop."""
    return asyncio.run(_ask(provider, question, credential))


async def _ask(provider: Provider, question: Ask, credential: Credential | None) -> Reply:
    # The addresses are the catalogue's or the operator's, never a tenant's: the platform's
    # networks hold. A proxy or authority of their own is honoured where the platform set it.
    clients = ClientPool(allowed=settings.UPSTREAM_ALLOWED_NETWORKS)
    is_platform = provider.tenant_id is None
    client = clients.of(
        "platform",
        provider.ca_certificate if is_platform else "",
        proxy_of(provider, credential) if is_platform else "",
    )
    try:
        async with asyncio.timeout(LONGEST_SECONDS):
            return await send(client, question)
    except TimeoutError:
        raise UpstreamTimeout(
            f"The login server was not done within {LONGEST_SECONDS:g} s."
        ) from None
    finally:
        await clients.close()


async def send(client: UpstreamClient, question: Ask) -> Reply:
    response = await client.send(
        question.method,
        question.url,
        headers=question.headers,
        body=question.body,
        timeouts=_TIMEOUTS,
    )
    try:
        body = await response.read(MAX_ANSWER_BYTES)
    finally:
        response.close()
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Reply(response.status, headers, body)
