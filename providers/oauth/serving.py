"""What a sign-in needs before it can serve: the token that requests show, and the host that takes
it. Also where an account's models are asked for, with the headers that requests have."""

from __future__ import annotations

from collections.abc import Mapping

from controlplane.kit import clock
from controlplane.kit.errors import FaultKind
from providers.catalog.loader import catalog
from providers.catalog.models import Provider
from providers.catalog.registrations import effective_of
from providers.catalog.urls import endpoint_of, fill
from providers.credentials.models import Credential
from providers.credentials.references import own_headers
from providers.errors import ProviderError
from providers.oauth import asking
from providers.oauth.flows import copilot
from providers.oauth.flows.login import Login
from providers.oauth.flows.tokens import Renewed, RenewFailed, Tokens, needs_exchange, read_exchange
from providers.oauth.flows.wire import Reply, bearer, get, inner, quoted


class NotAtTheCatalogsAddress(ProviderError):
    """What asks here may reach what tenants may not: never an address that a tenant gave."""

    kind = FaultKind.FORBIDDEN
    code = "not_at_the_catalogs_address"


def made_ready(
    provider: Provider, login: Login, found: Tokens, endpoint: Mapping[str, str]
) -> Renewed | RenewFailed:
    """Fails for an account that may not use the service. `endpoint` is what is known of it."""
    try:
        if needs_exchange(login, found):
            reply = asking.ask(provider, copilot.exchange_ask(login, found.base_token))
            return read_exchange(login, found, reply, clock.now())
        if login.oauth.host_url:
            return _direct(provider, login, found, endpoint)
    except ProviderError as error:
        return RenewFailed("transient", "unreachable", error.message)
    return Renewed(found)


def _direct(
    provider: Provider, login: Login, found: Tokens, endpoint: Mapping[str, str]
) -> Renewed | RenewFailed:
    """Without an exchange nobody has said yet whether there is a seat: the list of models does."""
    read = copilot.read_host(
        login, asking.ask(provider, copilot.host_ask(login, found.access_token))
    )
    if isinstance(read, copilot.NotExchanged):
        return RenewFailed(read.kind, read.code, read.sentence)
    there = {**endpoint, **read}
    reply = models_reply(provider, login.name, there, found.access_token)
    if reply.status == 401:
        return RenewFailed("dead", "revoked", "GitHub no longer accepts this sign-in.")
    if reply.status == 403:
        said = quoted(inner(reply.object().get("error")).get("message"))
        reason = f" GitHub says: {said}" if said else ""
        return RenewFailed(
            "no_entitlement", "no_entitlement", f"This account may not use Copilot.{reason}"
        )
    return Renewed(found, read)


def models_reply(
    provider: Provider,
    way: str,
    endpoint: Mapping[str, str],
    token: str,
    credential: Credential | None = None,
) -> Reply:
    """The vendor's list of models for one account, which may have no credential yet. Raises
    ProviderError."""
    listing = catalog()[provider.catalog_id].listing
    path = listing.path if listing is not None else "/models"
    headers = request_headers(provider, way, endpoint, token)
    return asking.ask(provider, get(url_of(provider, endpoint, path), headers=headers), credential)


def url_of(provider: Provider, endpoint: Mapping[str, str], path: str) -> str:
    """At the host that the account's own sign-in named. Raises NotAtTheCatalogsAddress."""
    if provider.tenant_id is not None and provider.base_url:
        raise NotAtTheCatalogsAddress("Accounts are used only at the catalog's own address.")
    file = catalog()[provider.catalog_id]
    known = file.auth.identifiers
    filled = endpoint_of(known, file.endpoint, provider.endpoint, endpoint)
    return fill(provider.base_url or file.base_url, known, filled) + path


def request_headers(
    provider: Provider, way: str, endpoint: Mapping[str, str], token: str
) -> dict[str, str]:
    """As requests through the gateway have them."""
    merged = {name.lower(): value for name, value in effective_of(provider).headers.items()}
    own = own_headers(provider, way, endpoint)
    return {**merged, **{name.lower(): value for name, value in own.items()}, **bearer(token)}
