"""Taking over a login that another program made: proven by one renewal, confirmed as any other."""

from __future__ import annotations

from datetime import datetime

import msgspec
from django.db import transaction

from providers.catalog.models import Provider
from providers.errors import ProviderError
from providers.oauth import asking
from providers.oauth.ending import close
from providers.oauth.errors import BadPastedCode
from providers.oauth.flows import accounts, tokens
from providers.oauth.flows.accounts import Account
from providers.oauth.flows.kiro_file import BadFile, read_file
from providers.oauth.flows.outcomes import Ended, Transient
from providers.oauth.identity import identified
from providers.oauth.memory import remember, starting
from providers.oauth.models import DeviceLogin
from providers.oauth.polling import CONFIRM_WITHIN
from providers.oauth.services import check_sharing, reserve
from providers.oauth.ways import login_of, switched_on
from tenants.members.models import Tenant, User

Status = DeviceLogin.Status


def import_kiro(
    *,
    user: User,
    tenant: Tenant | None,
    provider: Provider,
    token_file: str,
    client_file: str = "",
    is_personal: bool = True,
    address: str = "",
    now: datetime,
) -> DeviceLogin:
    """A login in the state `confirm`, or `error` with the reason. Raises BadPastedCode for files
    that are none, and what `begin` raises. In the scope of `tenant`."""
    row = switched_on(provider)
    check_sharing(row, tenant, is_personal=is_personal)
    read = read_file(token_file, client_file, now)
    if isinstance(read, BadFile):
        raise BadPastedCode(read.sentence, param="token_file")
    login = login_of(provider, row, read.way, read.endpoint)
    started = reserve(
        user=user,
        tenant=tenant,
        provider=provider,
        login=login,
        inputs={k: v for k, v in read.endpoint.items() if k != "profile_arn"},
        is_personal=is_personal,
        renews=None,
        address=address,
        now=now,
    )
    # It works, or it is worth nothing: what the file says of its own end may be old.
    try:
        reply = asking.ask(provider, tokens.refresh_ask(login, read.tokens))
        renewed = tokens.read_refresh(login, read.tokens, reply, now)
    except ProviderError as error:
        renewed = tokens.RenewFailed("transient", "provider_unreachable", error.message)
    if isinstance(renewed, tokens.RenewFailed):
        code = "import_dead" if renewed.kind == "dead" else "provider_unreachable"
        close(started, Status.ERROR, code=code, detail=renewed.sentence, now=now)
        started.refresh_from_db()
        return started
    endpoint = {
        name: value
        for name, value in {**read.endpoint, **renewed.endpoint}.items()
        if name == "profile_arn"
    }
    account = identified(
        provider, login, renewed.tokens, Account(label=read.label, endpoint=endpoint)
    )
    match account:
        case Ended():
            close(started, Status.ERROR, code=account.code, detail=account.detail, now=now)
            started.refresh_from_db()
            return started
        case Transient():
            code = "provider_unreachable"
            close(started, Status.ERROR, code=code, detail=account.sentence, now=now)
            started.refresh_from_db()
            return started
    memory = msgspec.structs.replace(
        starting(login), tokens=tokens.packed(renewed.tokens), endpoint=account.endpoint
    )
    with transaction.atomic():
        remember(started, memory)
        DeviceLogin.objects.filter(pk=started.pk, status=Status.CREATED).update(
            status=Status.CONFIRM,
            sealed=started.sealed,
            is_pasted=True,
            expires_at=now + CONFIRM_WITHIN,
            account_id=account.id[:200],
            account_label=(account.label or accounts.nameless(renewed.tokens))[:200],
            plan=account.plan[:80],
        )
    started.refresh_from_db()
    return started
