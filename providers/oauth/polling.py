"""Asking a vendor whether the person is done: one question per run, at the vendor's pace.

A run first takes the row by one conditional write, so that two of them never ask together, and
writes what it heard only while the row is still its own: a login that was cancelled while the
answer was on its way stays cancelled, and the token in the answer is forgotten.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import msgspec
from django.db import transaction
from django.db.models import F

from controlplane.kit import clock
from controlplane.kit.json import JSONDict
from providers.errors import ProviderError
from providers.oauth import asking
from providers.oauth.ending import close
from providers.oauth.flows import accounts, code_assist, device, pace, paste, tokens
from providers.oauth.flows.accounts import Account
from providers.oauth.flows.login import Login
from providers.oauth.flows.outcomes import (
    Approved,
    Ended,
    Pending,
    PollOutcome,
    SlowDown,
    Transient,
)
from providers.oauth.flows.tokens import Tokens
from providers.oauth.identity import identified
from providers.oauth.memory import Memory, login_in, recall, remember
from providers.oauth.models import DeviceLogin
from providers.oauth.serving import made_ready

Status = DeviceLogin.Status

# Longer than a question may take, so that it cannot run out while one is on its way.
LEASE: Final = timedelta(seconds=60)
CONFIRM_WITHIN: Final = timedelta(minutes=15)


def poll(login_id: str) -> datetime | None:
    """One question, if it is time for one. When to run again; None = there is nothing more to
    ask. In the platform's scope."""
    now = clock.now()
    row = DeviceLogin.objects.select_related("provider").filter(pk=login_id).first()
    if row is None or not row.is_open:
        return None
    if row.status == Status.APPROVED:
        return _look_up(row)
    if row.status != Status.PENDING or row.is_pasted:
        return None
    if row.expires_at <= now:
        close(row, Status.EXPIRED, code="expired", now=now)
        return None
    if row.next_poll_at is not None and row.next_poll_at > now:
        return min(row.next_poll_at, row.expires_at)
    taken = (
        DeviceLogin.objects.due(now)
        .filter(pk=row.pk, generation=row.generation)
        .update(generation=F("generation") + 1, polling_until=now + LEASE)
    )
    if not taken:
        # Somebody else asks at this moment, or did until a moment ago.
        return now + timedelta(seconds=row.interval_seconds)
    row.generation += 1
    memory = recall(row)
    login = login_in(row, memory)
    outcome = _ask(row, login, memory)
    if isinstance(outcome, Approved):
        return _approve(row, login, memory, outcome.answer)
    return _note(row, outcome)


def _ask(row: DeviceLogin, login: Login, memory: Memory) -> PollOutcome:
    question = device.poll_ask(login, memory.client, memory.device_code, row.user_code)
    try:
        return device.read_poll(login, asking.ask(row.provider, question))
    except ProviderError as error:
        return Transient(error.message)


def _note(row: DeviceLogin, outcome: Pending | SlowDown | Transient | Ended) -> datetime | None:
    """Writes what was heard, while the row is still this run's own."""
    now = clock.now()
    if isinstance(outcome, Ended):
        close(
            row,
            outcome.status,
            code=outcome.code,
            detail=outcome.detail,
            now=now,
            only_from=(Status.PENDING,),
            generation=row.generation,
        )
        return None
    interval, slow_downs, failures, least = row.interval_seconds, row.slow_downs, 0, None
    if isinstance(outcome, SlowDown):
        interval = pace.slower(interval, outcome.interval_seconds)
        slow_downs += 1
    elif isinstance(outcome, Transient):
        failures, least = row.failures + 1, outcome.retry_after_seconds
    due = pace.next_poll(now, interval, failures=failures, least=least)
    moved = DeviceLogin.objects.filter(
        pk=row.pk, status=Status.PENDING, generation=row.generation
    ).update(
        interval_seconds=interval,
        slow_downs=slow_downs,
        failures=failures,
        polls=F("polls") + 1,
        next_poll_at=due,
        polling_until=None,
    )
    if not moved:
        return None
    # A question after the end is pointless: then the next run writes the end.
    return min(due, row.expires_at)


# --- approved ------------------------------------------------------------------------------------


def _approve(row: DeviceLogin, login: Login, memory: Memory, answer: JSONDict) -> datetime | None:
    """The person said yes. The token is written before anything else is asked: it comes once."""
    if login.dialect == "codex":
        # The vendor hands out a code and the verifier it made; the token comes for these.
        return exchange_code(
            row,
            msgspec.structs.replace(
                memory,
                verifier=str(answer.get("code_verifier", "")),
                redirect_url=login.oauth.redirect_url,
            ),
            str(answer["authorization_code"]),
        )
    return _keep(row, login, memory, answer, clock.now())


def exchange_code(row: DeviceLogin, memory: Memory, code: str) -> datetime | None:
    """An authorization code for tokens. It works once: whatever happens, it is not tried again."""
    login = login_in(row, memory)
    question = paste.exchange_ask(
        login,
        code=code,
        verifier=memory.verifier,
        state=memory.state,
        redirect_url=memory.redirect_url,
    )
    try:
        reply = asking.ask(row.provider, question)
    except ProviderError as error:
        close(row, Status.ERROR, code="saved_failed", detail=error.message, now=clock.now())
        return None
    answer = reply.object()
    if login.oauth.flow == "key_exchange" and answer.get("key"):
        answer = {**answer, "access_token": answer["key"]}
    error_code = device.error_of(reply, answer)
    if reply.status >= 400 or error_code:
        is_bad = error_code in ("invalid_grant", "")
        close(
            row,
            Status.ERROR,
            code="paste_again" if is_bad and row.is_pasted else "exchange_failed",
            detail=error_code or str(reply.status),
            now=clock.now(),
        )
        return None
    return _keep(row, login, memory, answer, clock.now())


def _keep(
    row: DeviceLogin, login: Login, memory: Memory, answer: JSONDict, now: datetime
) -> datetime | None:
    found = tokens.from_answer(answer, now)
    if found is None:
        close(
            row,
            Status.ERROR,
            code="no_token",
            now=now,
            only_from=(Status.PENDING,),
            generation=row.generation,
        )
        return None
    if memory.client:
        found = msgspec.structs.replace(
            found,
            client_id=memory.client["client_id"],
            client_secret=memory.client["client_secret"],
            client_expires_at=float(memory.client.get("client_expires_at", 0)),
        )
    if memory.discovered:
        found = msgspec.structs.replace(found, addresses=memory.discovered)
    account = accounts.from_grant(login, answer, found)
    if login.oauth.exchange_url:
        # What GitHub gave is kept; what is sent is made from it.
        found = msgspec.structs.replace(
            found, base_token=found.access_token, base_expires_at=found.expires_at
        )
    remember(
        row,
        msgspec.structs.replace(
            memory,
            device_code="",
            verifier="",
            tokens=tokens.packed(found),
            endpoint=account.endpoint,
        ),
    )
    with transaction.atomic():
        moved = DeviceLogin.objects.filter(
            pk=row.pk, status=Status.PENDING, generation=row.generation
        ).update(
            status=Status.APPROVED,
            sealed=row.sealed,
            user_code="",
            verification_uri="",
            verification_uri_complete="",
            polls=F("polls") + 1,
            polling_until=None,
            next_poll_at=now,
            expires_at=now + CONFIRM_WITHIN,
            account_id=account.id[:200],
            account_label=account.label[:200],
            plan=account.plan[:80],
        )
    if not moved:
        # Cancelled while the answer was on its way: the token dies with this frame.
        return None
    row.refresh_from_db()
    return _look_up(row)


def _look_up(row: DeviceLogin) -> datetime | None:
    """Whose account it is, and whether it may use the service at all. Questions that fail do not
    fail the login; a vendor that says "not this account" does."""
    memory = recall(row)
    login = login_in(row, memory)
    found = tokens.unpacked(memory.tokens)
    account = Account(row.account_id, row.account_label, row.plan, dict(memory.endpoint))
    read = made_ready(row.provider, login, found, {**row.inputs, **account.endpoint})
    if isinstance(read, tokens.RenewFailed):
        if read.kind != "transient":
            close(row, Status.ERROR, code=read.code, detail=read.sentence, now=clock.now())
            return None
        return _later(row)
    found = read.tokens
    account.endpoint.update(read.endpoint)
    if login.oauth.setup_url and not account.endpoint.get("project"):
        outcome = _set_up(row, login, found, memory)
        match outcome:
            case code_assist.Ready():
                account.endpoint["project"] = outcome.project
            case Ended():
                close(
                    row,
                    Status.ERROR,
                    code=outcome.code,
                    detail=outcome.detail,
                    now=clock.now(),
                )
                return None
            case code_assist.Running():
                return _later(row, code_assist.WAIT_SECONDS)
            case Transient():
                return _later(row)
    who = identified(row.provider, login, found, account)
    match who:
        case Ended():
            close(row, Status.ERROR, code=who.code, detail=who.detail, now=clock.now())
            return None
        case Transient():
            return _later(row)
        case Account():
            account = who
    remember(
        row,
        msgspec.structs.replace(memory, tokens=tokens.packed(found), endpoint=account.endpoint),
    )
    DeviceLogin.objects.filter(pk=row.pk, status=Status.APPROVED).update(
        status=Status.CONFIRM,
        sealed=row.sealed,
        next_poll_at=None,
        account_id=account.id[:200],
        account_label=(account.label or accounts.nameless(found))[:200],
        plan=account.plan[:80],
    )
    return None


def _set_up(
    row: DeviceLogin, login: Login, found: Tokens, memory: Memory
) -> code_assist.Ready | code_assist.Running | Ended | Transient:
    """Google's project for this account: looked up, or made, which takes some seconds."""
    try:
        if memory.operation:
            question = code_assist.operation_ask(login, found, memory.operation)
            outcome = code_assist.read_operation(login, asking.ask(row.provider, question))
        else:
            loaded = code_assist.read_load(
                login, asking.ask(row.provider, code_assist.load_ask(login, found))
            )
            if not isinstance(loaded, code_assist.SetUp):
                return loaded
            question = code_assist.set_up_ask(login, found, loaded.tier)
            outcome = code_assist.read_operation(login, asking.ask(row.provider, question))
    except ProviderError as error:
        return Transient(error.message)
    if isinstance(outcome, code_assist.Running):
        remember(row, msgspec.structs.replace(memory, operation=outcome.name))
        DeviceLogin.objects.filter(pk=row.pk, status=Status.APPROVED).update(sealed=row.sealed)
    return outcome


def _later(row: DeviceLogin, seconds: float | None = None) -> datetime:
    """Once more: after a failure a little later each time, else after `seconds`."""
    is_failure = seconds is None
    due = pace.next_poll(
        clock.now(),
        row.interval_seconds if seconds is None else seconds,
        failures=row.failures + 1 if is_failure else 0,
    )
    DeviceLogin.objects.filter(pk=row.pk, status=Status.APPROVED).update(
        failures=F("failures") + (1 if is_failure else 0), next_poll_at=due
    )
    return due
