"""Cloud identities: from what is stored to the headers of one request, off the event loop.

A tenant's cloud credential is always explicit: keys or a key file that it stored. The machine's
own identity (profiles, instance and container roles, application defaults) belongs to the
platform's credentials alone, which say so by a reference in place of a secret:

    {"chain": true}  {"chain": true, "profile": "work"}        AWS
    {"adc": true}                                              Google
"""

from __future__ import annotations

import asyncio
import calendar
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from django.conf import settings

from controlplane.kit import json
from controlplane.kit.database_threads import DatabaseThreads
from controlplane.kit.json import JSONDict
from controlplane.kit.secret import Secret
from providers.credentials.elsewhere import SourceUnavailable
from providers.credentials.models import Credential
from providers.credentials.sources import secret_in
from providers.errors import ProviderError
from providers.routing.table import CredentialRef
from providers.signing.outbound import Outbound
from providers.upstream.client import Timeouts
from providers.upstream.pool import ClientPool
from tenants import scope

KINDS: Final = frozenset({"aws", "google", "azure"})
_SAFETY_SECONDS: Final = 60.0
_TIMEOUTS: Final = Timeouts(connect_seconds=5.0, first_byte_seconds=15.0, idle_seconds=10.0)
_AWS_HOST: Final = re.compile(
    r"[a-z0-9-]+\.(?P<region>[a-z]{2}(?:-[a-z]{2,9}){1,2}-[1-9])\.amazonaws\."
)
_DEFAULT_REGION: Final = "us-east-1"
_GOOGLE_SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
_GOOGLE_TOKEN_HOSTS: Final = frozenset({"oauth2.googleapis.com", "accounts.google.com"})
_ENTRA: Final = "https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token"
_ENTRA_SCOPE: Final = "https://cognitiveservices.azure.com/.default"
_ENTRA_TENANT: Final = re.compile(r"[A-Za-z0-9.-]{1,128}")


@dataclass(frozen=True, slots=True)
class _Token:
    token: Secret
    ends_at: float

    @property
    def works(self) -> bool:
        return self.ends_at - _SAFETY_SECONDS > time.time()


class CloudCredentials:
    """Of one process. AWS sessions and tokens are kept by credential and renewed in time."""

    def __init__(self) -> None:
        self._threads = DatabaseThreads()
        self._lock = threading.Lock()
        self._aws: dict[str, Any] = {}
        self._tokens: dict[str, _Token] = {}

    async def headers(self, credential: CredentialRef, outbound: Outbound) -> dict[str, str]:
        """Raises SourceUnavailable."""
        if credential.kind == "aws":
            return await self._threads.run(self._signed, credential, outbound)
        held = self._tokens.get(credential.id)
        if held is None or not held.works:
            held = await self._threads.run(self._renewed, credential)
        return {"Authorization": f"Bearer {held.token.reveal()}"}

    def forget(self) -> None:
        with self._lock:
            self._aws.clear()
            self._tokens.clear()

    def close(self) -> None:
        self._threads.close()

    # --- AWS ----------------------------------------------------------------------------------

    def _signed(self, credential: CredentialRef, outbound: Outbound) -> dict[str, str]:
        with self._lock:
            source = self._aws.get(credential.id)
        if source is None:
            source = _aws_credentials(*_stored(credential.id))
            with self._lock:
                self._aws[credential.id] = source
        return sign_aws(source, region_of(outbound.url, credential.endpoint), outbound)

    # --- tokens -------------------------------------------------------------------------------

    def _renewed(self, credential: CredentialRef) -> _Token:
        # One at a time: the library's own refresh is not locked.
        with self._lock:
            held = self._tokens.get(credential.id)
            if held is not None and held.works:
                return held
            value, is_platform = _stored(credential.id)
            make = _google_token if credential.kind == "google" else _entra_token
            made = self._tokens[credential.id] = make(value, is_platform)
        return made


def _stored(credential_id: str) -> tuple[JSONDict, bool]:
    """What is known of the credential, and whether it is the platform's own."""
    with scope.platform("unseal a cloud credential for a request"):
        row: Credential | None = Credential.objects.filter(pk=credential_id).first()
        if row is None:
            raise SourceUnavailable("The provider's credential was removed.")
        text = secret_in(row).reveal()
    try:
        value = json.loads_dict(text)
    except json.InvalidJSON:
        # AWS keys in one line: id:secret, or id:secret:session token.
        names = ("access_key_id", "secret_access_key", "session_token")
        value = dict(zip(names, text.split(":", 2), strict=False))
    return value, row.tenant_id is None


def region_of(url: str, endpoint: Mapping[str, str]) -> str:
    """As the address says; for addresses of one's own as the credential says."""
    found = _AWS_HOST.match(urlsplit(url).hostname or "")
    return found["region"] if found is not None else endpoint.get("region") or _DEFAULT_REGION


def _aws_credentials(value: JSONDict, is_platform: bool) -> Any:
    """Something that botocore takes credentials from; chains renew themselves."""
    # Imported where it is needed: it costs 100 ms and some 20 MB.
    import botocore.credentials
    import botocore.exceptions
    import botocore.session

    if value.get("chain") is True:
        if not is_platform:
            raise SourceUnavailable(
                "A tenant's AWS credential is its own keys, never the server's."
            )
        try:
            session = botocore.session.Session(profile=value.get("profile") or None)
            found = session.get_credentials()
        except botocore.exceptions.BotoCoreError as error:
            raise SourceUnavailable(f"The AWS chain failed: {type(error).__name__}.") from None
        if found is None:
            raise SourceUnavailable("The AWS chain found no credentials on this machine.")
        return found
    key, secret = value.get("access_key_id"), value.get("secret_access_key")
    if not isinstance(key, str) or not isinstance(secret, str) or not key or not secret:
        raise SourceUnavailable("An AWS credential is access_key_id and secret_access_key.")
    return botocore.credentials.Credentials(key, secret, value.get("session_token") or None)


def sign_aws(source: Any, region: str, outbound: Outbound) -> dict[str, str]:
    """SigV4 over the request as it will go out. Waits when the chain renews itself."""
    import botocore.exceptions
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest

    request = AWSRequest(
        method=outbound.method, url=outbound.url, data=outbound.body, headers=dict(outbound.headers)
    )
    before = {name.lower() for name in outbound.headers}
    try:
        SigV4Auth(source.get_frozen_credentials(), "bedrock", region).add_auth(request)
    except botocore.exceptions.BotoCoreError as error:
        raise SourceUnavailable(f"AWS credentials are away: {type(error).__name__}.") from None
    return {k: str(v) for k, v in request.headers.items() if k.lower() not in before}


def _google_token(value: JSONDict, is_platform: bool) -> _Token:
    """Key files and user files are read by their own constructors: the general loader would also
    take files that read other files, ask other addresses, or run commands."""
    import google.auth
    import google.auth.exceptions
    from google.oauth2 import credentials, service_account

    # The library has no types.
    users: Any = credentials.Credentials
    services: Any = service_account.Credentials
    found: Any
    try:
        if value.get("adc") is True:
            if not is_platform:
                raise SourceUnavailable(
                    "A tenant's Google credential is its own key file, never the server's."
                )
            import google.auth.transport.urllib3
            import urllib3

            found, _ = google.auth.default(scopes=[_GOOGLE_SCOPE])
            # Its metadata server is on an address that our guard refuses to everybody.
            transport: Any = google.auth.transport.urllib3.Request
            found.refresh(transport(urllib3.PoolManager()))
        else:
            kind = value.get("type")
            if urlsplit(str(value.get("token_uri", ""))).hostname not in _GOOGLE_TOKEN_HOSTS and (
                kind == "service_account" or value.get("token_uri")
            ):
                raise SourceUnavailable("The token_uri of a Google key file is Google's.")
            if kind == "service_account":
                found = services.from_service_account_info(value, scopes=[_GOOGLE_SCOPE])
            elif kind == "authorized_user":
                found = users.from_authorized_user_info(value, scopes=[_GOOGLE_SCOPE])
            else:
                raise SourceUnavailable(
                    "A Google credential is a key file of the type service_account or "
                    "authorized_user."
                )
            found.refresh(_google_transport)
    except (google.auth.exceptions.GoogleAuthError, ValueError) as error:
        raise SourceUnavailable(f"Google gave no token: {type(error).__name__}.") from None
    ends = found.expiry
    return _Token(
        Secret(str(found.token)),
        calendar.timegm(ends.utctimetuple()) if ends is not None else time.time() + 300,
    )


@dataclass(frozen=True, slots=True)
class _GoogleReply:
    status: int
    headers: Mapping[str, str]
    data: bytes


def _google_transport(
    url: str, method: str = "GET", body: Any = None, headers: Any = None, **_: Any
) -> _GoogleReply:
    """The library's requests through our one outbound client."""
    data = body.encode() if isinstance(body, str) else body
    status, found = _ask(method, url, dict(headers or {}), data)
    return _GoogleReply(status, {}, found)


def _entra_token(value: JSONDict, _is_platform: bool) -> _Token:
    """Microsoft Entra ID, client credentials."""
    tenant, client, secret = (
        str(value.get(name, "")) for name in ("tenant_id", "client_id", "client_secret")
    )
    if not _ENTRA_TENANT.fullmatch(tenant) or not client or not secret:
        raise SourceUnavailable("An Entra credential is tenant_id, client_id and client_secret.")
    fields = {
        "grant_type": "client_credentials",
        "client_id": client,
        "client_secret": secret,
        "scope": str(value.get("scope") or _ENTRA_SCOPE),
    }
    status, body = _ask(
        "POST",
        _ENTRA.format(tenant=tenant),
        {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"},
        urlencode(fields).encode(),
    )
    try:
        answer = json.loads_dict(body)
    except json.InvalidJSON:
        answer = {}
    token = answer.get("access_token")
    if status != 200 or not isinstance(token, str):
        raise SourceUnavailable(f"Entra gave no token ({status}).")
    lasts = answer.get("expires_in")
    seconds = float(lasts) if isinstance(lasts, int | float) and 0 < lasts < 1e6 else 300.0
    return _Token(Secret(token), time.time() + seconds)


def _ask(method: str, url: str, headers: dict[str, str], body: bytes | None) -> tuple[int, bytes]:
    try:
        return asyncio.run(_send(method, url, headers, body))
    except ProviderError as error:
        raise SourceUnavailable(f"The token server cannot be reached: {error.message}") from None


async def _send(
    method: str, url: str, headers: dict[str, str], body: bytes | None
) -> tuple[int, bytes]:
    clients = ClientPool(allowed=settings.UPSTREAM_ALLOWED_NETWORKS)
    try:
        client = clients.of("platform")
        response = await client.send(method, url, headers=headers, body=body, timeouts=_TIMEOUTS)
        try:
            return response.status, await response.read(1024 * 1024)
        finally:
            response.close()
    finally:
        await clients.close()
