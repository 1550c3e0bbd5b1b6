"""Access and refresh tokens: how long they work, and what reuse of one does to its family."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Literal

from controlplane.kit import json
from providers.simulator.logins.accounts import Account
from providers.simulator.logins.state import Family, Token, logins_of
from providers.simulator.world import World

TokenStatus = Literal["valid", "expired", "revoked", "unknown"]


class BadRefresh(Enum):
    UNKNOWN = "never issued to this client"
    REUSED = "was used already"
    DEAD = "revoked"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Issued:
    access: str
    # Empty = none was given.
    refresh: str
    expires_in: int


def token_status(world: World, vendor: str, token: str) -> TokenStatus:
    """Whether an access token of this vendor works now. `unknown`: no login made it, so it may
    be a plain key. Vendors are named github, copilot, kiro, codex, claude, google, kimi, xai,
    kilo, openrouter and rfc8628."""
    found = logins_of(world).tokens.get(token)
    if found is None or found.kind != "access" or found.family.vendor != vendor:
        return "unknown"
    return found.ended(world.now()) or "valid"


def family_of(world: World, vendor: str, token: str) -> Family | None:
    """Whose token this is, if it works now."""
    if token_status(world, vendor, token) != "valid":
        return None
    return logins_of(world).tokens[token].family


def begin_family(
    world: World,
    vendor: str,
    account: Account,
    client_id: str,
    scope: str,
    facts: Mapping[str, str] | None = None,
) -> Family:
    family = Family(vendor, account, client_id, scope, world.now(), facts=dict(facts or {}))
    return logins_of(world).keep_family(family)


def add_access(world: World, family: Family, value: str, seconds: int | None) -> str:
    expires_at = None if seconds is None else world.now() + timedelta(seconds=seconds)
    return logins_of(world).keep_token(value, Token(family, "access", expires_at))


def add_refresh(world: World, family: Family, value: str, seconds: int | None = None) -> str:
    expires_at = None if seconds is None else world.now() + timedelta(seconds=seconds)
    return logins_of(world).keep_token(value, Token(family, "refresh", expires_at))


def spend(
    world: World, vendor: str, value: str, client_id: str, *, is_single_use: bool
) -> Family | BadRefresh:
    """Hand in a refresh token. Where it works once, a second time ends the whole family: the
    vendor cannot tell the thief from the owner."""
    token = logins_of(world).tokens.get(value)
    if (
        token is None
        or token.kind != "refresh"
        or (token.family.vendor, token.family.client_id) != (vendor, client_id)
    ):
        world.violation(vendor, "refresh_token", BadRefresh.UNKNOWN.value)
        return BadRefresh.UNKNOWN
    family = token.family
    if token.is_used:
        family.end("a refresh token was used twice")
        world.violation(vendor, "refresh_reuse", f"{family.account.name}: the family is dead")
        return BadRefresh.REUSED
    if ended := token.ended(world.now()):
        return BadRefresh.DEAD if ended == "revoked" else BadRefresh.EXPIRED
    token.is_used = is_single_use
    family.refreshes += 1
    return family


def revoke_access(world: World, family: Family) -> None:
    """The access tokens so far stop; the family lives on."""
    for token in logins_of(world).tokens.values():
        if token.family is family and token.kind == "access":
            token.is_revoked = True


def revoke(world: World, vendor: str, value: str) -> bool:
    """Either token ends the whole sign-in. False = no such token."""
    token = logins_of(world).tokens.get(value)
    if token is None or token.family.vendor != vendor:
        return False
    token.family.end("revoked by the client")
    return True


def jwt(world: World, claims: Mapping[str, object]) -> str:
    """Looks like a signed token, signed by nobody: clients read it, they must not trust it."""
    parts = [{"alg": "RS256", "kid": "simulated", "typ": "JWT"}, claims]
    text = ".".join(base64.urlsafe_b64encode(json.dumps(p)).decode().rstrip("=") for p in parts)
    return f"{text}.{world.token('signature', 64)}"
