"""RFC 8628 as written, with discovery; and the two vendors that follow it closely (Kimi, xAI)."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

from controlplane.kit.json import JSONDict
from providers.simulator.http import Request, Response, json_response
from providers.simulator.logins import device, tokens
from providers.simulator.logins.approval import device_page
from providers.simulator.logins.asking import (
    DEVICE_GRANT,
    Declined,
    Fields,
    Play,
    base_url,
    basic,
    fields,
    oauth_error,
    require,
    token_response,
)
from providers.simulator.logins.device import DeviceRules, Poll
from providers.simulator.logins.state import Family
from providers.simulator.logins.tokens import BadRefresh
from providers.simulator.world import World

_SENTENCES: Final = {
    Poll.PENDING: "The person has not decided yet.",
    Poll.SLOW_DOWN: "Asked too fast; wait longer from now on.",
    Poll.DENIED: "The person said no.",
    Poll.EXPIRED: "The code has expired.",
    Poll.UNKNOWN: "The device code is not known, or was used already.",
}


@dataclass(frozen=True, slots=True)
class Client:
    """A registered client. What it is like steers what its server does."""

    name: str
    secret: str = ""
    has_device_flow: bool = True
    # False: the answer has no `interval`, and 5 seconds hold.
    tells_interval: bool = True
    # Asked too fast, the interval becomes this at least, and the answer says so.
    slow_down_to: int = 0
    # The scopes it may ask for; empty = any.
    scopes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Standard:
    """One server. Paths are below the vendor's folder."""

    rules: DeviceRules
    clients: dict[str, Client]
    device_path: str
    token_path: str
    # Kimi tells errors under 200 while pending, and 401 for a dead refresh token.
    poll_status: int = 400
    refresh_status: int = 400
    access_prefix: str = ""
    refresh_prefix: str = ""
    access_seconds: int = 3600
    userinfo_path: str = ""
    revoke_path: str = ""
    has_discovery: bool = False
    scopes: tuple[str, ...] = field(default=())

    @property
    def vendor(self) -> str:
        return self.rules.vendor


# Of the one client here that has a secret; nothing real opens with it.
SECRET: Final = "simulated-secret"  # noqa: S105  (for tests to send)
RFC8628: Final = Standard(
    DeviceRules("rfc8628", "/rfc8628/device"),
    {
        "simulated-client": Client("Simulated client"),
        "simulated-quiet": Client("Simulated client of a quiet server", tells_interval=False),
        "simulated-slow": Client("Simulated client of a slow server", slow_down_to=20),
        "simulated-secret": Client("Simulated client with a secret", secret=SECRET),
        "simulated-browser-only": Client("Simulated browser client", has_device_flow=False),
    },
    "/device_authorization",
    "/token",
    access_prefix="sim-at-",
    refresh_prefix="sim-rt-",
    userinfo_path="/userinfo",
    revoke_path="/revoke",
    has_discovery=True,
    scopes=("openid", "profile", "email", "offline_access", "models"),
)
XAI: Final = Standard(
    DeviceRules("xai", "/xai/device", lifetime_seconds=1800),
    {"b1a00492-073a-47ea-816f-4c329264a828": Client("Grok")},
    "/oauth2/device/code",
    "/oauth2/token",
    access_prefix="xai-at-",
    refresh_prefix="xai-rt-",
    userinfo_path="/oauth2/userinfo",
    has_discovery=True,
    scopes=(
        *("openid", "profile", "email", "offline_access"),
        *("grok-cli:access", "api:access"),
    ),
)
KIMI: Final = Standard(
    DeviceRules("kimi", "/kimi/device"),
    {"17e5f671-d194-4dfb-9706-5516cb48c098": Client("Kimi for Coding")},
    "/api/oauth/device_authorization",
    "/api/oauth/token",
    poll_status=200,
    refresh_status=401,
    access_prefix="kimi-at-",
    refresh_prefix="kimi-rt-",
)
SERVERS: Final = (RFC8628, XAI, KIMI)


# --- the two requests of a device ------------------------------------------------------------


def _start(server: Standard) -> Play:
    def start(request: Request, world: World) -> Response:
        sent = fields(request, oauth_error, "form")
        client_id, client = _client(server, request, sent)
        if not client.has_device_flow:
            raise Declined(
                oauth_error("unauthorized_client", "This client has no device flow."),
                "client_id",
                f"{client_id} has no device flow",
            )
        scope = sent.get("scope", "")
        if unknown := [s for s in scope.split() if server.scopes and s not in server.scopes]:
            message = f"Unknown scope: {' '.join(unknown)}."
            raise Declined(oauth_error("invalid_scope", message), "scope", message)
        attempt = device.start(
            world, server.rules, client_id=client_id, client_name=client.name, scope=scope
        )
        page = base_url(request) + server.rules.page
        answer: JSONDict = {
            "device_code": attempt.id,
            "user_code": attempt.user_code,
            "verification_uri": page,
            "verification_uri_complete": f"{page}?user_code={quote(attempt.user_code)}",
            "expires_in": server.rules.lifetime_seconds,
        }
        if client.tells_interval:
            answer["interval"] = server.rules.interval_seconds
        return token_response(answer)

    return start


def _token(server: Standard) -> Play:
    def token(request: Request, world: World) -> Response:
        sent = fields(request, oauth_error, "form")
        require(sent, oauth_error, "grant_type")
        client_id, client = _client(server, request, sent)
        grant = sent["grant_type"]
        if grant == DEVICE_GRANT:
            return _polled(server, world, sent, client_id, client)
        if grant == "refresh_token":
            return _refreshed(server, world, sent, client_id)
        message = f"This server has no grant {grant}."
        raise Declined(oauth_error("unsupported_grant_type", message), "grant_type", message)

    return token


def _polled(
    server: Standard, world: World, sent: Fields, client_id: str, client: Client
) -> Response:
    require(sent, oauth_error, "device_code")
    answer, attempt = device.poll(
        world, server.vendor, sent["device_code"], client_id, slow_down_to=client.slow_down_to
    )
    if answer is Poll.APPROVED:
        assert attempt is not None
        assert attempt.account is not None
        family = tokens.begin_family(
            world, server.vendor, attempt.account, client_id, attempt.scope
        )
        return token_response(_issued(server, world, family))
    response = oauth_error(answer.value, _SENTENCES[answer])
    if answer is Poll.SLOW_DOWN and client.slow_down_to:
        assert attempt is not None
        told: JSONDict = {"error": answer.value, "interval": int(attempt.interval_seconds)}
        response = json_response(told, cache_control="no-store")
    if answer is not Poll.UNKNOWN:
        response.status = server.poll_status
    return response


def _refreshed(server: Standard, world: World, sent: Fields, client_id: str) -> Response:
    require(sent, oauth_error, "refresh_token")
    family = tokens.spend(
        world, server.vendor, sent["refresh_token"], client_id, is_single_use=True
    )
    if isinstance(family, BadRefresh):
        response = oauth_error("invalid_grant", f"The refresh token {_phrase(family)}.")
        response.status = server.refresh_status
        return response
    asked, granted = set(sent.get("scope", "").split()), set(family.scope.split())
    if not asked <= granted:
        message = "A refresh cannot widen the scope."
        raise Declined(oauth_error("invalid_scope", message), "scope", message)
    return token_response(_issued(server, world, family))


def _phrase(bad: BadRefresh) -> str:
    return {BadRefresh.DEAD: "was revoked", BadRefresh.EXPIRED: "has expired"}.get(bad, bad.value)


def _issued(server: Standard, world: World, family: Family) -> JSONDict:
    access = server.access_prefix + world.token("access", 40)
    refresh = server.refresh_prefix + world.token("refresh", 40)
    tokens.add_access(world, family, access, server.access_seconds)
    tokens.add_refresh(world, family, refresh)
    return {
        "access_token": access,
        "token_type": "Bearer",
        "expires_in": server.access_seconds,
        "refresh_token": refresh,
        "scope": family.scope,
    }


def _client(server: Standard, request: Request, sent: Fields) -> tuple[str, Client]:
    """Who asks: by name alone, or with a secret where the client has one."""
    named = basic(request)
    client_id, secret = named or (sent.get("client_id", ""), sent.get("client_secret", ""))
    if not client_id:
        raise Declined(
            oauth_error("invalid_request", "client_id is missing."), "client_id", "missing"
        )
    client = server.clients.get(client_id)
    if client is None or not hmac.compare_digest(client.secret.encode(), secret.encode()):
        rule = "client_id" if client is None else "client_secret"
        raise Declined(
            oauth_error("invalid_client", "Client authentication failed."), rule, client_id
        )
    return client_id, client


# --- what else such a server answers ---------------------------------------------------------


def _discovery(server: Standard) -> Play:
    def discovery(request: Request, _world: World) -> Response:
        issuer = f"{base_url(request)}/{server.vendor}"
        answer: JSONDict = {
            "issuer": issuer,
            "device_authorization_endpoint": issuer + server.device_path,
            "token_endpoint": issuer + server.token_path,
            "userinfo_endpoint": issuer + server.userinfo_path,
            "response_types_supported": ["none"],
            "grant_types_supported": [DEVICE_GRANT, "refresh_token"],
            "scopes_supported": list(server.scopes),
            "token_endpoint_auth_methods_supported": [
                *("none", "client_secret_post", "client_secret_basic"),
            ],
        }
        if server.revoke_path:
            answer["revocation_endpoint"] = issuer + server.revoke_path
        return json_response(answer)

    return discovery


def _userinfo(server: Standard) -> Play:
    def userinfo(request: Request, world: World) -> Response:
        family = tokens.family_of(world, server.vendor, request.bearer())
        if family is None:
            response = oauth_error("invalid_token", "The access token does not work.")
            response.status = 401
            response.headers["www-authenticate"] = 'Bearer error="invalid_token"'
            raise Declined(response)
        account = family.account
        return json_response(
            {
                "sub": account.uuid(server.vendor),
                "name": account.full_name,
                "preferred_username": account.name,
                "email": account.email,
                "email_verified": True,
            }
        )

    return userinfo


def _revoke(server: Standard) -> Play:
    def revoke(request: Request, world: World) -> Response:
        sent = fields(request, oauth_error, "form")
        _client(server, request, sent)
        require(sent, oauth_error, "token")
        # RFC 7009: an unknown token is as good as revoked.
        tokens.revoke(world, server.vendor, sent["token"])
        return Response(200)

    return revoke


def routes(server: Standard) -> list[tuple[str, str, Play]]:
    folder = f"/{server.vendor}"
    found: list[tuple[str, str, Play]] = [
        ("POST", folder + server.device_path, _start(server)),
        ("POST", folder + server.token_path, _token(server)),
    ]
    if server.has_discovery:
        for name in ("openid-configuration", "oauth-authorization-server"):
            found.append(("GET", f"{folder}/.well-known/{name}", _discovery(server)))
    optional: tuple[tuple[str, str, Callable[[Standard], Play]], ...] = (
        ("GET", server.userinfo_path, _userinfo),
        ("POST", server.revoke_path, _revoke),
    )
    found += [(method, folder + path, make(server)) for method, path, make in optional if path]
    return found


PAGES: Final[tuple[tuple[str, str, Play], ...]] = tuple(
    (method, server.rules.page, device_page(server.vendor))
    for server in SERVERS
    for method in ("GET", "POST")
)
ROUTES: Final[tuple[tuple[str, str, Play], ...]] = tuple(
    route for server in SERVERS for route in routes(server)
)
