"""Unsealed credentials of this process: few, short-lived, dropped on any change."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from controlplane.kit.database_threads import database_threads
from controlplane.kit.errors import FaultKind
from controlplane.kit.secret import Secret
from providers.credentials import clouds
from providers.credentials.clouds import CloudCredentials
from providers.credentials.elsewhere import variable
from providers.credentials.sources import secret_headers_of, secret_of
from providers.errors import ProviderError
from providers.routing.table import CredentialRef, Endpoint
from providers.signing import schemes
from providers.signing.outbound import Outbound

LIFETIME_SECONDS: Final = 30.0
MAX_ENTRIES: Final = 5_000
# No token is used this close to its end: it might end on its way (bar R16).
SAFETY: Final = timedelta(seconds=60)


class CredentialUnavailable(ProviderError):
    """The credential cannot be read now: unsealing or its source failed."""

    kind = FaultKind.OVERLOADED
    code = "credential_unavailable"


class Token(Protocol):
    """A login's token, and until when it works (None = it does not end)."""

    @property
    def token(self) -> Secret: ...
    @property
    def expires_at(self) -> datetime | None: ...


class Keeper(Protocol):
    """Who renews logins: providers/oauth/keeper.py."""

    async def fresh(self, credential_id: str, refused: Secret | None = None) -> Token: ...
    async def is_worth_another_try(
        self, credential_id: str, refused: Secret, status: int, body: bytes
    ) -> bool: ...
    def used_up(self, credential_id: str) -> None: ...
    def close(self) -> None: ...


class CredentialCache:
    """`keeper` None = no logins here: only keys are shown."""

    def __init__(self, keeper: Keeper | None = None) -> None:
        self._keeper = keeper
        self._secrets: dict[str, tuple[float, Secret]] = {}
        self._headers: dict[str, tuple[float, dict[str, Secret]]] = {}
        self._logins: dict[str, tuple[float, Token]] = {}
        self._clouds = CloudCredentials()

    async def headers(
        self,
        endpoint: Endpoint,
        credential: CredentialRef | None,
        outbound: Outbound,
        own_key: Secret | None = None,
    ) -> dict[str, str]:
        """What `credential` adds to this request, with the registration's sealed headers.
        Signatures cover `outbound`. `own_key` is the caller's: shown, and kept nowhere."""
        if own_key is not None:
            return schemes.headers(endpoint.auth, own_key)
        if not endpoint.has_secret_headers:
            return await self._credential_headers(endpoint, credential, outbound)
        sealed = await self._secret_headers(endpoint.provider_id)
        opened = {name: value.reveal() for name, value in sealed.items()}
        return {**opened, **await self._credential_headers(endpoint, credential, outbound)}

    async def is_renewed(
        self, credential: CredentialRef | None, shown: Mapping[str, str], status: int, body: bytes
    ) -> bool:
        """Whether a request that a vendor refused is worth one more try: its credential is a
        login, and there is another token than the one in the headers `shown`."""
        if self._keeper is None or credential is None or credential.kind != "oauth":
            return False
        if status in (402, 429):
            self._keeper.used_up(credential.id)
        if status not in (401, 403):
            return False
        held = self._logins.get(credential.id)
        if held is None:
            return True
        refused = held[1].token
        if not any(refused.reveal() in value for value in shown.values()):
            # Somebody else's request has brought a new one meanwhile.
            return True
        is_worth_it = await self._keeper.is_worth_another_try(credential.id, refused, status, body)
        self._logins.pop(credential.id, None)
        return is_worth_it

    async def _credential_headers(
        self, endpoint: Endpoint, credential: CredentialRef | None, outbound: Outbound
    ) -> dict[str, str]:
        if endpoint.auth.scheme == "none":
            return {}
        if credential is None:
            raise CredentialUnavailable("This provider has no usable credential.")
        if credential.kind == "headers":
            return {}
        if credential.kind in clouds.KINDS:
            return {**credential.headers, **await self._clouds.headers(credential, outbound)}
        scheme = credential.scheme or endpoint.auth
        if credential.kind == "oauth":
            secret = await self._login_token(credential.id)
        else:
            secret = await self._secret(credential)
        return {**credential.headers, **schemes.headers(scheme, secret)}

    async def _login_token(self, credential_id: str) -> Secret:
        if self._keeper is None:
            raise CredentialUnavailable("Logins are not used here.")
        held = self._logins.get(credential_id)
        if held is not None and held[0] > time.monotonic():
            ends = held[1].expires_at
            if ends is None or ends - SAFETY > datetime.now(UTC):
                return held[1].token
        token = await self._keeper.fresh(credential_id)
        if len(self._logins) >= MAX_ENTRIES:
            self._logins.clear()
        self._logins[credential_id] = (time.monotonic() + LIFETIME_SECONDS, token)
        return token.token

    async def _secret(self, credential: CredentialRef) -> Secret:
        if credential.variable:
            return variable(credential.variable)
        now = time.monotonic()
        held = self._secrets.get(credential.id)
        if held is not None and held[0] > now:
            return held[1]
        secret = await database_threads.run(secret_of, credential.id)
        if len(self._secrets) >= MAX_ENTRIES:
            self._secrets.clear()
        self._secrets[credential.id] = (now + LIFETIME_SECONDS, secret)
        return secret

    async def _secret_headers(self, provider_id: str) -> dict[str, Secret]:
        now = time.monotonic()
        held = self._headers.get(provider_id)
        if held is not None and held[0] > now:
            return held[1]
        headers = await database_threads.run(secret_headers_of, provider_id)
        if len(self._headers) >= MAX_ENTRIES:
            self._headers.clear()
        self._headers[provider_id] = (now + LIFETIME_SECONDS, headers)
        return headers

    def forget(self) -> None:
        self._secrets.clear()
        self._headers.clear()
        self._logins.clear()
        self._clouds.forget()

    def close(self) -> None:
        self._clouds.close()
        if self._keeper is not None:
            self._keeper.close()
