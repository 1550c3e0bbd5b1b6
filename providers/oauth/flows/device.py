"""Device logins in the dialects there are: the first request, and every poll. Pure.

All say the same in different words: RFC 8628 servers under status 400, GitHub and Kimi under 200,
AWS with an exception's name in a header, Kiro in milliseconds under 200, Codex by 403 or 404, Kilo
by status alone. So the body is read before the status, and each dialect has its own reader.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from controlplane.kit.json import JSONDict
from providers.oauth.flows import pace
from providers.oauth.flows.login import Login
from providers.oauth.flows.outcomes import (
    Approved,
    Ended,
    Pending,
    PollOutcome,
    Shown,
    SlowDown,
    Transient,
)
from providers.oauth.flows.wire import (
    DEVICE_GRANT,
    Ask,
    Reply,
    get,
    inner,
    is_allowed,
    number,
    post,
    quoted,
    text,
    word,
)

# A client that registered itself (AWS): `client_id` and `client_secret` come from the answer.
Client = Mapping[str, str]

_DENIED: Final = frozenset({"access_denied", "denied", "deviceauth_denied"})
_EXPIRED: Final = frozenset({"expired_token", "token_expired", "expired", "deviceauth_expired"})
_PENDING: Final = frozenset({"authorization_pending", "deviceauth_authorization_pending"})
# The operator has to do something: the person cannot.
_OPERATOR: Final = frozenset(
    {
        *("invalid_client", "unauthorized_client", "incorrect_client_credentials"),
        *("unsupported_grant_type", "invalid_scope", "invalid_request"),
    }
)
_OFF: Final = frozenset({"device_flow_disabled"})
_USED: Final = frozenset({"invalid_grant", "incorrect_device_code", "deviceauth_not_found"})
# AWS names exceptions in a header or the body where it leaves `error` out.
_AWS_NAMES: Final = {
    "AuthorizationPendingException": "authorization_pending",
    "SlowDownException": "slow_down",
    "ExpiredTokenException": "expired_token",
    "AccessDeniedException": "access_denied",
    "InvalidGrantException": "invalid_grant",
    "InvalidClientException": "invalid_client",
    "UnauthorizedClientException": "unauthorized_client",
    "UnsupportedGrantTypeException": "unsupported_grant_type",
    "InvalidScopeException": "invalid_scope",
    "InvalidRequestException": "invalid_request",
    "InternalServerException": "server_error",
}


# --- before the code is there ------------------------------------------------------------------


def needs_registration(login: Login) -> bool:
    return bool(login.oauth.register_url)


def register_ask(login: Login, client_name: str) -> Ask:
    """AWS SSO OIDC: a client registers itself and gets a secret of its own."""
    return post(
        login.oauth.register_url,
        {
            "clientName": client_name,
            "clientType": "public",
            "scopes": list(login.oauth.scopes),
            "grantTypes": [DEVICE_GRANT, "refresh_token"],
            "issuerUrl": login.oauth.parameters.get("startUrl", ""),
        },
        body="json",
        headers=login.headers,
    )


def read_registration(reply: Reply) -> dict[str, str] | Ended | Transient:
    answer = reply.object()
    client_id, secret = word(answer.get("clientId")), word(answer.get("clientSecret"))
    if client_id and secret:
        expires = number(answer.get("clientSecretExpiresAt")) or 0.0
        return {
            "client_id": client_id,
            "client_secret": secret,
            "client_expires_at": str(int(expires)),
        }
    return _not_started(reply)


def needs_discovery(login: Login) -> bool:
    """Only an issuer is known: its own document says the addresses."""
    return bool(login.oauth.issuer) and not (login.oauth.device_url and login.oauth.token_url)


def discovery_ask(login: Login) -> Ask:
    issuer = login.oauth.issuer.rstrip("/")
    return get(f"{issuer}/.well-known/openid-configuration", headers=login.headers)


def read_discovery(login: Login, reply: Reply) -> dict[str, str] | Ended | Transient:
    """The addresses an issuer tells. Only those of its own host, or of hosts the operator listed:
    a device code and later a refresh token go there."""
    answer = reply.object()
    if reply.status != 200 or not answer:
        ended = _not_started(reply)
        return ended if isinstance(ended, Transient) else Ended("error", "discovery_failed")
    if word(answer.get("issuer")).rstrip("/") != login.oauth.issuer.rstrip("/"):
        return Ended("error", "discovery_failed", "the document names another issuer")
    known = {
        "device_url": word(answer.get("device_authorization_endpoint")),
        "token_url": word(answer.get("token_endpoint")),
        "account_url": word(answer.get("userinfo_endpoint")),
        "revoke_url": word(answer.get("revocation_endpoint")),
    }
    for name, url in known.items():
        if url and not is_allowed(url, login.oauth.allowed_hosts):
            return Ended("error", "discovery_failed", f"{name} is on a host that is not listed")
    if not known["device_url"] or not known["token_url"]:
        return Ended("error", "device_flow_disabled", "the issuer tells no device endpoint")
    return {name: url for name, url in known.items() if url}


def start_ask(login: Login, client: Client) -> Ask:
    oauth = login.oauth
    match oauth.dialect:
        case "aws":
            fields: dict[str, object] = {
                "clientId": client["client_id"],
                "clientSecret": client["client_secret"],
                **oauth.parameters,
            }
        case "kiro":
            fields = {"clientId": oauth.client_id, **oauth.parameters}
        case "codex":
            fields = {"client_id": oauth.client_id}
        case "kilo":
            fields = {}
        case _:
            fields = {
                "client_id": oauth.client_id,
                "client_secret": login.client_secret.reveal(),
                "scope": login.scope,
                **oauth.parameters,
            }
    return post(oauth.device_url, fields, body=oauth.body, headers=login.headers)


def read_start(login: Login, reply: Reply) -> Shown | Ended | Transient:
    oauth, answer = login.oauth, reply.object()
    match oauth.dialect:
        case "aws":
            device_code, user_code = answer.get("deviceCode"), answer.get("userCode")
            link, complete = answer.get("verificationUri"), answer.get("verificationUriComplete")
            lasts, pause = number(answer.get("expiresIn")), number(answer.get("interval"))
        case "kiro":
            device_code, user_code = answer.get("deviceCode"), answer.get("userCode")
            link, complete = answer.get("verificationUri"), answer.get("verificationUriComplete")
            lasts = _thousandth(answer.get("expiresInMilliseconds"))
            pause = _thousandth(answer.get("intervalInMilliseconds"))
        case "codex":
            device_code = answer.get("device_auth_id")
            user_code = answer.get("user_code") or answer.get("usercode")
            link = complete = oauth.verification_url
            lasts, pause = None, number(answer.get("interval"))
            if reply.status == 404:
                return Ended("error", "device_flow_disabled", "404")
        case "kilo":
            # The code that people see is also what we ask with.
            device_code = user_code = answer.get("code")
            link = complete = answer.get("verificationUrl")
            lasts, pause = number(answer.get("expiresIn")), None
        case _:
            device_code, user_code = answer.get("device_code"), answer.get("user_code")
            link = answer.get("verification_uri") or answer.get("verification_url")
            complete = answer.get("verification_uri_complete")
            lasts, pause = number(answer.get("expires_in")), number(answer.get("interval"))
    if not word(device_code) or not word(user_code) or reply.status >= 400:
        return _not_started(reply)
    page = word(link) or oauth.verification_url
    if not is_allowed(page, oauth.allowed_hosts):
        return Ended("error", "unsafe_link", quoted(page))
    whole = word(complete)
    if not is_allowed(whole, oauth.allowed_hosts):
        whole = page
    return Shown(
        user_code=word(user_code)[:64],
        verification_uri=page,
        verification_uri_complete=whole,
        expires_in_seconds=pace.life(lasts, oauth.lifetime_seconds),
        interval_seconds=pace.interval(pause, oauth.interval_seconds),
        device_code=word(device_code),
    )


def _not_started(reply: Reply) -> Ended | Transient:
    answer = reply.object()
    error = error_of(reply, answer)
    if reply.is_outage and not error:
        return Transient(f"The login server answered {reply.status}.", reply.retry_after_seconds)
    if error in _OFF or error == "unauthorized_client":
        return Ended("error", "device_flow_disabled", error)
    if error in ("slow_down", "temporarily_unavailable", "rate_limited", "server_error"):
        return Transient("The login server asks for patience.", reply.retry_after_seconds)
    description = text(answer.get("error_description")) or text(answer.get("message"))
    detail = quoted(": ".join(filter(None, [error or str(reply.status), description])))
    lowered = description.lower()
    if "start url" in lowered or "region" in lowered:
        return Ended("error", "invalid_start_url", detail)
    if error in _OPERATOR:
        return Ended("error", "client_refused", detail)
    return Ended("error", "not_started", detail)


# --- polls -------------------------------------------------------------------------------------


def poll_ask(login: Login, client: Client, device_code: str, user_code: str) -> Ask:
    oauth = login.oauth
    url = oauth.poll_url or oauth.token_url
    fields: dict[str, object]
    match oauth.dialect:
        case "kilo":
            return get(url.replace("{code}", quote(device_code, safe="")), headers=login.headers)
        case "aws":
            fields = {
                "clientId": client["client_id"],
                "clientSecret": client["client_secret"],
                "grantType": DEVICE_GRANT,
                "deviceCode": device_code,
            }
        case "kiro":
            fields = {"clientId": oauth.client_id, "deviceCode": device_code}
        case "codex":
            fields = {"device_auth_id": device_code, "user_code": user_code}
        case _:
            fields = {
                "grant_type": DEVICE_GRANT,
                "device_code": device_code,
                "client_id": oauth.client_id,
                "client_secret": login.client_secret.reveal(),
            }
    return post(url, fields, body=oauth.body, headers=login.headers)


def read_poll(login: Login, reply: Reply) -> PollOutcome:
    match login.oauth.dialect:
        case "kilo":
            return _read_kilo(reply)
        case "codex":
            return _read_codex(reply)
        case "kiro":
            return _read_kiro(reply)
        case _:
            return _read_standard(reply)


def _read_standard(reply: Reply) -> PollOutcome:
    answer = reply.object()
    error = error_of(reply, answer)
    if error:
        return _by_error(error, reply, answer)
    if word(answer.get("access_token")) or word(answer.get("accessToken")):
        return Approved(answer)
    return _unclear(reply)


def _read_kiro(reply: Reply) -> PollOutcome:
    answer = reply.object()
    if word(answer.get("accessToken")):
        return Approved(answer)
    said = text(answer.get("status")) or error_of(reply, answer)
    # The words for the ends are not written down anywhere; these are parts of those seen.
    if "expired" in said:
        return Ended("expired", "expired")
    if "denied" in said:
        return Ended("denied", "denied")
    return _by_error(said, reply, answer) if said else _unclear(reply)


def _read_codex(reply: Reply) -> PollOutcome:
    answer = reply.object()
    if word(answer.get("authorization_code")):
        return Approved(answer)
    error = error_of(reply, answer)
    if error:
        return _by_error(error, reply, answer)
    # Not "the address is gone": this is how the server says that nobody has approved yet.
    if reply.status in (403, 404):
        return Pending()
    return _unclear(reply)


def _read_kilo(reply: Reply) -> PollOutcome:
    match reply.status:
        case 202:
            return Pending()
        case 403:
            return Ended("denied", "denied")
        case 410:
            return Ended("expired", "expired")
        case 200 if word(reply.object().get("token")):
            return Approved(reply.object())
    return _unclear(reply)


def _by_error(error: str, reply: Reply, answer: JSONDict) -> PollOutcome:
    if error in _PENDING:
        return Pending()
    if error == "slow_down":
        if reply.status == 429 and reply.retry_after_seconds is not None:
            # Busy until then, says the server: that is no word on the pace between polls.
            return _unclear(reply)
        return SlowDown(number(answer.get("interval")))
    if error in _DENIED:
        return Ended("denied", "denied")
    if error in _EXPIRED:
        return Ended("expired", "expired")
    if reply.is_outage or error in ("server_error", "temporarily_unavailable", "rate_limited"):
        return _unclear(reply)
    description = text(answer.get("error_description")) or text(answer.get("message"))
    detail = quoted(": ".join(filter(None, [error, description])))
    if error in _USED:
        return Ended("error", "code_used", detail)
    if error in _OFF:
        return Ended("error", "device_flow_disabled", detail)
    if error in _OPERATOR:
        return Ended("error", "client_refused", detail)
    return Ended("error", "refused", detail)


def _unclear(reply: Reply) -> PollOutcome:
    if reply.status == 429:
        if reply.retry_after_seconds is None:
            return SlowDown()
        return Transient("The login server is busy.", reply.retry_after_seconds)
    if reply.is_outage:
        return Transient(f"The login server answered {reply.status}.", reply.retry_after_seconds)
    return Transient("The login server sent neither a token nor an error.")


def error_of(reply: Reply, answer: JSONDict) -> str:
    """The OAuth error, wherever this server puts it; empty = none."""
    error = answer.get("error")
    if isinstance(error, dict):
        return text(inner(error).get("code"))
    if found := text(error):
        return found
    if reply.status < 400:
        return ""
    name = text(answer.get("__type")) or reply.headers.get("x-amzn-errortype", "")
    name = name.partition(":")[0].rpartition("#")[2]
    return _AWS_NAMES.get(name, "")


def _thousandth(value: object) -> float | None:
    found = number(value)
    return None if found is None else found / 1000
