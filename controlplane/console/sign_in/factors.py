"""Secrets of second factors: sealed in the vault, found by reference, gone with the factor."""

from __future__ import annotations

import uuid
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from allauth.core import context
from allauth.mfa.models import Authenticator
from django.contrib.auth.base_user import AbstractBaseUser
from django.db import transaction

from controlplane.console.sign_in.caller import caller_address
from controlplane.console.sign_in.models import SealedFactor
from controlplane.kit.secret import Secret
from tenants.audit import services as audit
from tenants.audit.actor import acting_as
from tenants.vault import services as vault

_REFERENCES = ("secret", "seed")


def seal_factor(*, user: AbstractBaseUser, text: str) -> uuid.UUID:
    row = SealedFactor(user_id=user.pk)
    vault.seal_into(row, "sealed", Secret(text))
    row.save(force_insert=True)
    return row.pk


def unseal_factor(row_id: uuid.UUID) -> str:
    return vault.unseal_from(SealedFactor.objects.get(pk=row_id), "sealed").reveal()


def on_factor_saved(instance: Authenticator, created: bool, **_signal: Any) -> None:
    if created:
        _record("user.factor_added", instance)


def on_factor_deleted(instance: Authenticator, **_signal: Any) -> None:
    references = [instance.data[name] for name in _REFERENCES if name in instance.data]
    with transaction.atomic():
        SealedFactor.objects.filter(pk__in=references).delete()
        _record("user.factor_removed", instance)


def _record(action: str, factor: Authenticator) -> None:
    # The library offers no hook inside its transaction; the rows' own signals are inside it.
    with _whoever_asks(), transaction.atomic():
        audit.record(
            tenant_id=None,
            action=action,
            target=factor.user,
            after={"factor": factor.get_type_display()},
        )


def _whoever_asks() -> AbstractContextManager[Any]:
    """The person signed in; outside a request, whoever acts there."""
    request = context.request
    if request is None or not request.user.is_authenticated:
        return nullcontext()
    return acting_as("user", request.user.pk, request.user.email, caller_address(request))
