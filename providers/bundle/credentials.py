"""The part of a bundle that names credentials. They are made and changed, never taken away: a file
without secrets must not be able to lose one."""

from __future__ import annotations

from typing import Any, Final

from django.core.exceptions import ValidationError
from django.db import transaction

from controlplane.kit import clock
from controlplane.kit.secret import Secret
from providers.bundle.document import CredentialEntry, ProviderEntry
from providers.bundle.notes import Notes
from providers.bundle.secrets import Secrets
from providers.catalog.models import Provider
from providers.credentials.models import Credential
from providers.credentials.services import add_credential, change_credential, check_proxy_of
from tenants.audit.services import record
from tenants.revisions.services import bump
from tenants.vault import services as vault

_COMPARED: Final = ("reference", "endpoint", "proxy_url", "priority", "weight")
_WAITING: Final = "A registry bundle named it; bundles carry no secrets. Store the secret."
_LOGIN: Final = "A registry bundle named it; bundles carry no secrets. Sign in again."


class Credentials:
    def __init__(self, secrets: Secrets, notes: Notes) -> None:
        self._secrets = secrets
        self._notes = notes

    def settle(self, entry: ProviderEntry, provider: Provider) -> None:
        place = (entry.tenant, entry.slug)
        rows = {row.label: row for row in provider.credentials.all()}
        for wanted in entry.credentials:
            secret = self._secrets.keys.get((place, wanted.label))
            name = f"{provider.slug}/{wanted.label}"
            if entry.tenant:
                name = f"{entry.tenant}:{name}"
            row = rows.get(wanted.label)
            if row is None:
                row = self._create(wanted, provider, secret, name)
            else:
                self._change(wanted, row, secret, name)
            if row.source == Credential.Source.STORED and not row.sealed:
                self._notes.note(
                    f"The credential {wanted.label!r} waits for its "
                    f"{'login' if row.kind == Credential.Kind.OAUTH else 'secret'}: requests do "
                    "not use it until then."
                )

    def _create(
        self, wanted: CredentialEntry, provider: Provider, secret: Secret | None, name: str
    ) -> Credential:
        values: dict[str, Any] = {field: getattr(wanted, field) for field in _COMPARED}
        if secret is None and wanted.source == Credential.Source.STORED:
            row = expect_credential(wanted, provider)
        else:
            row = add_credential(
                provider=provider,
                label=wanted.label,
                secret=secret,
                source=wanted.source,
                kind=wanted.kind or None,
                **values,
            )
        after = {"kind": row.kind, "source": row.source}
        after |= {field: value for field, value in values.items() if value}
        if row.fingerprint:
            after["fingerprint"] = row.fingerprint
        self._notes.step("create", "credential", name, after=after)
        return row

    def _change(
        self, wanted: CredentialEntry, row: Credential, secret: Secret | None, name: str
    ) -> None:
        if wanted.source != row.source or wanted.kind not in {"", row.kind}:
            raise ValidationError(
                f"The credential {row.label!r} is of another kind or source here: remove it first, "
                "or give the one in the file another label."
            )
        before: dict[str, Any] = {
            field: getattr(row, field)
            for field in _COMPARED
            if getattr(row, field) != getattr(wanted, field)
        }
        after: dict[str, Any] = {field: getattr(wanted, field) for field in before}
        is_other = secret is not None and vault.fingerprint(secret) != row.fingerprint
        if not before and not is_other:
            return
        fingerprint = row.fingerprint
        # Whoever changes the proxy gives the secret again, though it is the same.
        is_needed = is_other or "proxy_url" in after
        change_credential(row, secret=secret if is_needed else None, **after)
        if is_other:
            before["fingerprint"], after["fingerprint"] = fingerprint, row.fingerprint
        self._notes.step("change", "credential", name, before=before, after=after)


@transaction.atomic
def expect_credential(wanted: CredentialEntry, provider: Provider) -> Credential:
    """The place of a secret that is to come: no request uses it before."""
    kind = wanted.kind or Credential.Kind.KEY
    row = Credential(
        provider=provider,
        tenant_id=provider.tenant_id,
        label=wanted.label,
        kind=kind,
        source=wanted.source,
        reference=wanted.reference,
        endpoint=wanted.endpoint,
        proxy_url=wanted.proxy_url,
        priority=wanted.priority,
        weight=wanted.weight,
        state=Credential.State.NEEDS_LOGIN,
        state_reason=_LOGIN if kind == Credential.Kind.OAUTH else _WAITING,
        state_since=clock.now(),
    )
    row.full_clean(
        exclude=["tenant", "provider"], validate_unique=False, validate_constraints=False
    )
    if row.reference:
        raise ValidationError("A reference belongs to secrets that are kept elsewhere.")
    check_proxy_of(row)
    row.save(force_insert=True)
    record(
        tenant_id=provider.tenant_id,
        action="credential.expected",
        target=row,
        after={"provider": provider.slug, "label": row.label, "kind": row.kind},
    )
    bump("registrations")
    return row
