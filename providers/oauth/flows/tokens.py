"""What a login yields, how long it lasts, and how it is renewed. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal

import msgspec

from controlplane.kit import json
from controlplane.kit.json import JSONDict
from providers.oauth.flows import copilot
from providers.oauth.flows.device import error_of
from providers.oauth.flows.login import Login
from providers.oauth.flows.wire import Ask, Reply, claims, number, post, quoted, text, word

# Nobody's token is used this close to its end (bar R16).
SAFETY_SECONDS: Final = 60.0
_DEFAULT_LIFE: Final = 3_600.0
# What a server may promise; more is a mistake, and so is less than nothing.
_LONGEST_LIFE: Final = 400 * 86_400.0
_SHARES: Final = (0.5, 0.1)


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """Times are epoch seconds, 0 = does not end. `base_token` is the one from which `access_token`
    is made again and again (Copilot's GitHub token); empty where there is one token only.
    `client_id` and `client_secret` are a client's that registered itself: a refresh needs exactly
    that pair."""

    access_token: str
    expires_at: float = 0.0
    issued_at: float = 0.0
    # When the vendor itself says to renew; 0 = it does not.
    renew_at: float = 0.0
    refresh_token: str = ""
    base_token: str = ""
    base_expires_at: float = 0.0
    client_id: str = ""
    client_secret: str = ""
    client_expires_at: float = 0.0
    scope: str = ""
    # Addresses that an issuer told when the login began: a renewal goes to the same.
    addresses: dict[str, str] = {}

    # A token must never reach a log through a repr.
    def __repr__(self) -> str:
        return f"Tokens(expires_at={self.expires_at})"

    __str__ = __repr__

    @property
    def can_renew(self) -> bool:
        return bool(self.refresh_token or self.base_token)

    def works_at(self, now: datetime) -> bool:
        return not self.expires_at or self.expires_at - SAFETY_SECONDS > now.timestamp()


def packed(tokens: Tokens) -> str:
    return json.dumps_str(msgspec.to_builtins(tokens))


def unpacked(text_: str) -> Tokens:
    return msgspec.convert(json.loads(text_), Tokens)


def when(moment: float) -> datetime | None:
    return datetime.fromtimestamp(moment, UTC) if moment else None


def expiry_of(answer: JSONDict, now: datetime, *, access_token: str = "") -> float:
    """From `expires_in` and our own clock at receipt, so that no clock difference enters. Codex
    tells the real end in the token's claims."""
    told = number(answer.get("expires_in", answer.get("expiresIn")))
    if told is None:
        if not ("expires_in" in answer or "expiresIn" in answer):
            ends = number(claims(access_token).get("exp"))
            if ends is None:
                return 0.0
            told = ends - now.timestamp()
        else:
            told = _DEFAULT_LIFE
    if told <= 0:
        told = _DEFAULT_LIFE
    return now.timestamp() + min(told, _LONGEST_LIFE)


def from_answer(answer: JSONDict, now: datetime, before: Tokens | None = None) -> Tokens | None:
    """None = there is no access token in it. What the server leaves out stays as it was: an
    absent refresh token means that the old one lives on."""
    access = word(answer.get("access_token") or answer.get("accessToken") or answer.get("token"))
    if not access:
        return None
    old = before or Tokens(access_token="")
    refresh = word(answer.get("refresh_token") or answer.get("refreshToken"))
    return msgspec.structs.replace(
        old,
        access_token=access,
        expires_at=expiry_of(answer, now, access_token=access),
        issued_at=now.timestamp(),
        renew_at=0.0,
        refresh_token=refresh or old.refresh_token,
        scope=text(answer.get("scope")) or old.scope,
    )


def refresh_at(tokens: Tokens, lead_seconds: float, spread: float) -> datetime | None:
    """When to renew: ahead of the end, never in the first half of the life, and not all at once.
    `spread` in 0…1 takes up to a tenth of the lead. None = there is nothing to renew."""
    if not tokens.can_renew or not tokens.expires_at:
        return None
    lasts = max(tokens.expires_at - tokens.issued_at, 0.0)
    earliest, tenth = (share * lasts for share in _SHARES)
    lead = max(lead_seconds, tenth)
    moment = max(tokens.expires_at - lead, tokens.issued_at + earliest)
    if tokens.renew_at:
        moment = min(moment, tokens.renew_at)
    moment -= spread * min(lead, lasts) / 10
    return datetime.fromtimestamp(moment, UTC)


# --- renewing ----------------------------------------------------------------------------------

# What a refresh that failed means. `dead`: nobody can renew this any more; `uncertain`: the
# server may have taken the token and its answer was lost.
FailureKind = Literal["dead", "no_entitlement", "suspended", "operator", "transient", "uncertain"]


@dataclass(frozen=True, slots=True)
class Renewed:
    tokens: Tokens = field(repr=False)
    # Identifiers that the answer brought (Copilot's host, Kiro's profile).
    endpoint: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RenewFailed:
    kind: FailureKind
    code: str
    sentence: str
    retry_after_seconds: float | None = None


_DEAD: Final = frozenset(
    {
        *("invalid_grant", "refresh_token_reused", "refresh_token_expired"),
        *("refresh_token_invalidated", "bad_refresh_token", "expired_token", "invalid_token"),
        *("not_found_error", "token_invalidated"),
    }
)
_OPERATOR: Final = frozenset(
    {"invalid_client", "unauthorized_client", "incorrect_client_credentials"}
)


def renew_ask(login: Login, tokens: Tokens) -> Ask:
    """The one request that renews `tokens`. Copilot's is made from the GitHub token anew; only
    where that one ends itself, it is renewed first (`needs_base`)."""
    if needs_exchange(login, tokens):
        return copilot.exchange_ask(login, tokens.base_token)
    return refresh_ask(login, tokens)


def needs_exchange(login: Login, tokens: Tokens) -> bool:
    return bool(login.oauth.exchange_url and tokens.base_token)


def needs_base(login: Login, tokens: Tokens, now: datetime) -> bool:
    """Whether the token that others are made from has to be renewed first."""
    return bool(
        needs_exchange(login, tokens)
        and tokens.refresh_token
        and tokens.base_expires_at
        and tokens.base_expires_at - SAFETY_SECONDS <= now.timestamp()
    )


def refresh_ask(login: Login, tokens: Tokens) -> Ask:
    oauth = login.oauth
    url = oauth.refresh_url or oauth.token_url
    fields: dict[str, Any]
    match oauth.dialect:
        case "aws":
            fields = {
                "clientId": tokens.client_id,
                "clientSecret": tokens.client_secret,
                "grantType": "refresh_token",
                "refreshToken": tokens.refresh_token,
            }
        case "kiro":
            fields = {"refreshToken": tokens.refresh_token}
        case _:
            fields = {
                "grant_type": "refresh_token",
                "client_id": oauth.client_id,
                "client_secret": login.client_secret.reveal(),
                "refresh_token": tokens.refresh_token,
            }
    return post(url, fields, body=oauth.body, headers=login.headers)


def revoke_ask(login: Login, tokens: Tokens) -> Ask | None:
    """RFC 7009: the lasting token ends the whole sign-in. None = the vendor has no address."""
    if not login.oauth.revoke_url:
        return None
    fields = {
        "token": tokens.refresh_token or tokens.access_token,
        "client_id": login.oauth.client_id,
        "client_secret": login.client_secret.reveal(),
    }
    if login.dialect == "google":
        fields = {"token": fields["token"]}
    return post(login.oauth.revoke_url, fields, body="form", headers=login.headers)


def read_refresh(
    login: Login, tokens: Tokens, reply: Reply, now: datetime
) -> Renewed | RenewFailed:
    answer = reply.object()
    error = error_of(reply, answer)
    renewed = None if error or reply.status >= 400 else from_answer(answer, now, tokens)
    if renewed is not None:
        profile = text(answer.get("profileArn"))
        return Renewed(renewed, {"profile_arn": profile} if profile else {})
    return _failed(login, reply, answer, error)


def read_base(login: Login, tokens: Tokens, reply: Reply, now: datetime) -> Renewed | RenewFailed:
    """The renewed GitHub token takes the place of the old one; Copilot's is made from it next."""
    read = read_refresh(login, tokens, reply, now)
    if isinstance(read, RenewFailed):
        return read
    fresh = read.tokens
    return Renewed(
        msgspec.structs.replace(
            fresh,
            access_token=tokens.access_token,
            expires_at=tokens.expires_at,
            base_token=fresh.access_token,
            base_expires_at=fresh.expires_at,
        )
    )


def read_exchange(
    login: Login, tokens: Tokens, reply: Reply, now: datetime
) -> Renewed | RenewFailed:
    read = copilot.read_exchange(login, reply, now)
    if isinstance(read, copilot.NotExchanged):
        return RenewFailed(read.kind, read.code, read.sentence, reply.retry_after_seconds)
    return Renewed(
        msgspec.structs.replace(
            tokens,
            access_token=read.token,
            expires_at=read.expires_at,
            issued_at=now.timestamp(),
            renew_at=read.renew_at,
        ),
        read.endpoint,
    )


def _failed(login: Login, reply: Reply, answer: JSONDict, error: str) -> RenewFailed:
    description = text(answer.get("error_description")) or text(answer.get("message"))
    said = quoted(": ".join(filter(None, [error, description]))) or str(reply.status)
    lowered = f"{error} {description}".lower()
    if reply.status == 429 or reply.status >= 500 or reply.status == 408:
        return RenewFailed(
            "transient",
            "unreachable",
            f"The login server answered {reply.status}.",
            reply.retry_after_seconds,
        )
    if "suspend" in lowered or "deactivated" in lowered:
        return RenewFailed("suspended", "suspended", f"The vendor stopped this account ({said}).")
    if error in _OPERATOR:
        # A client that registered itself is gone with its registration: only a new login helps.
        kind: FailureKind = "dead" if login.oauth.register_url else "operator"
        return RenewFailed(kind, error, f"The login server refuses our client ({said}).")
    if error in _DEAD or "invalid refresh token" in lowered:
        return RenewFailed("dead", error or "invalid_grant", f"The login has ended ({said}).")
    if reply.status in (400, 401) and login.oauth.dialect in ("kiro", "codex", "kimi"):
        return RenewFailed("dead", error or "invalid_grant", f"The login has ended ({said}).")
    if reply.status == 403 or (reply.status == 401 and not error):
        return RenewFailed("dead", error or "refused", f"The login server refused ({said}).")
    return RenewFailed("transient", error or "unclear", f"The login server said: {said}.")
