"""What may be done with credentials: whole, audited, seen by every gateway within a second.

A secret goes in and never comes out here: what can be read is its fingerprint.
"""

from __future__ import annotations

import re
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import F

from controlplane.kit import clock
from controlplane.kit.errors import FaultKind
from controlplane.kit.secret import Secret
from providers.catalog.destinations import SecretNeededAgain, check_proxy, destinations
from providers.catalog.effective import ProviderRegistrationError
from providers.catalog.loader import catalog
from providers.catalog.models import Provider
from providers.catalog.urls import endpoint_of
from providers.catalog.validators import check_shapes, valid_endpoint
from providers.credentials import alerts, timeline
from providers.credentials.models import Credential
from providers.credentials.pick import DIRECT, proxy_of
from providers.errors import ProviderError
from tenants.audit.services import record
from tenants.errors import StaleVersion
from tenants.revisions.services import bump
from tenants.vault import services as vault

EDITABLE: Final = (
    *("label", "priority", "weight", "endpoint", "source", "reference", "proxy_url"),
)
LONGEST_SECRET: Final = 65_536

_KINDS: Final = {"aws": Credential.Kind.AWS, "gcp_adc": Credential.Kind.GOOGLE}
_VARIABLE: Final = re.compile(r"[A-Z][A-Z0-9_]{0,99}\Z")


class LabelTaken(ProviderError):
    kind = FaultKind.CONFLICT
    code = "label_taken"


class BadCredential(ProviderError):
    kind = FaultKind.BAD_REQUEST
    code = "bad_credential"


@transaction.atomic
def store_key(*, provider: Provider, label: str, secret: Secret, **values: Any) -> Credential:
    """Seals a key for a registration; one of the same label is replaced."""
    _hold(provider)
    credential = Credential.objects.filter(provider=provider, label=label).first()
    is_new = credential is None
    if credential is None:
        credential = Credential(provider=provider, tenant_id=provider.tenant_id, label=label)
    for name, value in values.items():
        setattr(credential, name, value)
    _seal(credential, secret)
    _check(credential)
    if not is_new:
        credential.version += 1
        credential.updated_at = clock.now()
    credential.save()
    _note(credential, "issued", "Stored." if is_new else "A new secret is stored.")
    record(
        tenant_id=provider.tenant_id,
        action="credential.stored" if is_new else "credential.replaced",
        target=credential,
        after={"label": label, "provider": provider.slug, "fingerprint": credential.fingerprint},
    )
    bump("registrations")
    return credential


@transaction.atomic
def add_credential(
    *,
    provider: Provider,
    label: str,
    secret: Secret | None = None,
    source: str = Credential.Source.STORED,
    reference: str = "",
    **values: Any,
) -> Credential:
    """One more credential of a registration: a secret to seal, or for the platform's the name of
    where it is. Raises LabelTaken, BadCredential, ProviderRegistrationError, ValidationError."""
    _hold(provider)
    credential = Credential(
        provider=provider,
        tenant_id=provider.tenant_id,
        label=label,
        kind=values.pop("kind", None) or _kind_of(provider),
        source=source,
        reference=reference,
        state_since=clock.now(),
        **values,
    )
    if source == Credential.Source.STORED:
        if not secret:
            raise BadCredential("Give the secret to store.", param="secret")
        _seal(credential, secret)
    elif secret:
        raise BadCredential(
            "A secret is stored only with the source 'stored': leave one of the two out.",
            param="secret",
        )
    _check(credential)
    _save_new(credential)
    _note(credential, "issued", "Stored.")
    record(
        tenant_id=provider.tenant_id,
        action="credential.stored",
        target=credential,
        after={"provider": provider.slug, **_shown(credential)},
    )
    bump("registrations")
    return credential


@transaction.atomic
def change_credential(
    credential: Credential,
    *,
    expected_version: int | None = None,
    secret: Secret | None = None,
    **values: Any,
) -> Credential:
    """Changes what is known of a credential; with `secret`, what it holds, and with `source`, where
    that is: what was stored here before is then gone. A new secret makes a refused credential
    usable again. Raises StaleVersion and what `add_credential` raises."""
    unknown = sorted(values.keys() - set(EDITABLE))
    if unknown:
        raise TypeError(f"A credential has no {', '.join(unknown)}.")
    version = credential.version if expected_version is None else expected_version
    _hold(credential.provider)
    before = _shown(credential)
    changed = Credential.objects.select_related("provider").get(pk=credential.pk)
    proxy_before = proxy_of(changed.provider, changed)
    for name, value in values.items():
        setattr(changed, name, value)
    moves = changed.source != before["source"]
    if moves:
        _move(changed, has_secret=bool(secret))
    if secret:
        if changed.source != Credential.Source.STORED or changed.kind == Credential.Kind.OAUTH:
            raise BadCredential(
                "This credential's secret does not come from here: remove it and store a key.",
                param="secret",
            )
        _seal(changed, secret)
    _check(changed)
    if not secret and proxy_of(changed.provider, changed) not in ("", proxy_before):
        _require_secret_again(changed)
    written = [*EDITABLE]
    if secret or moves:
        written += ["sealed", "fingerprint", "state", "state_reason", "state_since"]
    try:
        with transaction.atomic():
            moved = Credential.objects.filter(pk=credential.pk, version=version).update(
                **{name: getattr(changed, name) for name in written},
                version=F("version") + 1,
                updated_at=clock.now(),
            )
    except IntegrityError:
        raise _taken(changed) from None
    if not moved:
        raise StaleVersion("Somebody else changed this credential: load it again.")
    if secret:
        _note(changed, "issued", "A new secret is stored.")
    after = _shown(changed)
    differs = [name for name in before if before[name] != after[name]]
    record(
        tenant_id=credential.tenant_id,
        action="credential.replaced" if secret else "credential.changed",
        target=changed,
        before={name: before[name] for name in differs},
        after={"provider": changed.provider.slug, **{name: after[name] for name in differs}},
    )
    bump("registrations")
    credential.refresh_from_db()
    return credential


def disable_credential(credential: Credential) -> bool:
    """No request uses it from now on. False: it was so already."""
    return _set_state(credential, Credential.State.DISABLED, "credential.disabled")


def enable_credential(credential: Credential) -> bool:
    """Requests may use it again, whatever had stopped them. False: it was so already."""
    return _set_state(credential, Credential.State.ACTIVE, "credential.enabled")


@transaction.atomic
def refuse_credential(credential_id: str, *, version: int, reason: str) -> bool:
    """The provider does not take it any more: nobody uses it until somebody renews it. False: it
    was changed since that `version`, is not in use, or is a login, which is renewed first."""
    credential = Credential.objects.select_related("provider").filter(pk=credential_id).first()
    usable = (Credential.State.ACTIVE, Credential.State.EXPIRING, Credential.State.COOLING)
    moved = (
        Credential.objects.filter(pk=credential_id, version=version, state__in=usable)
        .exclude(kind=Credential.Kind.OAUTH)
        .update(
            state=Credential.State.NEEDS_LOGIN,
            state_reason=reason[:500],
            state_since=clock.now(),
            version=F("version") + 1,
            updated_at=clock.now(),
        )
    )
    if not moved or credential is None:
        return False
    record(
        tenant_id=credential.tenant_id,
        action="credential.refused",
        target=credential,
        before={"state": credential.state},
        after={"state": Credential.State.NEEDS_LOGIN, "reason": reason[:500]},
    )
    credential.state = Credential.State.NEEDS_LOGIN
    _note(credential, "refused", reason)
    alerts.stopped(credential, Credential.State.NEEDS_LOGIN, reason, now=clock.now())
    bump("registrations")
    return True


@transaction.atomic
def remove_credential(credential: Credential) -> None:
    record(
        tenant_id=credential.tenant_id,
        action="credential.removed",
        target=credential,
        before={"provider": credential.provider.slug, **_shown(credential)},
    )
    credential.delete()
    bump("registrations")


@transaction.atomic
def _set_state(credential: Credential, state: str, action: str) -> bool:
    before = credential.state
    moved = (
        Credential.objects.filter(pk=credential.pk)
        .exclude(state=state)
        .update(
            state=state,
            state_reason="",
            state_since=clock.now(),
            version=F("version") + 1,
            updated_at=clock.now(),
        )
    )
    if moved:
        record(
            tenant_id=credential.tenant_id,
            action=action,
            target=credential,
            before={"state": before},
            after={"state": state},
        )
        bump("registrations")
        credential.refresh_from_db()
        _note(credential, "state", f"Now {Credential.State.of(state).label.lower()}.")
    return bool(moved)


def _note(credential: Credential, kind: str, sentence: str) -> None:
    timeline.note(credential, kind, sentence, now=clock.now())


def _hold(provider: Provider) -> None:
    """Until the end of the transaction nobody changes where this registration points."""
    Provider.objects.select_for_update().filter(pk=provider.pk).first()


def _seal(credential: Credential, secret: Secret) -> None:
    text = secret.reveal()
    if not text.strip() or len(text) > LONGEST_SECRET:
        raise BadCredential(
            f"A secret has 1 to {LONGEST_SECRET} characters, not only spaces.", param="secret"
        )
    # A key is sent as a header; what cannot stand in one would fail at each request.
    is_key = credential.kind == Credential.Kind.KEY
    if is_key and not (text.isascii() and text.isprintable()):
        raise BadCredential(
            "A key is one line of visible ASCII characters: copy it again, without line breaks.",
            param="secret",
        )
    vault.seal_into(credential, "sealed", secret)
    credential.fingerprint = vault.fingerprint(secret)
    credential.state = Credential.State.ACTIVE
    credential.state_reason = ""
    credential.state_since = clock.now()


def _move(credential: Credential, *, has_secret: bool) -> None:
    """Its secret will be somewhere else from now on."""
    if credential.kind == Credential.Kind.OAUTH:
        raise BadCredential("A login is kept here: it renews itself.", param="source")
    if credential.source == Credential.Source.STORED:
        credential.reference = ""
        if not has_secret:
            raise BadCredential("Give the secret to store.", param="secret")
        return
    credential.sealed, credential.fingerprint = None, ""
    credential.state, credential.state_reason = Credential.State.ACTIVE, ""
    credential.state_since = clock.now()


def _require_secret_again(credential: Credential) -> None:
    """Somebody comes in between who was not there when the secret was stored (bar C6). A login
    cannot be given again: what it sends must be closed to whoever passes it on."""
    if not credential.sealed:
        return
    if credential.kind != Credential.Kind.OAUTH:
        raise SecretNeededAgain(
            "The proxy changes: give the secret again in the same request, so that nobody can "
            "send it through one of their choice.",
            param="secret",
        )
    reached = destinations(credential.provider)
    is_closed = not reached.certificate and all(
        scheme == "https" for scheme, _, _ in reached.origins or [("", "", 0)]
    )
    if credential.provider.tenant_id is not None or not is_closed:
        raise BadCredential(
            "A login has a proxy of its own only at a registration of the platform that is "
            "reached by https with public certificates.",
            param="proxy_url",
        )


def check_proxy_of(credential: Credential) -> None:
    """Raises BadAddress."""
    if credential.proxy_url != DIRECT:
        check_proxy(credential.provider, credential.proxy_url)


def _check(credential: Credential) -> None:
    provider = credential.provider
    check_shapes(credential)
    credential.full_clean(
        exclude=["tenant", "provider"], validate_unique=False, validate_constraints=False
    )
    try:
        valid_endpoint(credential.endpoint)
    except ValidationError as error:
        raise ValidationError({"endpoint": error.messages}) from None
    check_proxy_of(credential)
    file = catalog().get(provider.catalog_id)
    if file is not None:
        declared = {*file.auth.identifiers, *file.endpoint}
        for name in credential.endpoint:
            if name not in declared:
                raise ProviderRegistrationError(
                    f"{file.id!r} has no identifier {name!r}.", param="endpoint"
                )
        endpoint_of(file.auth.identifiers, credential.endpoint)
    if credential.source == Credential.Source.STORED:
        if credential.reference:
            raise BadCredential(
                "A reference belongs to secrets that are kept elsewhere.", param="reference"
            )
        return
    if credential.tenant_id is not None:
        raise BadCredential(
            "A tenant's secrets are stored here, sealed: other sources are the operator's.",
            param="source",
        )
    if credential.source == Credential.Source.ENVIRONMENT:
        if not _VARIABLE.match(credential.reference):
            raise BadCredential(
                "Name the environment variable, such as OPENAI_API_KEY.", param="reference"
            )
    elif not credential.reference:
        raise BadCredential("Say where the secret is kept.", param="reference")


def _save_new(credential: Credential) -> None:
    try:
        with transaction.atomic():
            credential.save(force_insert=True)
    except IntegrityError:
        raise _taken(credential) from None


def _taken(credential: Credential) -> LabelTaken:
    return LabelTaken(
        f"This registration has a credential {credential.label!r} already.", param="label"
    )


def _kind_of(provider: Provider) -> str:
    file = catalog().get(provider.catalog_id)
    auth_type = provider.auth_type or (file.auth.type if file is not None else "")
    return _KINDS.get(auth_type, Credential.Kind.KEY)


def _shown(credential: Credential) -> dict[str, Any]:
    return {
        "label": credential.label,
        "kind": credential.kind,
        "source": credential.source,
        "reference": credential.reference,
        "fingerprint": credential.fingerprint,
        "endpoint": credential.endpoint,
        "proxy_url": credential.proxy_url,
        "priority": credential.priority,
        "weight": credential.weight,
        "state": credential.state,
    }
