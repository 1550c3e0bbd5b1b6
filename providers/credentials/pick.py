"""Which credentials a caller may use, and what a chosen one changes about its target. Pure."""

from __future__ import annotations

import uuid
from typing import Final, Protocol

import msgspec

from providers.routing.table import CredentialRef, Target

# As a credential's proxy: none, though its registration has one.
DIRECT: Final = "direct"


class HasProxy(Protocol):
    @property
    def proxy_url(self) -> str: ...


def for_member(targets: tuple[Target, ...], member_id: uuid.UUID | None) -> tuple[Target, ...]:
    """The targets with only those credentials that this member's key may use: a person's own
    login serves nobody else. Targets that are left with none are gone."""
    if not any(ref.only_for for target in targets for ref in target.endpoint.credentials):
        return targets
    mine = str(member_id) if member_id is not None else ""
    found = []
    for target in targets:
        refs = target.endpoint.credentials
        kept = tuple(ref for ref in refs if not ref.only_for or ref.only_for == mine)
        if kept == refs:
            found.append(target)
        elif kept:
            endpoint = msgspec.structs.replace(target.endpoint, credentials=kept)
            found.append(msgspec.structs.replace(target, endpoint=endpoint))
    return tuple(found)


def proxy_of(registration: HasProxy, credential: HasProxy | None) -> str:
    """The proxy of a call; empty = none. A credential's own comes before the registration's."""
    own = credential.proxy_url if credential is not None else ""
    return "" if own == DIRECT else own or registration.proxy_url


def applied(target: Target, credential: CredentialRef | None) -> Target:
    """The target as this credential sees it: its own host, account, profile, project or proxy."""
    if credential is None:
        return target
    endpoint = target.endpoint
    if credential.proxy_url:
        endpoint = msgspec.structs.replace(endpoint, proxy_url=proxy_of(endpoint, credential))
    if own := credential.base_urls.get(endpoint.base_url):
        endpoint = msgspec.structs.replace(endpoint, base_url=own, fallback_base_urls=())
    spec = target.spec
    if credential.endpoint:
        spec = msgspec.structs.replace(spec, endpoint={**spec.endpoint, **credential.endpoint})
    if endpoint is target.endpoint and spec is target.spec:
        return target
    return msgspec.structs.replace(target, spec=spec, endpoint=endpoint)
