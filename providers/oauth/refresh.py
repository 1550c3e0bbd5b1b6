"""Renewing a login's tokens: exactly once among all processes, and never silently lost.

A refresh token that works once must not be sent twice, so the row's lease is taken by one
conditional write before the vendor is asked. Who does not get it waits for who did, and uses what
that one brought. The answer is written before anything else happens, for as long as it takes the
database to come back.
"""

from __future__ import annotations

import logging
import random
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models import F, Q

from controlplane.kit import clock
from controlplane.kit.errors import FaultKind
from controlplane.kit.secret import Secret
from providers.credentials import timeline
from providers.credentials.models import Credential
from providers.errors import ProviderError, UpstreamUnreachable
from providers.oauth import asking
from providers.oauth.flows import tokens
from providers.oauth.flows.login import Login, at_addresses
from providers.oauth.flows.tokens import Renewed, RenewFailed, Tokens
from providers.oauth.flows.wire import Ask, Reply
from providers.oauth.states import change_state
from providers.oauth.ways import login_of, settings_of
from tenants import scope
from tenants.audit.actor import acting_as
from tenants.revisions.services import bump
from tenants.vault import services as vault

log = logging.getLogger(__name__)
State = Credential.State

# Longer than one question may take (asking.LONGEST_SECONDS), and how long a process that was
# killed keeps the others waiting (bar R2).
LEASE: Final = timedelta(seconds=30)
# However wrong clocks and answers are, nobody renews one login more often (bar R16).
LEAST_PAUSE: Final = timedelta(seconds=60)
WAIT_SECONDS: Final = 15.0
_STEP_SECONDS: Final = 0.05
# How long an answer in hand waits for the database to come back.
PATIENCE_SECONDS: Final = 120.0
_RESTS: Final = (60, 60, 120, 300, 900)
_SUSPENDED_REST: Final = timedelta(hours=24)
_ENTITLEMENT_REST: Final = timedelta(hours=1)
USABLE: Final = frozenset({State.ACTIVE, State.EXPIRING, State.REFRESHING, State.COOLING})
# Looked at again by themselves: a plan may be bought, a suspension lifted.
_LOOKED_AT_AGAIN: Final = frozenset({State.NO_ENTITLEMENT, State.SUSPENDED})
DUE_STATES: Final = USABLE | _LOOKED_AT_AGAIN


class LoginUnusable(ProviderError):
    """This login gives no token now; the message says what to do."""

    kind = FaultKind.OVERLOADED
    code = "credential_unavailable"


@dataclass(frozen=True, slots=True)
class Held:
    """A token that works, and until when (None = it does not end)."""

    token: Secret = field(repr=False)
    expires_at: datetime | None
    generation: int


# Where a test stops the process: never set elsewhere.
Checkpoint = Callable[[str], None]


def _pass(_place: str) -> None:
    """Nobody watches."""


def ensure_fresh(
    credential_id: str | uuid.UUID,
    *,
    refused: Secret | None = None,
    is_due: bool = False,
    checkpoint: Checkpoint = _pass,
) -> Held:
    """A token that works, renewed if need be. `refused` is the one a vendor just turned down;
    `is_due` renews ahead of the end. Waits: not for an event loop. Raises LoginUnusable."""
    with scope.platform("renew a login"), acting_as("system", None, "logins"):
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            row = _row(credential_id)
            held = _usable(row, refused, is_due=is_due)
            if held is not None:
                return held
            owner = uuid.uuid4().hex
            checkpoint("before the lease")
            if _take(row, owner):
                checkpoint("leased")
                _renew(row, owner, refused, checkpoint, is_due=is_due)
                # Once: what came is either good or written as a reason.
                is_due, refused = False, None
                continue
            held = _usable(_row(credential_id), refused, is_due=False)
            if held is not None and is_due:
                return held
            _give_reason(_row(credential_id), refused)
            if time.monotonic() > deadline:
                raise LoginUnusable(
                    "This login is being renewed and that takes long: try again.",
                    retry_after_seconds=5,
                )
            time.sleep(_STEP_SECONDS)


def _row(credential_id: str | uuid.UUID) -> Credential:
    row: Credential | None = (
        Credential.objects.select_related("provider").filter(pk=credential_id).first()
    )
    if row is None:
        raise LoginUnusable("The provider's credential was removed.")
    return row


def _usable(row: Credential, refused: Secret | None, *, is_due: bool) -> Held | None:
    """The token in the row where it may be used. Raises LoginUnusable for a login that is over."""
    if State.of(row.state) not in USABLE and not (
        is_due and State.of(row.state) in _LOOKED_AT_AGAIN
    ):
        raise LoginUnusable(f"{row.label}: {row.state_reason or row.get_state_display()}")
    held = tokens.unpacked(vault.unseal_from(row, "sealed").reveal())
    now = clock.now()
    if refused is not None and Secret(held.access_token) == refused:
        return None
    if is_due and held.can_renew and row.refresh_at is not None and row.refresh_at <= now:
        return None
    if not held.works_at(now):
        return None
    return Held(Secret(held.access_token), tokens.when(held.expires_at), row.generation)


def _give_reason(row: Credential, refused: Secret | None) -> None:
    """Why there is nothing to wait for: nobody renews, and it is too early to try again."""
    now = clock.now()
    if row.refresh_until is not None and row.refresh_until > now:
        return
    if _usable(row, refused, is_due=False) is not None:
        return
    tried_at = row.refresh_tried_at
    if tried_at is not None and timedelta(0) <= now - tried_at < LEAST_PAUSE:
        raise LoginUnusable(
            f"{row.label}: the login could not be renewed a moment ago. It is tried again soon.",
            retry_after_seconds=(LEAST_PAUSE - (now - tried_at)).total_seconds(),
        )


def _take(row: Credential, owner: str) -> bool:
    """The right to renew this very token, for one lease. Dates from the future (the clock was set
    back) hold nobody up."""
    now = clock.now()
    is_free = (
        Q(refresh_until=None) | Q(refresh_until__lte=now) | Q(refresh_until__gt=now + 2 * LEASE)
    )
    is_rested = (
        Q(refresh_tried_at=None)
        | Q(refresh_tried_at__lte=now - LEAST_PAUSE)
        | Q(refresh_tried_at__gt=now)
    )
    return bool(
        Credential.objects.filter(
            is_free,
            is_rested,
            pk=row.pk,
            generation=row.generation,
            state__in=DUE_STATES,
        ).update(refresh_owner=owner, refresh_until=now + LEASE)
    )


def _renew(
    row: Credential, owner: str, refused: Secret | None, checkpoint: Checkpoint, *, is_due: bool
) -> None:
    """In the lease: asks the vendor and writes what came."""
    # Another process may have finished between our look and our lease.
    fresh = _row(row.pk)
    if fresh.refresh_owner != owner:
        return
    if fresh.generation != row.generation and _usable(fresh, refused, is_due=is_due) is not None:
        _let_go(fresh, owner)
        return
    held = tokens.unpacked(vault.unseal_from(fresh, "sealed").reveal())
    if not held.can_renew:
        _fail(fresh, owner, RenewFailed("dead", "ended", "The login has ended."))
        return
    settings = settings_of(fresh.provider)
    if settings is None or not settings.is_on:
        failed = RenewFailed("operator", "logins_off", "The operator switched this login off.")
        _fail(fresh, owner, failed)
        return
    try:
        login = at_addresses(
            login_of(fresh.provider, settings, fresh.login, fresh.endpoint), held.addresses
        )
    except ProviderError as error:
        _fail(fresh, owner, RenewFailed("operator", error.code, error.message))
        return
    outcome = _asked(fresh, login, held, checkpoint)
    if isinstance(outcome, Renewed):
        checkpoint("answered")
        _patiently(lambda: _store(fresh, owner, login, outcome))
        checkpoint("written")
    else:
        _patiently(lambda: _fail(fresh, owner, outcome))


def _asked(
    row: Credential, login: Login, held: Tokens, checkpoint: Checkpoint
) -> Renewed | RenewFailed:
    is_base = tokens.needs_base(login, held, clock.now())
    if is_base:
        reply = _send(row, login, tokens.refresh_ask(login, held), checkpoint)
        if isinstance(reply, RenewFailed):
            return reply
        base = tokens.read_base(login, held, reply, clock.now())
        if isinstance(base, RenewFailed):
            return base
        held = base.tokens
        # Written before the next question: the old pair is dead from now on.
        _patiently(lambda: _keep_base(row, held))
    is_exchange = tokens.needs_exchange(login, held)
    reply = _send(row, login, tokens.renew_ask(login, held), checkpoint, is_exchange=is_exchange)
    if isinstance(reply, RenewFailed):
        return reply
    read = tokens.read_exchange if is_exchange else tokens.read_refresh
    return read(login, held, reply, clock.now())


def _send(
    row: Credential,
    login: Login,
    question: Ask,
    checkpoint: Checkpoint,
    *,
    is_exchange: bool = False,
) -> Reply | RenewFailed:
    checkpoint("sending")
    try:
        return asking.ask(row.provider, question, row)
    except UpstreamUnreachable as error:
        return RenewFailed("transient", error.code, error.message)
    except ProviderError as error:
        # It was sent, and the answer did not come: a token that works once may be used up.
        is_single_use = login.oauth.has_single_use_refresh and not is_exchange
        return RenewFailed("uncertain" if is_single_use else "transient", error.code, error.message)


@transaction.atomic
def _keep_base(row: Credential, held: Tokens) -> None:
    vault.seal_into(row, "sealed", Secret(tokens.packed(held)))
    Credential.objects.filter(pk=row.pk, generation=row.generation).update(sealed=row.sealed)


@transaction.atomic
def _store(row: Credential, owner: str, login: Login, renewed: Renewed) -> None:
    now, fresh = clock.now(), renewed.tokens
    vault.seal_into(row, "sealed", Secret(tokens.packed(fresh)))
    endpoint = {**row.endpoint, **renewed.endpoint}
    due = tokens.refresh_at(
        fresh,
        login.oauth.refresh_lead_seconds,
        random.random(),  # noqa: S311  (a spread, not a secret)
    )
    written = {
        "sealed": row.sealed,
        "fingerprint": vault.fingerprint(Secret(fresh.base_token or fresh.access_token)),
        "endpoint": endpoint,
        "expires_at": tokens.when(fresh.expires_at),
        # Whatever the vendor says of lifetimes, not before the pause is over.
        "refresh_at": max(due, now + LEAST_PAUSE) if due is not None else None,
        "refreshed_at": now,
        "refresh_tried_at": now,
        "refresh_failures": 0,
        "is_refresh_uncertain": False,
        "refresh_owner": "",
        "refresh_until": None,
        "generation": F("generation") + 1,
    }
    rows = Credential.objects.filter(pk=row.pk)
    if not rows.filter(refresh_owner=owner).update(**written) and not rows.filter(
        generation=row.generation
    ).update(**written):
        # Our lease ran out and a sibling wrote a newer pair meanwhile: theirs counts.
        log.warning("login %s was renewed by two processes; the newer token is kept", row.pk)
        return
    timeline.note(row, "refreshed", "Renewed.", now=now)
    if row.state in _LOOKED_AT_AGAIN:
        change_state(row, State.ACTIVE, "", now=now)
    bump("credentials")
    if endpoint != row.endpoint:
        bump("registrations")


@transaction.atomic
def _fail(row: Credential, owner: str, failed: RenewFailed) -> None:
    now = clock.now()
    # A sibling may have renewed with a token we do not know of: then nothing is dead.
    current = Credential.objects.filter(pk=row.pk, generation=row.generation)
    failures = row.refresh_failures + 1
    rest = timedelta(
        seconds=_RESTS[min(failures, len(_RESTS)) - 1] * random.uniform(0.8, 1.2)  # noqa: S311  (a spread, not a secret)
    )
    if failed.retry_after_seconds is not None:
        rest = timedelta(seconds=min(max(failed.retry_after_seconds, 5.0), 300.0))
    due: datetime | None = now + max(rest, LEAST_PAUSE)
    state, is_uncertain = "", row.is_refresh_uncertain
    match failed.kind:
        case "dead":
            state, due = State.NEEDS_LOGIN, None
        case "no_entitlement":
            state, due = State.NO_ENTITLEMENT, now + _ENTITLEMENT_REST
        case "suspended":
            state, due = State.SUSPENDED, now + _SUSPENDED_REST
        case "uncertain":
            # Asking again may look like theft and end everything: the token in hand serves until
            # shortly before its end, then it is tried once more.
            if is_uncertain:
                state, due = State.NEEDS_LOGIN, None
            elif row.expires_at is not None:
                due = max(row.expires_at - timedelta(seconds=120), now + LEAST_PAUSE)
            is_uncertain = True
        case "operator" | "transient":
            pass
    moved = current.filter(refresh_owner=owner).update(
        refresh_at=due,
        refresh_tried_at=now,
        refresh_failures=failures,
        is_refresh_uncertain=is_uncertain,
        refresh_owner="",
        refresh_until=None,
    )
    if not moved:
        _let_go(row, owner)
        return
    timeline.note(row, "refresh_failed", failed.sentence, now=now)
    if state:
        change_state(row, state, failed.sentence, now=now)


def _let_go(row: Credential, owner: str) -> None:
    Credential.objects.filter(pk=row.pk, refresh_owner=owner).update(
        refresh_owner="", refresh_until=None
    )


def _patiently(write: Callable[[], None]) -> None:
    """What came from a vendor comes once: it waits here until the database is back."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    pause = _STEP_SECONDS
    while True:
        try:
            return write()
        except (OperationalError, InterfaceError):
            if connection.in_atomic_block or time.monotonic() > deadline:
                raise
            log.warning("a renewed login waits for the database")
            connection.close()
            time.sleep(pause)


def due_ids(*, now: datetime, limit: int) -> list[uuid.UUID]:
    rows = Credential.objects.filter(
        kind=Credential.Kind.OAUTH, refresh_at__lte=now, state__in=DUE_STATES
    )
    return list(rows.order_by("refresh_at").values_list("pk", flat=True)[:limit])
