"""Logins against the simulated vendors: real sockets, no waiting."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from controlplane.kit import clock
from providers.catalog.models import Provider
from providers.catalog.services import register
from providers.credentials.models import Credential
from providers.oauth import polling, services
from providers.oauth.models import DeviceLogin, LoginSettings
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.members.models import Tenant, User
from tests.simulator_server import SimulatorServer, simulator, simulator_door

__all__ = ["simulator", "simulator_door"]

KIRO_USAGE = (
    "/kiro/getUsageLimits?origin=AI_EDITOR&resourceType=AGENTIC_REQUEST&isEmailRequired=true"
)
GITHUB_APP = "Iv1.b507a08c87ecfe98"


def overrides(url: str, catalog_id: str) -> dict[str, dict[str, Any]]:
    """The catalogue's logins of this provider, played by the simulator at `url`."""
    host = {"allowed_hosts": [url]}
    device_aws = {
        **host,
        "register_url": f"{url}/aws-oidc/{{oidc_region}}/client/register",
        "device_url": f"{url}/aws-oidc/{{oidc_region}}/device_authorization",
        "token_url": f"{url}/aws-oidc/{{oidc_region}}/token",
        "account_url": f"{url}/kiro/ListAvailableProfiles",
        "account_fallback_urls": [],
        "quota_url": f"{url}{KIRO_USAGE}",
    }
    kiro = {
        **host,
        "device_url": f"{url}/kiro/oauth/device/authorization",
        "poll_url": f"{url}/kiro/oauth/device/poll",
        "refresh_url": f"{url}/kiro/refreshToken",
        "quota_url": f"{url}{KIRO_USAGE}",
    }
    google = {
        **host,
        "authorize_url": f"{url}/google/o/oauth2/v2/auth",
        "token_url": f"{url}/google/token",
        "account_url": f"{url}/google/oauth2/v2/userinfo",
        "revoke_url": f"{url}/google/revoke",
        "setup_url": f"{url}/code-assist/v1internal",
        "quota_url": f"{url}/code-assist/v1internal:retrieveUserQuota",
    }
    codex = {
        **host,
        "token_url": f"{url}/codex/oauth/token",
        "quota_url": f"{url}/codex/wham/usage",
        "revoke_url": f"{url}/codex/oauth/revoke",
    }
    github = {
        **host,
        "device_url": f"{url}/github/login/device/code",
        "token_url": f"{url}/github/login/oauth/access_token",
        "account_url": f"{url}/github-api/user",
        "quota_url": f"{url}/github-api/copilot_internal/user",
    }
    played: dict[str, dict[str, dict[str, Any]]] = {
        "github-copilot": {
            "device": {**github, "exchange_url": f"{url}/github-api/copilot_internal/v2/token"},
            "direct": {**github, "host_url": f"{url}/github-api/graphql"},
        },
        "kiro": {
            "builder_id": {
                **{
                    name: value.replace("{oidc_region}", "us-east-1")
                    if type(value) is str
                    else value
                    for name, value in device_aws.items()
                },
                "account_url": "",
            },
            "identity_center": device_aws,
            "google": kiro,
            "github": kiro,
        },
        "openai-codex": {
            "device": {
                **codex,
                "device_url": f"{url}/codex/api/accounts/deviceauth/usercode",
                "verification_url": f"{url}/codex/codex/device",
                "poll_url": f"{url}/codex/api/accounts/deviceauth/token",
                "redirect_url": "https://auth.openai.com/deviceauth/callback",
            },
            "browser": {**codex, "authorize_url": f"{url}/codex/oauth/authorize"},
        },
        "claude-subscription": {
            "paste": {
                **host,
                "authorize_url": f"{url}/claude/oauth/authorize",
                "token_url": f"{url}/claude/v1/oauth/token",
                "account_url": f"{url}/claude/api/oauth/profile",
                "quota_url": f"{url}/claude/api/oauth/usage",
            }
        },
        "google-gemini-cli": {"browser": google},
        "google-antigravity": {"browser": google},
        "kimi-coding": {
            "device": {
                **host,
                "device_url": f"{url}/kimi/api/oauth/device_authorization",
                "token_url": f"{url}/kimi/api/oauth/token",
            }
        },
        "xai": {
            "device": {
                **host,
                "issuer": f"{url}/xai",
                "device_url": f"{url}/xai/oauth2/device/code",
                "token_url": f"{url}/xai/oauth2/token",
                "account_url": f"{url}/xai/oauth2/userinfo",
            }
        },
        "kilo": {
            "device": {
                **host,
                "device_url": f"{url}/kilo/api/device-auth/codes",
                "poll_url": f"{url}/kilo/api/device-auth/codes/{{code}}",
                "account_url": f"{url}/kilo/api/profile",
            }
        },
        "openrouter": {
            "key": {
                **host,
                "authorize_url": f"{url}/openrouter/auth",
                "token_url": f"{url}/openrouter/api/v1/auth/keys",
            }
        },
        # By issuer alone: the addresses come from its own document.
        "": {
            "device": {
                "flow": "device_code",
                "issuer": f"{url}/rfc8628",
                "client_id": "simulated-client",
                "scopes": ["openid", "models"],
                **host,
            }
        },
    }
    return played[catalog_id]


@dataclass
class Clock:
    """Ours and the vendors': both move together."""

    world: Any
    offset: timedelta = field(default_factory=timedelta)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.offset

    def pass_(self, seconds: float) -> None:
        self.offset += timedelta(seconds=seconds)
        self.world.advance(seconds)


@pytest.fixture
def moving(simulator: SimulatorServer, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Time that tests move by hand, here and at the vendors."""
    found = Clock(simulator.world)
    monkeypatch.setattr(clock, "now", found.now)
    return found


@dataclass
class Desk:
    """Somebody signs in at simulated vendors, and time is moved instead of waited for."""

    simulator: SimulatorServer
    clock: Clock
    user: User
    tenant: Tenant

    def provider(self, catalog_id: str, *, secret: str = "") -> Provider:
        """A registration of the platform's, with its logins switched on."""
        from controlplane.kit.secret import Secret
        from tenants.vault import services as vault

        with scope.platform("tests"):
            values: dict[str, Any] = {"catalog_id": catalog_id}
            if not catalog_id:
                values = {
                    "protocol": "openai-completions",
                    "base_url": f"{self.simulator.url}/openai/v1",
                }
            provider = register(slug=catalog_id or "generic", **values)
            row = LoginSettings(
                catalog_id=catalog_id,
                provider=None if catalog_id else provider,
                is_on=True,
                overrides=overrides(self.simulator.url, catalog_id),
            )
            if secret:
                vault.seal_into(row, "sealed_client_secret", Secret(secret))
            row.save()
        return provider

    def begin(self, provider: Provider, way: str, **values: Any) -> DeviceLogin:
        with scope.tenant(self.tenant.pk):
            return services.begin(
                user=self.user,
                tenant=self.tenant,
                provider=provider,
                way=way,
                now=self.clock.now(),
                **values,
            )

    def approve(self, login: DeviceLogin, account: str = "ada") -> None:
        self.simulator.control("logins/approve", {"user_code": login.user_code, "account": account})

    def deny(self, login: DeviceLogin) -> None:
        self.simulator.control("logins/deny", {"user_code": login.user_code})

    def script(self, login: DeviceLogin, *answers: str) -> None:
        self.simulator.control(
            "logins/script", {"user_code": login.user_code, "answers": list(answers)}
        )

    def poll(self, login: DeviceLogin) -> datetime | None:
        """One run of the job, when it is due."""
        login.refresh_from_db()
        if login.next_poll_at is not None:
            wait = (login.next_poll_at - self.clock.now()).total_seconds()
            self.clock.pass_(max(wait, 0.0))
        due = self.run(login)
        login.refresh_from_db()
        return due

    def run(self, login: DeviceLogin) -> datetime | None:
        with scope.platform("tests"):
            return polling.poll(str(login.pk))

    def confirm(self, login: DeviceLogin) -> Credential:
        with scope.tenant(self.tenant.pk):
            return services.confirm(login, now=self.clock.now())

    def sign_in(
        self, provider: Provider, way: str, account: str = "ada", **values: Any
    ) -> Credential:
        login = self.begin(provider, way, **values)
        assert login.status == "pending", (login.error_code, login.error_detail)
        self.approve(login, account)
        self.poll(login)
        assert login.status == "confirm", (login.error_code, login.error_detail)
        return self.confirm(login)

    def polls(self, path: str) -> int:
        return sum(r.path == path for r in self.simulator.world.requests)


@pytest.fixture
def desk(
    simulator: SimulatorServer, moving: Clock, user: User, tenant: Tenant, settings: Any
) -> Iterator[Desk]:
    settings.UPSTREAM_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    with acting_as("user", user.pk, user.email, ""), scope.platform("tests"):
        yield Desk(simulator, moving, user, tenant)


@pytest.fixture
def refuse_secrets() -> Callable[[DeviceLogin], None]:
    """A login that ended holds nothing that was secret."""

    def check(login: DeviceLogin) -> None:
        login.refresh_from_db()
        assert login.sealed is None
        assert not login.user_code
        assert not login.verification_uri_complete

    return check
