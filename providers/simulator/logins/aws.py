"""AWS SSO OIDC: clients register themselves, then run the device flow; botocore's shapes."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final
from urllib.parse import quote, urlsplit

from providers.simulator.http import Request, Response, json_response
from providers.simulator.logins import device, tokens
from providers.simulator.logins.approval import device_page
from providers.simulator.logins.asking import (
    DEVICE_GRANT,
    Declined,
    Fields,
    Play,
    base_url,
    fields,
    token_response,
)
from providers.simulator.logins.device import DeviceRules, Poll
from providers.simulator.logins.state import Family, Registration, logins_of
from providers.simulator.logins.tokens import BadRefresh
from providers.simulator.world import World

VENDOR: Final = "aws-oidc"
# What the tokens are good for.
_AUDIENCE: Final = "kiro"
_RULES: Final = DeviceRules(
    VENDOR, "/aws-oidc/device", interval_seconds=1, lifetime_seconds=600, code_length=86
)
_REGISTERED_DAYS: Final = 90
_ACCESS_SECONDS: Final = 3600
_REFRESH_SECONDS: Final = 28 * 86_400
BUILDER_ID: Final = "https://view.awsapps.com/start"
# Where the directories of the simulation live: Builder IDs, and every company's.
_BUILDER_REGION: Final = "us-east-1"
_COMPANY_REGION: Final = "eu-west-1"
_COMPANY: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.awsapps\.com\Z")
_GRANTS: Final = frozenset((DEVICE_GRANT, "refresh_token", "authorization_code"))
_SCOPES: Final = frozenset(
    "codewhisperer:" + name
    for name in "completions analysis conversations transformations taskassist".split(" ")
)

_NAMES: Final = {
    "authorization_pending": "AuthorizationPendingException",
    "slow_down": "SlowDownException",
    "expired_token": "ExpiredTokenException",
    "access_denied": "AccessDeniedException",
    "invalid_grant": "InvalidGrantException",
    "invalid_client": "InvalidClientException",
    "invalid_client_metadata": "InvalidClientMetadataException",
    "invalid_request": "InvalidRequestException",
    "invalid_scope": "InvalidScopeException",
    "unauthorized_client": "UnauthorizedClientException",
    "unsupported_grant_type": "UnsupportedGrantTypeException",
}
_SENTENCES: Final = {
    Poll.PENDING: "The authorization is pending.",
    Poll.SLOW_DOWN: "The client asks too often.",
    Poll.DENIED: "The person refused.",
    Poll.EXPIRED: "The device code has expired.",
    Poll.UNKNOWN: "Invalid device code provided",
}


def refuse(error: str, description: str) -> Response:
    """The exception's name goes into a header, where the SDKs look for it."""
    response = json_response(
        {"error": error, "error_description": description},
        401 if error == "invalid_client" else 400,
    )
    response.headers["x-amzn-errortype"] = _NAMES[error]
    response.headers["cache-control"] = "no-store"
    return response


def _declined(error: str, description: str, rule: str) -> Declined:
    return Declined(refuse(error, description), rule, description)


def _sent(request: Request, *names: str) -> Fields:
    sent = fields(request, refuse, "json")
    for name in names:
        if not sent.get(name):
            raise _declined("invalid_request", f"{name} is missing.", "field")
    return sent


def _region(request: Request) -> str:
    """Empty when the address does not say: then every directory is at hand."""
    return request.params.get("region", "")


# --- clients ---------------------------------------------------------------------------------


def register(request: Request, world: World) -> Response:
    sent = _sent(request, "clientName", "clientType")
    if sent["clientType"] != "public":
        message = "clientType must be public."
        raise _declined("invalid_client_metadata", message, "client_type")
    scopes, grants = tuple(_listed(request, "scopes")), tuple(_listed(request, "grantTypes"))
    if unknown := [scope for scope in scopes if scope not in _SCOPES]:
        raise _declined("invalid_scope", f"Unknown scope: {' '.join(unknown)}", "scope")
    if unknown := [grant for grant in grants if grant not in _GRANTS]:
        message = f"Unknown grant type: {' '.join(unknown)}"
        raise _declined("unsupported_grant_type", message, "grant_type")
    now = world.now()
    found = Registration(
        client_id=world.token("aws_client", 32),
        secret=tokens.jwt(world, {"clientName": sent["clientName"], "region": _region(request)}),
        name=sent["clientName"],
        region=_region(request),
        scopes=scopes,
        # Nothing named: the grants of a device.
        grants=grants or (DEVICE_GRANT, "refresh_token"),
        expires_at=now + timedelta(days=_REGISTERED_DAYS),
    )
    logins_of(world).registrations[found.client_id] = found
    return json_response(
        {
            "clientId": found.client_id,
            "clientSecret": found.secret,
            "clientIdIssuedAt": int(now.timestamp()),
            "clientSecretExpiresAt": int(found.expires_at.timestamp()),
        }
    )


def _listed(request: Request, name: str) -> list[str]:
    value = request.json().get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _declined("invalid_request", f"{name} must be a list of texts.", "field")
    return value


def _client(request: Request, world: World, sent: Fields) -> Registration:
    found = logins_of(world).registrations.get(sent["clientId"])
    if found is None or found.secret != sent["clientSecret"]:
        raise _declined("invalid_client", "Invalid client id or secret provided", "client_id")
    if found.region != _region(request):
        message = "The client was registered in another region"
        raise _declined("invalid_client", message, "region")
    if world.now() >= found.expires_at:
        raise Declined(refuse("invalid_client", "The client secret has expired"))
    return found


# --- the flow --------------------------------------------------------------------------------


def start(request: Request, world: World) -> Response:
    sent = _sent(request, "clientId", "clientSecret", "startUrl")
    client = _client(request, world, sent)
    if DEVICE_GRANT not in client.grants:
        message = "The client has not registered the device grant"
        raise _declined("unauthorized_client", message, "grant_type")
    method = _directory(sent["startUrl"], _region(request))
    attempt = device.start(
        world,
        _RULES,
        client_id=client.client_id,
        client_name=client.name,
        scope=" ".join(client.scopes),
        facts={"start_url": sent["startUrl"], "method": method},
    )
    page = base_url(request) + _RULES.page
    return json_response(
        {
            "deviceCode": attempt.id,
            "userCode": attempt.user_code,
            "verificationUri": page,
            "verificationUriComplete": f"{page}?user_code={quote(attempt.user_code)}",
            "expiresIn": _RULES.lifetime_seconds,
            "interval": _RULES.interval_seconds,
        }
    )


def _directory(start_url: str, region: str) -> str:
    """`builder-id` or `idc`. Raises Declined for no start URL, or one of another region."""
    parts = urlsplit(start_url)
    if (
        parts.scheme != "https"
        or not _COMPANY.match(parts.hostname or "")
        or parts.path.rstrip("/") != "/start"
        or parts.query
    ):
        raise _declined("invalid_request", "Invalid start URL provided", "start_url")
    is_builder = parts.hostname == urlsplit(BUILDER_ID).hostname
    home = _BUILDER_REGION if is_builder else _COMPANY_REGION
    if region not in ("", home):
        message = f"The directory of this start URL is not in {region}"
        raise _declined("invalid_request", message, "region")
    return "builder-id" if is_builder else "idc"


def token(request: Request, world: World) -> Response:
    sent = _sent(request, "clientId", "clientSecret", "grantType")
    client = _client(request, world, sent)
    grant = sent["grantType"]
    if grant not in (DEVICE_GRANT, "refresh_token"):
        raise _declined("unsupported_grant_type", f"{grant} is not played here", "grant_type")
    if grant not in client.grants:
        message = "The client has not registered this grant"
        raise _declined("unauthorized_client", message, "grant_type")
    if grant == DEVICE_GRANT:
        return _polled(world, sent, client)
    return _refreshed(world, sent, client)


def _polled(world: World, sent: Fields, client: Registration) -> Response:
    if not sent.get("deviceCode"):
        raise _declined("invalid_request", "deviceCode is missing.", "field")
    answer, attempt = device.poll(world, VENDOR, sent["deviceCode"], client.client_id)
    if answer is not Poll.APPROVED:
        return refuse(answer.value, _SENTENCES[answer])
    assert attempt is not None
    assert attempt.account is not None
    family = tokens.begin_family(
        world, _AUDIENCE, attempt.account, client.client_id, attempt.scope, attempt.facts
    )
    return _issued(world, family)


def _refreshed(world: World, sent: Fields, client: Registration) -> Response:
    # Whoever registered anew cannot refresh what an older registration was given.
    family = tokens.spend(
        world, _AUDIENCE, sent.get("refreshToken", ""), client.client_id, is_single_use=False
    )
    if family is BadRefresh.EXPIRED:
        return refuse("expired_token", "The refresh token has expired")
    if isinstance(family, BadRefresh):
        return refuse("invalid_grant", "Invalid refresh token provided")
    return _issued(world, family)


def _issued(world: World, family: Family) -> Response:
    access = "aoaAAAAAG" + world.token("kiro_access", 200)
    refresh = "aorAAAAAG" + world.token("kiro_refresh", 200)
    tokens.add_access(world, family, access, _ACCESS_SECONDS)
    tokens.add_refresh(world, family, refresh, _REFRESH_SECONDS)
    return token_response(
        {
            "accessToken": access,
            "refreshToken": refresh,
            "tokenType": "Bearer",
            "expiresIn": _ACCESS_SECONDS,
        }
    )


# With or without a region in the address: oidc.{region}.amazonaws.com is /aws-oidc/{region}.
ROUTES: Final[tuple[tuple[str, str, Play], ...]] = tuple(
    ("POST", folder + path, play)
    for folder in ("/aws-oidc", "/aws-oidc/{region}")
    for path, play in (
        ("/client/register", register),
        ("/device_authorization", start),
        ("/token", token),
    )
)
PAGES: Final[tuple[tuple[str, str, Play], ...]] = (
    ("GET", _RULES.page, device_page(VENDOR)),
    ("POST", _RULES.page, device_page(VENDOR)),
)
