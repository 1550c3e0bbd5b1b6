"""Accounts that were approved at the vendor and never confirmed here: forgotten, and ended there
too where the vendor has an address for that."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Final

import msgspec
from django.db.models import Q

from controlplane.kit.json import InvalidJSON
from providers.credentials.models import Credential
from providers.errors import ProviderError
from providers.oauth import asking
from providers.oauth.ending import close
from providers.oauth.flows import tokens
from providers.oauth.flows.login import at_addresses
from providers.oauth.flows.wire import Ask
from providers.oauth.memory import login_in, recall
from providers.oauth.models import DeviceLogin
from tenants import scope
from tenants.vault.errors import VaultError

Status = DeviceLogin.Status

JOB: Final = "login.forget"
# From the approval until the end these hold a token.
HOLDING: Final = (Status.APPROVED, Status.CONFIRM)


def forget(login: DeviceLogin, status: str, *, code: str, now: datetime) -> bool:
    """Ends it here at once, then at the vendor. False: it holds no token any more. In the scope of
    its row; waits for the vendor."""
    question = _revocation(login)
    if not close(login, status, code=code, now=now, only_from=HOLDING):
        return False
    if question is not None:
        try:
            asking.ask(login.provider, question)
        except ProviderError:
            # Gone here it is; at the vendor it ends by itself, or in the account's own settings.
            return True
    return True


def forget_unconfirmed(login_id: uuid.UUID | str, *, now: datetime) -> None:
    """The job: its time to be confirmed is over. In the platform's scope."""
    row = (
        DeviceLogin.objects.select_related("provider")
        .filter(pk=login_id, status__in=HOLDING, expires_at__lte=now)
        .first()
    )
    if row is not None:
        forget(row, Status.EXPIRED, code="not_confirmed", now=now)


def _revocation(login: DeviceLogin) -> Ask | None:
    """None where nothing can be ended, or where it would end more than this: some vendors end every
    sign-in of an account together, so one that serves here already is left alone."""
    row = DeviceLogin.objects.select_related("provider").filter(pk=login.pk).first()
    if row is None or row.status not in HOLDING or not row.sealed or not row.account_id:
        return None
    if _serves_already(row):
        return None
    try:
        memory = recall(row)
        held = tokens.unpacked(memory.tokens)
        ready = at_addresses(login_in(row, memory), held.addresses)
    except (ProviderError, VaultError, InvalidJSON, msgspec.ValidationError):
        # What cannot be read cannot be ended there; here it ends all the same.
        return None
    return tokens.revoke_ask(ready, held)


def _serves_already(row: DeviceLogin) -> bool:
    catalog_id = row.provider.catalog_id
    same = Q(provider=row.provider_id)
    if catalog_id:
        same |= Q(provider__catalog_id=catalog_id)
    with scope.platform("whether an account serves anybody"):
        rows = Credential.objects.filter(same, kind=Credential.Kind.OAUTH)
        return bool(rows.filter(account_id=row.account_id).exists())
