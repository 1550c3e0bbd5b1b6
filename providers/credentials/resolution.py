"""Whose key a request shows to its provider: the one order, for both lanes. Pure.

    the caller's own → stored → environment → the registration's own headers

The first of these that there is serves; of several credentials the later ones stand in for those
before them. A credential that was added owns its registration: when it fails, neither a variable
that happens to be set nor a header steps in for it unasked.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from providers.routing.table import CredentialRef, Target
from providers.signing.schemes import AuthScheme

ENVIRONMENT: Final = "environment"
REQUEST: Final = "request"
REGISTRATION: Final = "registration"
NONE: Final = "none"

# A caller's own key: it names no row, so that nothing is ever remembered about it.
OWN: Final = CredentialRef(id="", label="the caller's own key", kind="own", source=REQUEST)
# The registration's sealed headers hold the key: nothing is added to them.
HEADERS: Final = CredentialRef(
    id="", label="the registration's own header", kind="headers", source=REGISTRATION
)

# What takes a key as it is: no login, no identity of a cloud.
_PLAIN: Final = frozenset({"api_key", "api_key_plus", "bearer_token"})


def in_order(
    credentials: Iterable[CredentialRef],
    *,
    is_held: bool = False,
    variable: CredentialRef | None = None,
    headers: CredentialRef | None = None,
) -> tuple[CredentialRef, ...]:
    """Best first. `is_held`: there are credentials, be it ones that do not work now. `variable` and
    `headers` are what there is without anybody having added a credential."""
    found = [_stepped(ref) for ref in credentials]
    if found or is_held:
        return tuple(sorted(found, key=_place))
    return tuple(_stepped(ref) for ref in (variable, headers) if ref is not None)


def with_own_key(targets: tuple[Target, ...]) -> tuple[Target, ...]:
    """The targets as a caller with a key of their own has them: no credential of ours is left."""
    return tuple(
        msgspec.structs.replace(
            target,
            endpoint=msgspec.structs.replace(
                target.endpoint,
                credentials=(OWN,),
                is_locked_out=False,
                has_secret_headers=False,
                limits=(),
            ),
        )
        for target in targets
        if target.endpoint.takes_own_key
    )


def takes_own_key(auth_type: str, scheme: AuthScheme) -> bool:
    return auth_type in _PLAIN and scheme.scheme in ("bearer", "header")


def header_of(scheme: AuthScheme) -> str:
    """The header that holds the key, in lower case; empty where a signature takes its place."""
    if scheme.scheme == "bearer":
        return "authorization"
    return scheme.header.lower() if scheme.scheme == "header" else ""


def source_of(credential: CredentialRef | None) -> str:
    return credential.source if credential is not None else NONE


def _stepped(ref: CredentialRef) -> CredentialRef:
    step = {ENVIRONMENT: 2, REGISTRATION: 3}.get(ref.source, 1)
    return ref if ref.step == step else msgspec.structs.replace(ref, step=step)


def _place(ref: CredentialRef) -> tuple[int, int, str]:
    return ref.step, -ref.priority, ref.label
