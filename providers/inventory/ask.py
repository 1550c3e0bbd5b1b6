"""Asks one registration for its models, and a public address for a facts file.

Everything goes through the one outbound client, with its guard and bounds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlencode, urlsplit

from django.conf import settings

from controlplane.kit import json
from controlplane.kit.errors import FaultKind
from providers.catalog.destinations import own_simulator
from providers.catalog.effective import Effective
from providers.catalog.listings import FoundModel, UnreadableListing, read_facts, read_page
from providers.catalog.loader import catalog
from providers.catalog.models import Provider
from providers.catalog.refresh import Facts
from providers.catalog.registrations import effective_of
from providers.catalog.schema import Listing, ListingShape
from providers.catalog.urls import endpoint_of, fill
from providers.credentials.pick import proxy_of
from providers.credentials.references import own_headers
from providers.credentials.sources import secret_headers_of
from providers.errors import ProviderError
from providers.health.keys import Key, key_for, merged
from providers.signing import schemes
from providers.upstream.client import Timeouts, UpstreamClient
from providers.upstream.pool import ClientPool

MAX_PAGES: Final = 50
MAX_LISTING_BYTES: Final = 16 * 1024 * 1024
_TIMEOUTS: Final = Timeouts(connect_seconds=10.0, first_byte_seconds=60.0, idle_seconds=30.0)
# A provider of one's own is asked in the manner of the protocol it speaks.
_SHAPES: Final[dict[str, tuple[str, ListingShape, dict[str, str]]]] = {
    "anthropic-messages": ("/v1/models", "anthropic", {"anthropic-version": "2023-06-01"}),
    "google-generative-ai": ("/models", "gemini", {}),
    "mistral-conversations": ("/v1/models", "openai", {}),
    "openai-completions": ("/models", "openai", {}),
    "openai-responses": ("/models", "openai", {}),
}


class ListingFailed(ProviderError):
    """The provider did not answer with a list; the message says what it did."""

    kind = FaultKind.UPSTREAM
    code = "listing_failed"


def models_of(provider: Provider) -> list[FoundModel] | None:
    """The registration's live models, by its first credential. None = it has no listing. Raises
    ProviderError or UnreadableListing. Not for the event loop: it waits."""
    effective = effective_of(provider)
    file = catalog().get(provider.catalog_id)
    listing = file.listing if file is not None else _listing_for(effective.protocol)
    if listing is None:
        return None
    key = _key(provider, effective, listing)
    endpoint = endpoint_of(
        file.auth.identifiers if file is not None else {},
        file.endpoint if file is not None else {},
        provider.endpoint,
        key.ref.endpoint if key else {},
    )
    url = (key.base_url(effective.base_url) if key else effective.base_url) + listing.path
    if listing.url and file is not None:
        url = fill(listing.url, file.auth.identifiers, endpoint)
    sealed = secret_headers_of(str(provider.pk)) if provider.sealed_header_names else {}
    headers = merged(
        {"Accept": "application/json"},
        effective.headers,
        listing.headers,
        key.headers if key else own_headers(provider, "", {}),
        {name: value.reveal() for name, value in sealed.items()},
        schemes.headers(effective.scheme, key.secret) if key and key.secret else {},
    )
    body = None
    if listing.method == "POST":
        headers["Content-Type"] = "application/json"
        body = json.dumps({"project": endpoint["project"]} if "project" in endpoint else {})
    proxy_url = proxy_of(provider, key.ref if key else None)
    return asyncio.run(_all_pages(provider, listing, url, headers, body, proxy_url))


def facts_from(source: str) -> Facts:
    """A models.dev-shaped file from an https address or from this machine's disk. Raises
    ProviderError, UnreadableListing or OSError. Never with a source that a tenant gave."""
    if urlsplit(source).scheme in ("http", "https"):
        return read_facts(asyncio.run(_download(source)))
    return read_facts(Path(source).read_bytes())


def _listing_for(protocol: str) -> Listing | None:
    if protocol not in _SHAPES:
        return None
    path, shape, headers = _SHAPES[protocol]
    return Listing(path=path, shape=shape, headers=headers)


def _key(provider: Provider, effective: Effective, listing: Listing) -> Key | None:
    """None = the list needs none. Raises ListingFailed, or what a key without a secret raises."""
    scheme = effective.scheme
    if scheme.scheme == "none":
        return None
    key = key_for(provider, effective)
    if key is None:
        if listing.is_public:
            return None
        raise ListingFailed("There is no usable credential to list models with: store one.")
    if scheme.scheme not in ("bearer", "header"):
        raise ListingFailed(
            f"Models cannot be listed with credentials of the kind {scheme.scheme!r}: refresh "
            "from a facts file, or add the models by hand."
        )
    return key


async def _all_pages(
    provider: Provider,
    listing: Listing,
    url: str,
    headers: Mapping[str, str],
    body: bytes | None,
    proxy_url: str,
) -> list[FoundModel]:
    clients = _clients()
    if opened := own_simulator(provider):
        clients.allow_for_platform(opened)
    try:
        client = clients.of(
            "tenant" if provider.tenant_id else "platform", provider.ca_certificate, proxy_url
        )
        found: dict[str, FoundModel] = {}
        query: dict[str, str] = {}
        for _ in range(MAX_PAGES):
            data = await _read(client, listing.method, _with(url, query), headers, body)
            page = read_page(listing.shape, data)
            found.update({model.id: model for model in page.models if model.id not in found})
            if not page.next or page.next == query:
                return list(found.values())
            query = page.next
        raise ListingFailed(f"The listing has more than {MAX_PAGES} pages.")
    finally:
        await clients.close()


async def _download(url: str) -> bytes:
    clients = _clients()
    try:
        return await _read(clients.of("platform"), "GET", url, {"Accept": "application/json"}, None)
    finally:
        await clients.close()


def _clients() -> ClientPool:
    return ClientPool(
        allowed=settings.UPSTREAM_ALLOWED_NETWORKS,
        allowed_for_tenants=settings.UPSTREAM_ALLOWED_NETWORKS_FOR_TENANTS,
    )


async def _read(
    client: UpstreamClient, method: str, url: str, headers: Mapping[str, str], body: bytes | None
) -> bytes:
    response = await client.send(method, url, headers=headers, body=body, timeouts=_TIMEOUTS)
    try:
        if response.status != 200:
            raise ListingFailed(_refusal(response.status))
        return await response.read(MAX_LISTING_BYTES)
    finally:
        response.close()


def _refusal(status: int) -> str:
    reason = {
        400: "the request was refused; a wrong key may be the reason",
        401: "the key was refused",
        403: "the key may not list models",
        404: "there is no listing at this address; check the base URL",
        429: "too many requests; try later",
    }.get(status, "try later" if status >= 500 else "no list came")
    return f"The provider answered {status}: {reason}."


def _with(url: str, query: Mapping[str, str]) -> str:
    if not query:
        return url
    return f"{url}{'&' if '?' in url else '?'}{urlencode(query)}"


__all__ = ["ListingFailed", "UnreadableListing", "facts_from", "models_of"]
