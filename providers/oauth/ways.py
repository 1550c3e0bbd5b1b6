"""The ways to sign in at a registration: the catalogue's, as the operator changed them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from controlplane.kit.secret import Secret
from providers.catalog.loader import catalog
from providers.catalog.models import Provider
from providers.catalog.schema import Identifier, OAuth, ProviderFile, Subscription
from providers.oauth.errors import LoginsOff, UnknownWay
from providers.oauth.flows.login import BadLoginSettings, Login, filled, merged
from providers.oauth.models import LoginSettings
from tenants.vault import services as vault

USER_AGENT: Final = "provider-control-plane"
_BLANK: Final = re.compile(r"\{([a-z_]+)\}")
# What the person may have to say before the first request; other blanks have defaults.
_ASKED_IN: Final = (
    *("register_url", "authorize_url", "device_url", "token_url", "poll_url", "exchange_url"),
)


def file_of(provider: Provider) -> ProviderFile | None:
    return catalog().get(provider.catalog_id) if provider.catalog_id else None


def settings_of(provider: Provider) -> LoginSettings | None:
    """The operator's row for this registration. A tenant's own registration is meant only where
    it sends what the login yields to the catalogue's address and to none of the tenant's."""
    if provider.tenant_id is None:
        own = LoginSettings.objects.filter(provider=provider).first()
        if own is not None:
            return own
    elif provider.base_url or provider.proxy_url or provider.ca_certificate:
        return None
    if not provider.catalog_id:
        return None
    return LoginSettings.objects.filter(catalog_id=provider.catalog_id).first()


def switched_on(provider: Provider) -> LoginSettings:
    """Raises LoginsOff."""
    row = settings_of(provider)
    if row is None or not row.is_on:
        raise LoginsOff(
            "The operator has not switched on signing in at this provider. A platform "
            "administrator can do so under login settings."
        )
    return row


def ways_of(provider: Provider, row: LoginSettings | None) -> dict[str, OAuth]:
    """By name, the one to offer first first. Raises BadLoginSettings."""
    file = file_of(provider)
    found: dict[str, OAuth] = dict(file.oauth) if file is not None else {}
    overrides = row.overrides if row is not None else {}
    if not isinstance(overrides, dict):
        raise BadLoginSettings("The overrides are an object: a login's name, then its fields.")
    for name, changes in overrides.items():
        if not isinstance(changes, dict):
            raise BadLoginSettings(f"The overrides of {name!r} are an object of fields.")
        found[name] = merged(found.get(name), changes)
    return found


def identifiers_of(provider: Provider) -> Mapping[str, Identifier]:
    file = file_of(provider)
    return file.auth.identifiers if file is not None else {}


def blanks(provider: Provider, way: OAuth) -> dict[str, Identifier]:
    """What the person has to say: the identifiers in the addresses of the first requests."""
    known = identifiers_of(provider)
    places = [getattr(way, name) for name in _ASKED_IN] + list(way.parameters.values())
    names = dict.fromkeys(name for place in places for name in _BLANK.findall(place))
    if way.setup_url and "project" in known:
        names["project"] = None
    return {name: known[name] for name in names if name in known}


def position_of(provider: Provider) -> Subscription | None:
    file = file_of(provider)
    return file.subscription if file is not None else None


def login_of(provider: Provider, row: LoginSettings, name: str, inputs: Mapping[str, str]) -> Login:
    """Ready to be used. Raises UnknownWay, IdentifierError, BadLoginSettings."""
    ways = ways_of(provider, row)
    if name not in ways:
        offered = ", ".join(ways) or "none"
        raise UnknownWay(
            f"There is no login {name[:40]!r} here; there is {offered}.", param="login"
        )
    way = ways[name]
    secret = client_secret_of(row)
    if way.client_secret_env and not secret:
        raise BadLoginSettings(
            "This login needs a client secret, which the operator enters in the login settings."
        )
    file = file_of(provider)
    headers = {**(file.headers if file is not None else {}), **way.request_headers, **way.headers}
    agent = headers.pop("User-Agent", USER_AGENT) if way.exchange_url else USER_AGENT
    ready = filled(
        name,
        merged(way, {"headers": headers}),
        identifiers_of(provider),
        file.endpoint if file is not None else {},
        provider.endpoint,
        inputs,
        client_secret=secret,
        user_agent=agent,
    )
    names_itself = ready.oauth.register_url or ready.oauth.flow == "key_exchange"
    if ready.dialect == "rfc8628" and not ready.oauth.client_id and not names_itself:
        raise BadLoginSettings("This login needs a client id: the operator sets it.")
    return ready


def client_secret_of(row: LoginSettings | None) -> Secret:
    if row is None or not row.sealed_client_secret:
        return Secret("")
    return vault.unseal_from(row, "sealed_client_secret")
