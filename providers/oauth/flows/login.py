"""One way to sign in, ready to be used: the catalogue's facts with every blank filled. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from controlplane.kit import json
from controlplane.kit.errors import FaultKind
from controlplane.kit.secret import Secret
from providers.catalog.schema import Identifier, OAuth
from providers.catalog.urls import endpoint_of, fill
from providers.errors import ProviderError
from providers.oauth.flows.wire import is_allowed

# `{code}` in a poll URL is the device code itself: filled by the dialect, not here.
_KEPT: Final = re.compile(r"\{code\}")
_URLS: Final = (
    *("issuer", "register_url", "authorize_url", "device_url", "verification_url", "poll_url"),
    *("token_url", "refresh_url", "revoke_url", "exchange_url", "account_url", "quota_url"),
    *("redirect_url", "setup_url", "host_url"),
)


class BadLoginSettings(ProviderError):
    """What an operator or a person gave does not make a login; the message says what is wrong."""

    kind = FaultKind.BAD_REQUEST
    code = "bad_login_settings"


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """`oauth` has no placeholder left. `client_secret` is the operator's, empty where a flow
    needs none."""

    name: str
    oauth: OAuth
    endpoint: dict[str, str] = {}
    client_secret: Secret = Secret("")
    user_agent: str = ""

    @property
    def dialect(self) -> str:
        return self.oauth.dialect

    @property
    def scope(self) -> str:
        return " ".join(self.oauth.scopes)

    @property
    def headers(self) -> dict[str, str]:
        """Sent with every request of this login: honest about who asks."""
        return {"User-Agent": self.user_agent, **self.oauth.headers}


def merged(oauth: OAuth | None, changes: Mapping[str, Any]) -> OAuth:
    """The catalogue's facts with an operator's changes on top. Raises BadLoginSettings."""
    below = msgspec.to_builtins(oauth) if oauth is not None else {}
    try:
        return msgspec.convert({**below, **changes}, OAuth, strict=True)
    except msgspec.ValidationError as error:
        raise BadLoginSettings(f"The settings of this login do not fit: {error}.") from None


def filled(
    name: str,
    oauth: OAuth,
    identifiers: Mapping[str, Identifier],
    *layers: Mapping[str, str],
    client_secret: Secret | None = None,
    user_agent: str = "",
) -> Login:
    """Raises IdentifierError for a value of the wrong form: it would end up in a URL (bar N4)."""
    endpoint = endpoint_of(identifiers, *layers)

    def put(template: str) -> str:
        pieces = [fill(piece, identifiers, endpoint) for piece in _KEPT.split(template)]
        return "{code}".join(pieces)

    ready = msgspec.structs.replace(
        oauth,
        **{url: put(getattr(oauth, url)) for url in _URLS},
        allowed_hosts=tuple(put(host) for host in oauth.allowed_hosts),
        parameters={key: put(value) for key, value in oauth.parameters.items()},
        account_fallback_urls=tuple(put(url) for url in oauth.account_fallback_urls),
        api_hosts={domain: put(host) for domain, host in oauth.api_hosts.items()},
    )
    return Login(
        name=name,
        oauth=ready,
        endpoint=endpoint,
        client_secret=client_secret or Secret(""),
        user_agent=user_agent,
    )


def at_addresses(login: Login, addresses: Mapping[str, str]) -> Login:
    """With what an issuer told, as long as the operator's list of hosts still holds it."""
    kept = {
        name: url
        for name, url in addresses.items()
        if name in _URLS and is_allowed(url, login.oauth.allowed_hosts)
    }
    if not kept:
        return login
    return msgspec.structs.replace(login, oauth=msgspec.structs.replace(login.oauth, **kept))


def frozen(login: Login) -> str:
    """The login as text, without its secret: kept with a started login, so that a change of the
    settings in the middle breaks nothing."""
    return json.dumps_str(
        {
            "name": login.name,
            "oauth": msgspec.to_builtins(login.oauth),
            "endpoint": login.endpoint,
            "user_agent": login.user_agent,
        }
    )


def thawed(text: str, client_secret: Secret) -> Login:
    value = json.loads_dict(text)
    return Login(
        name=value["name"],
        oauth=msgspec.convert(value["oauth"], OAuth),
        endpoint=value["endpoint"],
        client_secret=client_secret,
        user_agent=value["user_agent"],
    )
