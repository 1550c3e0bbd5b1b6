"""Which credentials a caller may use, and what a chosen one changes about its target. Pure."""

from __future__ import annotations

import uuid

import msgspec

from providers.routing.table import CredentialRef, Target


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


def applied(target: Target, credential: CredentialRef | None) -> Target:
    """The target as this credential sees it: its own host, account, profile or project."""
    if credential is None or not (credential.endpoint or credential.base_urls):
        return target
    spec = msgspec.structs.replace(
        target.spec, endpoint={**target.spec.endpoint, **credential.endpoint}
    )
    endpoint = target.endpoint
    if own := credential.base_urls.get(endpoint.base_url):
        endpoint = msgspec.structs.replace(endpoint, base_url=own, fallback_base_urls=())
    return msgspec.structs.replace(target, spec=spec, endpoint=endpoint)
