"""The request that a credential is shown with: signatures cover what is sent. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Outbound(msgspec.Struct, frozen=True):
    """As it will go out, but for the credential's own headers."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
