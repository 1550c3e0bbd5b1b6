"""Secrets that are kept elsewhere: each source is named by the operator in the settings, and a
credential refers to what is listed there. No tenant's credential comes here (bar C7).

What fails is told by the reference, never by the value.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from django.conf import settings

from controlplane.kit import json
from controlplane.kit.errors import FaultKind
from controlplane.kit.secret import Secret
from providers.credentials.models import Credential
from providers.errors import ProviderError
from providers.upstream.client import Timeouts
from providers.upstream.pool import ClientPool

LONGEST_SECRET: Final = 64 * 1024
COMMAND_SECONDS: Final = 5.0
_TIMEOUTS: Final = Timeouts(connect_seconds=5.0, first_byte_seconds=10.0, idle_seconds=10.0)
# mount/path/of/the/secret#field
_VAULT: Final = re.compile(
    r"(?P<mount>[A-Za-z0-9_-]+)/(?P<path>[A-Za-z0-9_./-]+)#(?P<field>[\w.-]+)"
)
_AWS: Final = re.compile(r"(?P<name>[A-Za-z0-9/_+=.@:-]+)(?:#(?P<field>[\w.-]+))?")

_ran: dict[str, Secret] = {}
_running = threading.Lock()


class SourceUnavailable(ProviderError):
    """The credential's source gave nothing; the message names the source, never the value."""

    kind = FaultKind.OVERLOADED
    code = "credential_unavailable"


def read(row: Credential) -> Secret:
    """Raises SourceUnavailable. Waits: not for an event loop."""
    if row.tenant_id is not None:
        raise SourceUnavailable("Only credentials of the platform may refer to other sources.")
    try:
        reader = _READERS[Credential.Source(row.source)]
    except KeyError:
        raise SourceUnavailable(f"Credential {row.label!r} holds no secret.") from None
    found = reader(row.reference)
    if not found.strip() or len(found) > LONGEST_SECRET:
        raise SourceUnavailable(
            f"The source of credential {row.label!r} gave nothing, or more than a secret."
        )
    return Secret(found.strip())


def problem_of(source: str, reference: str) -> str:
    """Why nothing could come from there, as far as the settings tell; empty = it may work. Nothing
    is read."""
    match source:
        case Credential.Source.ENVIRONMENT if reference not in settings.SECRET_VARIABLES:
            return f"The variable {reference} is not listed in SECRET_VARIABLES."
        case Credential.Source.ENVIRONMENT if not settings.SECRET_VALUES.get(reference):
            return f"The variable {reference} was not set when this process started."
        case Credential.Source.COMMAND if reference not in settings.SECRET_COMMANDS:
            return f"The command {reference} is not listed in SECRET_COMMANDS."
        case Credential.Source.FILE if not _is_in_a_folder(Path(reference).resolve()):
            return f"The file {reference} is in no folder of SECRET_FOLDERS."
        case Credential.Source.VAULT_KV if not _VAULT.fullmatch(reference) or ".." in reference:
            return "A secret in Vault is named mount/path#field."
        case Credential.Source.VAULT_KV if not settings.HASHICORP_VAULT_URL:
            return "Set HASHICORP_VAULT_URL and HASHICORP_VAULT_TOKEN."
        case Credential.Source.AWS_SECRETS if not _AWS.fullmatch(reference):
            return "A secret at AWS is named by its name or ARN, and #field."
    return ""


def forget() -> None:
    """What commands said: they run again when they are needed."""
    _ran.clear()


def variable(name: str) -> Secret:
    """What a listed variable held when this process started. Raises SourceUnavailable. No I/O."""
    if name not in settings.SECRET_VARIABLES:
        raise SourceUnavailable(f"The variable {name} is not listed in SECRET_VARIABLES.")
    value: Secret | None = settings.SECRET_VALUES.get(name)
    if not value:
        raise SourceUnavailable(f"The variable {name} was not set when this process started.")
    return value


def _environment(name: str) -> str:
    return variable(name).reveal()


def _file(reference: str) -> str:
    """Below a listed folder, whatever links lead to: the path is looked at once it is real."""
    path = Path(reference).resolve()
    if not _is_in_a_folder(path):
        raise SourceUnavailable(f"The file {reference} is in no folder of SECRET_FOLDERS.")
    try:
        with path.open("rb") as file:
            return file.read(LONGEST_SECRET + 1).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceUnavailable(
            f"The file {reference} cannot be read: {type(error).__name__}."
        ) from None


def _is_in_a_folder(path: Path) -> bool:
    folders = [Path(folder).resolve() for folder in settings.SECRET_FOLDERS]
    return any(path.is_relative_to(folder) for folder in folders)


def _command(name: str) -> str:
    """A command that the settings list by name: absolute, without a shell, with an empty
    environment but PATH; what it said is kept while this process lives."""
    commands = settings.SECRET_COMMANDS
    if name not in commands:
        raise SourceUnavailable(f"The command {name} is not listed in SECRET_COMMANDS.")
    with _running:
        held = _ran.get(name)
        if held is None:
            held = _ran[name] = Secret(_output(name, commands[name]))
    return held.reveal()


def _output(name: str, arguments: list[str]) -> str:
    if not Path(arguments[0]).is_absolute():
        raise SourceUnavailable(f"The command {name} is no absolute path.")
    try:
        process = subprocess.Popen(  # noqa: S603  (the operator's own, from the settings, no shell)
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PATH": "/usr/local/bin:/usr/bin:/bin"},
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        raise SourceUnavailable(
            f"The command {name} cannot be run: {type(error).__name__}."
        ) from None
    # Whoever floods or stalls us is ended with all its children.
    timer = threading.Timer(COMMAND_SECONDS, _end, [process])
    timer.start()
    said = b""
    try:
        assert process.stdout is not None
        said = process.stdout.read(LONGEST_SECRET + 1)
        if len(said) > LONGEST_SECRET:
            _end(process)
        code = process.wait(COMMAND_SECONDS)
    except subprocess.TimeoutExpired:
        _end(process)
        code = process.wait()
    finally:
        timer.cancel()
        if process.stdout is not None:
            process.stdout.close()
    if code != 0 or len(said) > LONGEST_SECRET:
        raise SourceUnavailable(f"The command {name} failed, stalled or said too much.")
    try:
        return said.decode()
    except UnicodeDecodeError:
        raise SourceUnavailable(f"The command {name} said something that is no text.") from None


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _vault(reference: str) -> str:
    """HashiCorp Vault, KV version 2."""
    found = _VAULT.fullmatch(reference)
    if found is None or ".." in found["path"]:
        raise SourceUnavailable("A secret in Vault is named mount/path#field.")
    url = settings.HASHICORP_VAULT_URL.rstrip("/")
    token = _vault_token()
    if not url or not token:
        raise SourceUnavailable("Set HASHICORP_VAULT_URL and HASHICORP_VAULT_TOKEN.")
    headers = {"X-Vault-Token": token, "X-Vault-Request": "true", "Accept": "application/json"}
    if settings.HASHICORP_VAULT_NAMESPACE:
        headers["X-Vault-Namespace"] = settings.HASHICORP_VAULT_NAMESPACE
    address = f"{url}/v1/{found['mount']}/data/{quote(found['path'].strip('/'))}"
    try:
        authority = _authority()
        status, body = asyncio.run(_get(address, headers, authority))
    except ProviderError as error:
        raise SourceUnavailable(f"Vault cannot be reached: {error.message}") from None
    if status != 200:
        raise SourceUnavailable(f"Vault answered {status} for {found['mount']}/{found['path']}.")
    return _field(body, ("data", "data", found["field"]), reference)


def _vault_token() -> str:
    if not settings.HASHICORP_VAULT_TOKEN_FILE:
        return str(settings.HASHICORP_VAULT_TOKEN)
    try:
        return Path(settings.HASHICORP_VAULT_TOKEN_FILE).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        raise SourceUnavailable("HASHICORP_VAULT_TOKEN_FILE cannot be read.") from None


def _authority() -> str:
    if not settings.HASHICORP_VAULT_CA_FILE:
        return ""
    try:
        return Path(settings.HASHICORP_VAULT_CA_FILE).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        raise SourceUnavailable("HASHICORP_VAULT_CA_FILE cannot be read.") from None


async def _get(url: str, headers: dict[str, str], authority: str) -> tuple[int, bytes]:
    clients = ClientPool(allowed=settings.UPSTREAM_ALLOWED_NETWORKS)
    try:
        client = clients.of("platform", authority)
        response = await client.send("GET", url, headers=headers, timeouts=_TIMEOUTS)
        try:
            return response.status, await response.read(LONGEST_SECRET * 4)
        finally:
            response.close()
    finally:
        await clients.close()


def _aws(reference: str) -> str:
    """AWS Secrets Manager, by the machine's own AWS identity."""
    found = _AWS.fullmatch(reference)
    if found is None:
        raise SourceUnavailable("A secret at AWS is named by its name or ARN, and #field.")
    # Imported where it is needed: it costs 100 ms and some 20 MB.
    import botocore.exceptions

    parts = found["name"].split(":")
    region = parts[3] if parts[0] == "arn" and len(parts) > 3 else settings.AWS_SECRETS_REGION
    try:
        text = aws_client(region).get_secret_value(SecretId=found["name"]).get("SecretString", "")
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
        raise SourceUnavailable(
            f"AWS Secrets Manager gave nothing for {found['name']}: {type(error).__name__}."
        ) from None
    if not found["field"]:
        return str(text)
    return _field(str(text).encode(), (found["field"],), reference)


def aws_client(region: str) -> Any:
    """Gives up after some seconds, and minds no proxy of the environment (bar N6)."""
    import botocore.config
    import botocore.session

    return botocore.session.Session().create_client(
        "secretsmanager",
        region_name=region or None,
        endpoint_url=settings.AWS_SECRETS_ENDPOINT_URL or None,
        config=botocore.config.Config(
            connect_timeout=_TIMEOUTS.connect_seconds,
            read_timeout=_TIMEOUTS.first_byte_seconds,
            retries={"total_max_attempts": 2, "mode": "standard"},
            proxies={},
        ),
    )


def _field(body: bytes, path: tuple[str, ...], reference: str) -> str:
    try:
        value: Any = json.loads_dict(body)
    except json.InvalidJSON:
        value = None
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    if not isinstance(value, str):
        raise SourceUnavailable(f"There is no text under {reference}.")
    return value


_READERS: Final = {
    Credential.Source.ENVIRONMENT: _environment,
    Credential.Source.FILE: _file,
    Credential.Source.COMMAND: _command,
    Credential.Source.VAULT_KV: _vault,
    Credential.Source.AWS_SECRETS: _aws,
}
