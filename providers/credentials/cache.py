"""Unsealed credentials of this process: few, short-lived, dropped on any change."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Generic, Protocol, TypeVar

from django.db import InterfaceError, OperationalError

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

T = TypeVar("T")
LIFETIME_SECONDS: Final = 30.0
# While the database is away, what was read this long ago serves on (bar R7).
OUTAGE_SECONDS: Final = 60.0
_ASK_AGAIN_SECONDS: Final = 1.0
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


@dataclass(slots=True)
class _Held(Generic[T]):
    value: T
    read_at: float
    # From then on it is read anew.
    until: float


class _Memory(Generic[T]):
    """What was read of the database, by id."""

    def __init__(self) -> None:
        self._held: dict[str, _Held[T]] = {}

    def get(self, name: str) -> T | None:
        held = self._held.get(name)
        return None if held is None else held.value

    async def read(
        self, name: str, reader: Callable[[], Awaitable[T]], is_usable: Callable[[T], bool]
    ) -> T:
        now = time.monotonic()
        held = self._held.get(name)
        if held is not None and held.until > now and is_usable(held.value):
            return held.value
        try:
            value = await reader()
        except (OperationalError, InterfaceError):
            if held is None or held.read_at + OUTAGE_SECONDS < now or not is_usable(held.value):
                raise
            # Nobody can have changed it, as little as anybody can ask.
            held.until = now + _ASK_AGAIN_SECONDS
            return held.value
        if len(self._held) >= MAX_ENTRIES:
            self._held.clear()
        self._held[name] = _Held(value, now, now + LIFETIME_SECONDS)
        return value

    def drop(self, name: str) -> None:
        self._held.pop(name, None)

    def clear(self) -> None:
        self._held.clear()


class CredentialCache:
    """`keeper` None = no logins here: only keys are shown."""

    def __init__(self, keeper: Keeper | None = None) -> None:
        self._keeper = keeper
        self._secrets: _Memory[Secret] = _Memory()
        self._headers: _Memory[dict[str, Secret]] = _Memory()
        self._logins: _Memory[Token] = _Memory()
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
        refused = held.token
        if not any(refused.reveal() in value for value in shown.values()):
            # Somebody else's request has brought a new one meanwhile.
            return True
        is_worth_it = await self._keeper.is_worth_another_try(credential.id, refused, status, body)
        self._logins.drop(credential.id)
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
        keeper = self._keeper
        held = await self._logins.read(
            credential_id, lambda: keeper.fresh(credential_id), _lasts_a_while
        )
        return held.token

    async def _secret(self, credential: CredentialRef) -> Secret:
        if credential.variable:
            return variable(credential.variable)
        return await self._secrets.read(
            credential.id, lambda: database_threads.run(secret_of, credential.id), _always
        )

    async def _secret_headers(self, provider_id: str) -> dict[str, Secret]:
        return await self._headers.read(
            provider_id, lambda: database_threads.run(secret_headers_of, provider_id), _always
        )

    def forget(self) -> None:
        self._secrets.clear()
        self._headers.clear()
        self._logins.clear()
        self._clouds.forget()

    def close(self) -> None:
        self._clouds.close()
        if self._keeper is not None:
            self._keeper.close()


def _lasts_a_while(token: Token) -> bool:
    ends = token.expires_at
    return ends is None or ends - SAFETY > datetime.now(UTC)


def _always(_value: object) -> bool:
    return True
