"""One request to one provider, at the first of its addresses that is there."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from controlplane.proxy import metered, respond
from controlplane.proxy.exchange import Exchange
from controlplane.proxy.faults import UpstreamFault
from controlplane.proxy.mended import mended_payload
from controlplane.proxy.sessions import session_headers
from controlplane.proxy.state import GatewayState
from providers.errors import UpstreamUnreachable
from providers.protocols import mending, registry
from providers.protocols.codec import UpstreamCall
from providers.protocols.turns import turn_headers
from providers.routing.table import CredentialRef, Target
from providers.signing.outbound import Outbound
from providers.upstream.client import LargeBody, UpstreamResponse

MAX_ERROR_BODY: Final = 256 * 1024
# A vendor of several addresses says so at one that does not know this path, or this customer.
_ELSEWHERE: Final = frozenset({403, 404})


async def send(
    exchange: Exchange,
    target: Target,
    credential: CredentialRef | None,
    call: UpstreamCall,
    payload: bytes | LargeBody | None,
    state: GatewayState,
    passed: Mapping[str, str] = MappingProxyType({}),
    method: str = "POST",
) -> UpstreamResponse:
    """Raises UpstreamFault for an answer that is an error. A body that is not in memory cannot be
    signed, and no provider that takes one wants that."""
    if exchange.mending is not None and isinstance(payload, bytes):
        payload = mended_payload(exchange, target, payload)
    endpoint = target.endpoint
    tail = call.path
    if call.query:
        tail += "?" + "&".join(f"{name}={value}" for name, value in call.query.items())
    codec = registry.upstream(target.spec.protocol)
    headers = respond.merged(
        {"Content-Type": "application/json"} if payload else {},
        {"Accept": codec.stream_media_type if call.stream else "application/json"},
        session_headers(exchange, target.spec.quirks.session_header),
        turn_headers(payload, target.spec.quirks),
        call.headers,
        passed,
        endpoint.headers,
    )
    signed = payload if isinstance(payload, bytes) else b""
    client = state.clients.of(endpoint.owner, endpoint.ca_certificate, endpoint.proxy_url)

    async def ask(url: str, shown: Mapping[str, str]) -> tuple[UpstreamResponse, bytes]:
        """The answer, and what it says where it is an error."""
        left = max(exchange.ends_at - time.monotonic(), 0.001) if exchange.ends_at else 0.0
        response = await client.send(
            method,
            url,
            headers=respond.merged(headers, shown),
            body=payload,
            timeouts=endpoint.timeouts,
            total_seconds=left,
        )
        return response, await _error_body(response) if response.status >= 400 else b""

    last = len(endpoint.fallback_base_urls)
    for place, base_url in enumerate((endpoint.base_url, *endpoint.fallback_base_urls)):
        url = base_url + tail
        outbound = Outbound(method, url, headers, signed)
        shown = await state.credentials.headers(endpoint, credential, outbound, exchange.own_key)
        if not place:
            await metered.before_sending(exchange, target, credential)
            exchange.attempts += 1
            exchange.served_by = f"{endpoint.slug}/{target.spec.id}"
            exchange.seen.begin(target, credential)
        try:
            response, said = await ask(url, shown)
        except UpstreamUnreachable:
            if place == last:
                raise
            continue
        if response.status >= 400 and await state.credentials.is_renewed(
            credential, shown, response.status, said
        ):
            # A login's token had ended early: once more with its new one, and then no more.
            shown = await state.credentials.headers(endpoint, credential, outbound)
            response, said = await ask(url, shown)
        if response.status < 400:
            return response
        if place == last or response.status not in _ELSEWHERE:
            lowered = {name.lower(): value for name, value in response.headers.items()}
            fault = codec.decode_error(response.status, lowered, said)
            raise UpstreamFault(fault, response.status, mending.mended(fault, signed))
    raise AssertionError("The last address answers, or says why not.")


async def _error_body(response: UpstreamResponse) -> bytes:
    try:
        return await response.read(MAX_ERROR_BODY)
    finally:
        response.close()
