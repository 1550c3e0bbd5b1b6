"""Signing in at a vendor, from the first click to a credential. Each step is one conditional
write that decides; the vendor is asked between them, never inside a transaction."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from django.db import transaction
from django.db.models import F, QuerySet

from controlplane.kit.jobs.services import enqueue
from controlplane.kit.secret import Secret
from providers.catalog.models import Provider
from providers.credentials import timeline
from providers.credentials.models import Credential
from providers.errors import ProviderError
from providers.oauth import asking
from providers.oauth.conversation import start_device
from providers.oauth.ending import close, not_open
from providers.oauth.errors import (
    BadPastedCode,
    LoginClosed,
    SharingForbidden,
    TooManyLogins,
)
from providers.oauth.flows import pace, paste, tokens
from providers.oauth.flows.login import Login, at_addresses
from providers.oauth.flows.outcomes import Ended, Shown
from providers.oauth.flows.wire import Ask
from providers.oauth.forgetting import forget
from providers.oauth.memory import Memory, login_in, recall, remember, starting
from providers.oauth.models import DeviceLogin, LoginSettings
from providers.oauth.polling import exchange_code
from providers.oauth.ways import login_of, settings_of, switched_on
from tenants import scope
from tenants.audit.services import record
from tenants.members.models import Tenant, User
from tenants.revisions.services import bump
from tenants.vault import services as vault

Status = DeviceLogin.Status

MAX_OPEN: Final = 5
MAX_STARTS_PER_HOUR: Final = 10
POLL_JOB: Final = "login.poll"
CLIENT_NAME: Final = "Provider Control Plane"


def begin(
    *,
    user: User,
    tenant: Tenant | None,
    provider: Provider,
    way: str,
    inputs: Mapping[str, str] | None = None,
    is_personal: bool = True,
    renews: Credential | None = None,
    address: str = "",
    callback_url: str = "",
    now: datetime,
) -> DeviceLogin:
    """Starts a login and asks the vendor for its code: the row is `pending`, or `error` with the
    reason. Whether the user may is decided by `access_login_target`. In the scope of `tenant`
    (None = the platform's). Raises LoginsOff, UnknownWay, IdentifierError, BadLoginSettings,
    SharingForbidden, TooManyLogins."""
    row = switched_on(provider)
    check_sharing(row, tenant, is_personal=is_personal)
    login = login_of(provider, row, way, inputs or {})
    started = reserve(
        user=user,
        tenant=tenant,
        provider=provider,
        login=login,
        inputs={k: v for k, v in (inputs or {}).items() if v},
        is_personal=is_personal,
        renews=renews,
        address=address,
        now=now,
    )
    memory = starting(login)
    if login.oauth.flow in ("pkce", "key_exchange"):
        return _show_browser(started, login, memory, callback_url)
    shown, memory = start_device(provider, login, memory, CLIENT_NAME)
    if isinstance(shown, Ended):
        close(started, shown.status, code=shown.code, detail=shown.detail, now=now)
        started.refresh_from_db()
        return started
    return _show_code(started, shown, memory, now)


def check_sharing(row: LoginSettings, tenant: Tenant | None, *, is_personal: bool) -> None:
    if row.permits(is_personal=is_personal, is_platforms=tenant is None):
        return
    whom = "sharing it among tenants" if tenant is None else "sharing it"
    raise SharingForbidden(
        f"Only who signs in may use this login: the operator has not recorded that the vendor "
        f"permits {whom}.",
        param="is_personal",
    )


@transaction.atomic
def reserve(
    *,
    user: User,
    tenant: Tenant | None,
    provider: Provider,
    login: Login,
    inputs: dict[str, str],
    is_personal: bool,
    renews: Credential | None,
    address: str,
    now: datetime,
) -> DeviceLogin:
    # One start of a person at a time, so that both limits are exact.
    User.objects.select_for_update().get(pk=user.pk)
    with scope.platform("count a person's logins"):
        mine = DeviceLogin.objects.filter(started_by=user)
        former = list(mine.open().filter(tenant=tenant, provider=provider))
        still_open = mine.open().exclude(pk__in=[row.pk for row in former]).count()
        started = mine.filter(created_at__gt=now - timedelta(hours=1)).count()
    if still_open >= MAX_OPEN:
        raise TooManyLogins(
            f"You have {MAX_OPEN} sign-ins open: finish or cancel one first.",
        )
    if started >= MAX_STARTS_PER_HOUR:
        raise TooManyLogins(
            f"You started {MAX_STARTS_PER_HOUR} sign-ins within an hour: wait a little.",
            retry_after_seconds=600,
        )
    for old in former:
        # Nobody shall wonder which of two codes is the right one.
        close(old, Status.CANCELLED, code="replaced", now=now)
    row = DeviceLogin(
        tenant=tenant,
        provider=provider,
        started_by=user,
        started_from=address[:64],
        login=login.name,
        is_personal=is_personal,
        inputs=inputs,
        renews=renews,
        created_at=now,
        expires_at=now + timedelta(seconds=login.oauth.lifetime_seconds),
    )
    row.save(force_insert=True)
    record(
        tenant_id=row.tenant_id,
        action="login.started",
        target=row,
        after={"provider": provider.slug, "login": login.name, "is_personal": is_personal},
    )
    return row


@transaction.atomic
def _show_code(row: DeviceLogin, shown: Shown, memory: Memory, now: datetime) -> DeviceLogin:
    remember(row, memory)
    due = pace.next_poll(now, shown.interval_seconds)
    moved = DeviceLogin.objects.filter(pk=row.pk, status=Status.CREATED).update(
        status=Status.PENDING,
        sealed=row.sealed,
        user_code=shown.user_code,
        verification_uri=shown.verification_uri[:500],
        verification_uri_complete=shown.verification_uri_complete[:500],
        interval_seconds=shown.interval_seconds,
        expires_at=now + timedelta(seconds=shown.expires_in_seconds),
        next_poll_at=due,
    )
    if moved:
        enqueue(kind=POLL_JOB, key=str(row.pk), args={"login_id": row.pk}, due_at=due)
    row.refresh_from_db()
    return row


@transaction.atomic
def _show_browser(row: DeviceLogin, login: Login, memory: Memory, callback_url: str) -> DeviceLogin:
    verifier, state = secrets.token_urlsafe(64), secrets.token_urlsafe(32)
    redirect = callback_url if login.oauth.flow == "key_exchange" else login.oauth.redirect_url
    url = paste.authorize_url(login, verifier=verifier, state=state, redirect_url=redirect)
    remember(
        row,
        msgspec.structs.replace(
            memory, verifier=verifier, state=state, authorize_url=url, redirect_url=redirect
        ),
    )
    DeviceLogin.objects.filter(pk=row.pk, status=Status.CREATED).update(
        status=Status.PENDING, sealed=row.sealed, is_pasted=True
    )
    row.refresh_from_db()
    return row


def authorize_url(login: DeviceLogin) -> str:
    """Where the person goes to sign in, for logins that end in a pasted code; empty otherwise."""
    if not login.is_pasted or login.status != Status.PENDING:
        return ""
    return recall(login).authorize_url


def hand_in(login: DeviceLogin, pasted: str, *, now: datetime) -> DeviceLogin:
    """What the vendor's last page showed. Raises BadPastedCode, LoginClosed. In its scope."""
    if not login.is_open or login.expires_at <= now:
        raise not_open(login)
    if not login.is_pasted or login.status != Status.PENDING:
        raise LoginClosed("This sign-in needs no code to be pasted.")
    memory = recall(login)
    read = paste.read_paste(pasted, state=memory.state)
    if isinstance(read, paste.BadPaste):
        raise BadPastedCode(read.sentence, param="code")
    # Codes work once: two clicks must not hand it in twice.
    taken = DeviceLogin.objects.filter(
        pk=login.pk, status=Status.PENDING, generation=login.generation
    ).update(generation=F("generation") + 1)
    if not taken:
        raise LoginClosed("This code was handed in already.")
    login.refresh_from_db()
    due = exchange_code(login, memory, read.code)
    login.refresh_from_db()
    if due is not None:
        with transaction.atomic():
            enqueue(kind=POLL_JOB, key=str(login.pk), args={"login_id": login.pk}, due_at=due)
    return login


def cancel(login: DeviceLogin, *, now: datetime) -> bool:
    """Ends it, whatever the vendor says later; a token that is here already is ended there too.
    False: it had ended. In its scope."""
    if forget(login, Status.CANCELLED, code="cancelled", now=now):
        return True
    return close(login, Status.CANCELLED, code="cancelled", now=now)


@transaction.atomic
def confirm(login: DeviceLogin, *, now: datetime) -> Credential:
    """The person says that the account is the right one: from now on the credential serves.
    Raises LoginClosed, LoginsOff, SharingForbidden. In its scope."""
    # Read before the row is closed, for closing wipes it.
    current = DeviceLogin.objects.select_related("provider", "tenant").get(pk=login.pk)
    if current.status != Status.CONFIRM or current.expires_at <= now:
        raise not_open(current)
    check_sharing(switched_on(current.provider), current.tenant, is_personal=current.is_personal)
    memory = recall(current)
    fresh = tokens.unpacked(memory.tokens)
    ready = login_in(current, memory)
    if not close(current, Status.COMPLETED, now=now, only_from=(Status.CONFIRM,)):
        raise not_open(current)
    credential = _credential_for(current)
    _fill(credential, current, ready, memory, fresh, now)
    DeviceLogin.objects.filter(pk=current.pk).update(credential=credential)
    timeline.note(
        credential, "issued", f"{current.account_label} signed in by {current.login}.", now=now
    )
    record(
        tenant_id=credential.tenant_id,
        action="login.completed",
        target=credential,
        after={
            "provider": current.provider.slug,
            "login": current.login,
            "account": current.account_label,
            "is_personal": credential.is_personal,
        },
    )
    bump("registrations")
    return credential


def _credential_for(login: DeviceLogin) -> Credential:
    """The one that is signed in again, or that holds this account for this owner, or a new one."""
    same: QuerySet[Credential] = Credential.objects.select_for_update().filter(
        provider_id=login.provider_id, tenant_id=login.tenant_id, kind=Credential.Kind.OAUTH
    )
    if login.renews_id is not None:
        found = same.filter(pk=login.renews_id).first()
        if found is not None and found.account_id in ("", login.account_id):
            return found
    if login.account_id:
        whose = {"owner_id": login.started_by_id} if login.is_personal else {}
        found = same.filter(
            account_id=login.account_id, is_personal=login.is_personal, **whose
        ).first()
        if found is not None:
            return found
    return Credential(
        provider_id=login.provider_id,
        tenant_id=login.tenant_id,
        label=_free_label(login),
        kind=Credential.Kind.OAUTH,
    )


def _free_label(login: DeviceLogin) -> str:
    """Labels are one registration's, whoever's its credentials are."""
    with scope.platform("find a free label"):
        taken = set(
            Credential.objects.filter(provider_id=login.provider_id).values_list("label", flat=True)
        )
    wanted = login.account_label[:100] or login.login
    number = 2
    label = wanted
    while label in taken:
        label, number = f"{wanted} ({number})", number + 1
    return label


def _fill(
    credential: Credential,
    login: DeviceLogin,
    ready: Login,
    memory: Memory,
    fresh: tokens.Tokens,
    now: datetime,
) -> None:
    packed = Secret(tokens.packed(fresh))
    is_new = credential._state.adding
    vault.seal_into(credential, "sealed", packed)
    credential.fingerprint = vault.fingerprint(Secret(fresh.base_token or fresh.access_token))
    credential.owner_id = login.started_by_id
    credential.is_personal = login.is_personal
    credential.login = login.login
    credential.account_id = login.account_id
    credential.account_label = login.account_label
    credential.plan = login.plan
    credential.endpoint = {**credential.endpoint, **memory.endpoint, **login.inputs}
    credential.state = Credential.State.ACTIVE
    credential.state_reason = ""
    credential.state_since = now
    credential.expires_at = tokens.when(fresh.expires_at)
    credential.refresh_at = tokens.refresh_at(
        fresh, ready.oauth.refresh_lead_seconds, secrets.randbelow(1000) / 1000
    )
    credential.generation = credential.generation + 1
    credential.refreshed_at = now
    credential.refresh_tried_at = None
    credential.refresh_failures = 0
    credential.refresh_owner = ""
    credential.refresh_until = None
    credential.is_refresh_uncertain = False
    if not is_new:
        credential.version += 1
        credential.updated_at = now
    credential.save(force_insert=is_new)


def disconnect(credential: Credential) -> bool:
    """The login is forgotten here at once, and then ended at the vendor where it has an address
    for that. False: only here; the vendor did not answer or has no such address. In its scope."""
    question = _revocation(credential)
    provider = credential.provider
    with transaction.atomic():
        record(
            tenant_id=credential.tenant_id,
            action="login.disconnected",
            target=credential,
            before={"provider": provider.slug, "account": credential.account_label},
        )
        credential.delete()
        bump("registrations")
    if question is None:
        return False
    try:
        return asking.ask(provider, question, credential).status < 400
    except ProviderError:
        # Gone here it is; the person can also end it in the account's own settings.
        return False


def _revocation(credential: Credential) -> Ask | None:
    """What to tell the vendor; None where it cannot be told."""
    row = settings_of(credential.provider)
    if row is None or not credential.sealed:
        return None
    try:
        held = tokens.unpacked(vault.unseal_from(credential, "sealed").reveal())
        login = login_of(credential.provider, row, credential.login, credential.endpoint)
    except (ProviderError, msgspec.ValidationError):
        return None
    return tokens.revoke_ask(at_addresses(login, held.addresses), held)


def start_again(
    login: DeviceLogin, *, user: User, address: str = "", callback_url: str = "", now: datetime
) -> DeviceLogin:
    """The same once more, with a new code. Raises as `begin` does."""
    return begin(
        user=user,
        tenant=login.tenant,
        provider=login.provider,
        way=login.login,
        inputs=login.inputs,
        is_personal=login.is_personal,
        renews=login.renews,
        address=address,
        callback_url=callback_url,
        now=now,
    )


def open_logins(user: User) -> list[DeviceLogin]:
    with scope.platform("a person's own logins"):
        rows: Any = DeviceLogin.objects.open().filter(started_by=user).select_related("provider")
        return list(rows.order_by("-created_at"))
