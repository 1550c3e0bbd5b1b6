"""How a provider wants to be shown the credential, as data, and the one place that shows it."""

from __future__ import annotations

from typing import Literal

import msgspec

from controlplane.kit.secret import Secret


class AuthScheme(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`bearer`: Authorization: Bearer …; `header`: the named header holds the key itself;
    `none`: local servers; `sigv4` and `google`: made from cloud credentials per request."""

    scheme: Literal["bearer", "header", "none", "sigv4", "google"] = "bearer"
    header: str = ""
    prefix: str = ""


def headers(scheme: AuthScheme, secret: Secret | None) -> dict[str, str]:
    """The credential headers of one request. `secret` is None only for scheme `none`."""
    if scheme.scheme == "none" or secret is None:
        return {}
    value = secret.reveal()
    if scheme.scheme == "header":
        return {scheme.header: scheme.prefix + value}
    return {"Authorization": "Bearer " + value}
