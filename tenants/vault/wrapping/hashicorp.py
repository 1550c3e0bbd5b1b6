"""HashiCorp Vault's transit engine as the key ring: the wrapping key never leaves Vault.

https://developer.hashicorp.com/vault/api-docs/secret/transit
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import http.client
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from controlplane.kit import json
from controlplane.kit.secret import Secret
from tenants.vault.errors import KeyRingProblem, KeyServiceUnavailable
from tenants.vault.wrapping.contract import KeyContext, Wrapped

SCHEME = "hashicorp-transit"
_TIMEOUT_SECONDS = 10.0
_LARGEST_ANSWER_BYTES = 1_048_576
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True, slots=True)
class Transit:
    url: str
    key: str
    mount: str = "transit"
    token: Secret | None = None
    # Read at each use, so that a token renewed by Vault Agent serves without a restart.
    token_file: Path | None = None
    namespace: str = ""
    ca_file: Path | None = None

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise KeyRingProblem("Set HASHICORP_VAULT_URL to https://… of your Vault server.")
        if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            raise KeyRingProblem(
                "HASHICORP_VAULT_URL must be https://…: data keys travel on that connection. "
                "Plain http is accepted for a Vault Agent on this machine only."
            )
        if not self.key:
            raise KeyRingProblem("Set HASHICORP_VAULT_TRANSIT_KEY to the name of a transit key.")

    def current(self) -> str:
        # Vault makes a missing key when asked to encrypt with it. Asking for the key first
        # keeps a misspelt name from becoming a new key.
        answer = self._call("GET", f"keys/{quote(self.key, safe='')}")
        version = answer.get("latest_version")
        if not isinstance(version, int) or answer.get("type") != "aes256-gcm96":
            raise KeyRingProblem(
                f"Transit key {self.key} has type {answer.get('type')!r}: "
                "use one of type aes256-gcm96."
            )
        return self._name(version)

    def wrap(self, key: bytes, context: KeyContext) -> Wrapped:
        self.current()
        answer = self._call(
            "POST",
            f"encrypt/{quote(self.key, safe='')}",
            {
                "plaintext": base64.b64encode(key).decode(),
                "associated_data": base64.b64encode(context.as_bytes()).decode(),
            },
        )
        ciphertext = answer.get("ciphertext")
        if not isinstance(ciphertext, str) or ciphertext.count(":") != 2:
            raise KeyServiceUnavailable("Vault's answer to encrypt has no ciphertext.")
        version = ciphertext.split(":")[1].removeprefix("v")
        if not version.isdecimal():
            raise KeyServiceUnavailable("Vault's ciphertext names no key version.")
        return Wrapped(self._name(int(version)), ciphertext.encode())

    def unwrap(self, wrapped: Wrapped, context: KeyContext) -> bytes:
        # The row says which mount and key; a key renamed in the settings still unwraps.
        path = wrapped.wrapped_by.removeprefix(f"{SCHEME}:").rpartition(":")[0]
        mount, _, key = path.rpartition("/")
        answer = self._call(
            "POST",
            f"decrypt/{quote(key, safe='')}",
            {
                "ciphertext": wrapped.blob.decode("ascii", "replace"),
                "associated_data": base64.b64encode(context.as_bytes()).decode(),
            },
            mount=mount,
        )
        try:
            return base64.b64decode(answer["plaintext"], validate=True)
        except (KeyError, TypeError, binascii.Error, ValueError):
            raise KeyServiceUnavailable("Vault's answer to decrypt has no plaintext.") from None

    def _name(self, version: int) -> str:
        return f"{SCHEME}:{self.mount}/{self.key}:v{version}"

    def _token(self) -> str:
        if self.token_file is not None:
            try:
                token = self.token_file.read_text(encoding="ascii").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise KeyRingProblem(
                    f"HASHICORP_VAULT_TOKEN_FILE ({self.token_file}) cannot be read: {error}."
                ) from None
        else:
            token = self.token.reveal() if self.token else ""
        if not token:
            raise KeyRingProblem("Set HASHICORP_VAULT_TOKEN or HASHICORP_VAULT_TOKEN_FILE.")
        return token

    def _call(
        self, method: str, path: str, body: dict[str, str] | None = None, *, mount: str = ""
    ) -> dict[str, Any]:
        headers = {"X-Vault-Token": self._token(), "X-Vault-Request": "true"}
        if self.namespace:
            headers["X-Vault-Namespace"] = self.namespace
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            status, content = self._exchange(
                method, f"/v1/{quote(mount or self.mount)}/{path}", headers, body
            )
        except (OSError, http.client.HTTPException) as error:
            raise KeyServiceUnavailable(
                f"Vault at {self.url} cannot be reached: {error or type(error).__name__}. "
                "Check HASHICORP_VAULT_URL, HASHICORP_VAULT_CA_FILE and the network."
            ) from None
        if status == 200:
            return _data(content)
        reason = _reason(content)
        if status >= 500 or status in {412, 429}:
            raise KeyServiceUnavailable(f"Vault answered {status}: {reason}")
        raise KeyRingProblem(f"Vault refused {path} with {status}: {reason}")

    def _exchange(
        self, method: str, path: str, headers: dict[str, str], body: dict[str, str] | None
    ) -> tuple[int, bytes]:
        # The standard library's client, because it is the right one here: it follows no
        # redirect and reads no proxy variable, and three calls a day need no pool.
        parts = urlsplit(self.url)
        host = parts.hostname or ""
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            context = ssl.create_default_context(cafile=self.ca_file)
            connection = http.client.HTTPSConnection(
                host, parts.port, timeout=_TIMEOUT_SECONDS, context=context
            )
        else:
            connection = http.client.HTTPConnection(host, parts.port, timeout=_TIMEOUT_SECONDS)
        with contextlib.closing(connection):
            connection.request(
                method,
                parts.path.rstrip("/") + path,
                body=None if body is None else json.dumps(body),
                headers=headers,
            )
            response = connection.getresponse()
            return response.status, response.read(_LARGEST_ANSWER_BYTES)


def _data(content: bytes) -> dict[str, Any]:
    try:
        data = json.loads_dict(content).get("data")
    except json.InvalidJSON:
        data = None
    if not isinstance(data, dict):
        raise KeyServiceUnavailable("Vault's answer is not the JSON its documentation describes.")
    return data


def _reason(content: bytes) -> str:
    try:
        errors = json.loads_dict(content).get("errors")
    except json.InvalidJSON:
        errors = None
    if isinstance(errors, list) and errors:
        return "; ".join(str(error) for error in errors)[:300]
    return "no reason given. Check the token's policy, the mount and the key's name."
