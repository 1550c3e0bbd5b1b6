"""GitHub Copilot: a token of half an hour, made from GitHub's lasting one, or in direct mode that
one itself; and the host that takes it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal
from urllib.parse import urlsplit

from providers.oauth.flows.login import Login
from providers.oauth.flows.wire import (
    Ask,
    Reply,
    bearer,
    get,
    inner,
    is_allowed,
    number,
    post,
    quoted,
    text,
    word,
)

# Where `expires_at` is past or absurd.
_ASSUMED_SECONDS: Final = 25 * 60.0
_LONGEST_SECONDS: Final = 24 * 3_600.0
_EARLY_SECONDS: Final = 300.0
_MARGIN_SECONDS: Final = 60.0
_WHERE: Final = "{ viewer { login copilotEndpoints { api } } }"


@dataclass(frozen=True, slots=True)
class Exchanged:
    token: str = field(repr=False)
    expires_at: float
    renew_at: float
    # `api_host` where the token says where the models are.
    endpoint: dict[str, str]
    sku: str = ""


@dataclass(frozen=True, slots=True)
class NotExchanged:
    kind: Literal["dead", "no_entitlement", "transient"]
    code: str
    sentence: str


def exchange_ask(login: Login, github_token: str) -> Ask:
    return get(login.oauth.exchange_url, headers={**login.headers, **bearer(github_token)})


def read_exchange(login: Login, reply: Reply, now: datetime) -> Exchanged | NotExchanged:
    answer = reply.object()
    token = word(answer.get("token"))
    if reply.status == 200 and token:
        seconds = now.timestamp()
        expires_at = number(answer.get("expires_at")) or 0.0
        if not seconds < expires_at < seconds + _LONGEST_SECONDS:
            expires_at = seconds + _ASSUMED_SECONDS
        renew_at = expires_at - _EARLY_SECONDS
        if told := number(answer.get("refresh_in")):
            renew_at = min(renew_at, seconds + max(told - _MARGIN_SECONDS, _MARGIN_SECONDS))
        return Exchanged(
            token=token,
            expires_at=expires_at,
            renew_at=renew_at,
            endpoint=_endpoint(login, token, word(inner(answer.get("endpoints")).get("api"))),
            sku=text(answer.get("sku")),
        )
    details = inner(answer.get("error_details"))
    said = quoted(details.get("message")) or quoted(answer.get("message"))
    match reply.status:
        case 401:
            return NotExchanged("dead", "revoked", "GitHub no longer accepts this sign-in.")
        case 403:
            reason = f" GitHub says: {said}" if said else ""
            return NotExchanged(
                "no_entitlement",
                "no_entitlement",
                f"This account may not use Copilot.{reason}",
            )
        case 404:
            return NotExchanged(
                "dead", "wrong_client", "This sign-in belongs to another application."
            )
    return NotExchanged("transient", "unreachable", f"GitHub answered {reply.status}.")


def host_ask(login: Login, github_token: str) -> Ask:
    headers = {**login.headers, **bearer(github_token)}
    return post(login.oauth.host_url, {"query": _WHERE}, body="json", headers=headers)


def read_host(login: Login, reply: Reply) -> dict[str, str] | NotExchanged:
    """`api_host` for requests that show GitHub's own token. An answer that names none is no
    failure: then the host is the one that is known."""
    if reply.status == 401:
        return NotExchanged("dead", "revoked", "GitHub no longer accepts this sign-in.")
    if reply.is_outage:
        return NotExchanged("transient", "unreachable", f"GitHub answered {reply.status}.")
    viewer = inner(inner(reply.object().get("data")).get("viewer"))
    return _first_allowed(login, [word(inner(viewer.get("copilotEndpoints")).get("api"))])


def _endpoint(login: Login, token: str, api: str) -> dict[str, str]:
    """The host for requests, as the answer says or else as the token itself does."""
    candidates = [api]
    for part in token.split(";"):
        name, _, value = part.partition("=")
        if name == "proxy-ep" and value:
            candidates.append("https://" + value.replace("proxy.", "api.", 1))
    return _first_allowed(login, candidates)


def _first_allowed(login: Login, candidates: list[str]) -> dict[str, str]:
    """Only hosts of the list: whatever is named here is shown a live token. None of them: the host
    of the account's domain."""
    for url in candidates:
        if url.startswith("https://") and is_allowed(url, login.oauth.allowed_hosts):
            return {"api_host": urlsplit(url).hostname or ""}
    hosts = login.oauth.api_hosts
    known = hosts.get(login.endpoint.get("domain", "")) or hosts.get("*", "")
    return {"api_host": known} if known else {}
