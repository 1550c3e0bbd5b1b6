"""What a login on its way remembers and nobody may see: sealed in its row, gone at its end."""

from __future__ import annotations

import msgspec

from controlplane.kit import json
from controlplane.kit.secret import Secret
from providers.oauth.flows.login import Login, frozen, thawed
from providers.oauth.models import DeviceLogin
from providers.oauth.ways import client_secret_of, settings_of
from tenants.vault import services as vault


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """`login` is the login as it was at the start, so that a change of the settings in the middle
    breaks nothing. `client` is a client's that registered itself. `tokens` come with the approval
    and wait for the person's confirmation."""

    login: str
    device_code: str = ""
    verifier: str = ""
    state: str = ""
    authorize_url: str = ""
    redirect_url: str = ""
    client: dict[str, str] = {}
    # What the issuer's own document told.
    discovered: dict[str, str] = {}
    tokens: str = ""
    # A set-up at the vendor that still runs.
    operation: str = ""
    endpoint: dict[str, str] = {}

    def __repr__(self) -> str:
        return "Memory(…)"

    __str__ = __repr__


def remember(row: DeviceLogin, memory: Memory) -> None:
    """Seals into the row; the caller writes it."""
    vault.seal_into(row, "sealed", Secret(json.dumps_str(msgspec.to_builtins(memory))))


def recall(row: DeviceLogin) -> Memory:
    return msgspec.convert(json.loads(vault.unseal_from(row, "sealed").reveal()), Memory)


def login_in(row: DeviceLogin, memory: Memory) -> Login:
    return thawed(memory.login, client_secret_of(settings_of(row.provider)))


def starting(login: Login) -> Memory:
    return Memory(login=frozen(login))
