"""A login that another program made: Kiro's own token file, and the client file beside it. Pure.

Whoever imports shares the refresh token with that program: the first to renew may log the other
out. A login of one's own here is better, and the page says so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

from controlplane.kit import json
from providers.oauth.flows.quota import moment
from providers.oauth.flows.tokens import Tokens
from providers.oauth.flows.wire import text

LARGEST_BYTES: Final = 64 * 1024
# Shorter ones were copied from a display that cuts them.
_SHORTEST_TOKEN: Final = 100
_HASH: Final = re.compile(r"[A-Za-z0-9]{1,128}\Z")


@dataclass(frozen=True, slots=True)
class Imported:
    """`way` is the catalogue's login that renews such a token."""

    way: Literal["builder_id", "identity_center", "google", "github"]
    tokens: Tokens = field(repr=False)
    endpoint: dict[str, str]
    label: str


@dataclass(frozen=True, slots=True)
class BadFile:
    sentence: str


def read_file(token_file: str, client_file: str, now: datetime) -> Imported | BadFile:
    if max(len(token_file), len(client_file)) > LARGEST_BYTES:
        return BadFile("These files are larger than Kiro's.")
    try:
        token = json.loads_dict(token_file)
        client = json.loads_dict(client_file) if client_file.strip() else {}
    except json.InvalidJSON:
        return BadFile("This is no JSON: give the whole content of kiro-auth-token.json.")
    refresh = text(token.get("refreshToken"))
    if len(refresh) < _SHORTEST_TOKEN or "..." in refresh:
        return BadFile(
            "The refresh token in it is cut: copy the file itself, not what a screen shows of it."
        )
    method = text(token.get("authMethod")).lower()
    provider = text(token.get("provider")).lower()
    way: Literal["builder_id", "identity_center", "google", "github"]
    match method:
        case "social":
            way = "github" if provider == "github" else "google"
        case "idc" | "builder-id":
            if not text(client.get("clientId")) or not text(client.get("clientSecret")):
                named = text(token.get("clientIdHash"))
                which = f"{named}.json" if _HASH.match(named) else "the client's file"
                return BadFile(f"Give {which} from the same folder too: it holds the client.")
            way = "builder_id" if provider == "builderid" else "identity_center"
        case _:
            return BadFile(
                f"Sign-ins of the kind {method[:40] or 'unknown'!r} cannot be imported here."
            )
    ends = moment(token.get("expiresAt"), now)
    client_ends = moment(client.get("expiresAt"), now)
    endpoint = {
        "oidc_region": text(token.get("region")) if way == "identity_center" else "",
        "start_url": text(token.get("startUrl")) if way == "identity_center" else "",
        "profile_arn": text(token.get("profileArn")) if way != "builder_id" else "",
    }
    return Imported(
        way=way,
        tokens=Tokens(
            access_token=text(token.get("accessToken")),
            # Without a date it counts as over, so that it is renewed first.
            expires_at=ends.timestamp() if ends is not None else now.timestamp(),
            issued_at=now.timestamp(),
            refresh_token=refresh,
            client_id=text(client.get("clientId")),
            client_secret=text(client.get("clientSecret")),
            client_expires_at=client_ends.timestamp() if client_ends is not None else 0.0,
        ),
        endpoint={name: value for name, value in endpoint.items() if value},
        label=text(token.get("email")),
    )
