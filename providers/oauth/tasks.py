"""The jobs behind logins: polls, a sweeper, and renewal ahead of the end."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Final

from django.db import transaction

from controlplane.kit import clock
from controlplane.kit.jobs.registry import handler
from controlplane.kit.jobs.services import enqueue
from providers.credentials import timeline
from providers.oauth import forgetting, quota
from providers.oauth.ending import close
from providers.oauth.models import DeviceLogin
from providers.oauth.polling import poll
from providers.oauth.refresh import LoginUnusable, due_ids, ensure_fresh
from providers.oauth.services import POLL_JOB
from tenants import scope
from tenants.audit.actor import acting_as

log = logging.getLogger(__name__)
Status = DeviceLogin.Status

KEEP_FINISHED: Final = timedelta(days=30)
_BATCH: Final = 500
_GRACE: Final = timedelta(seconds=5)
# So long a token waits for the job that ends it at the vendor; then it goes without.
_LONGEST_HELD: Final = timedelta(minutes=10)
# A start that died between the row and the vendor's answer.
_STUCK: Final = timedelta(minutes=2)


@handler(POLL_JOB, lease=timedelta(seconds=90))
def poll_login(*, login_id: str, **_: object) -> datetime | None:
    with scope.platform("poll a login"), acting_as("system", None, "logins"):
        return poll(login_id)


@handler("login.sweep", every=timedelta(seconds=15))
def sweep(**_: object) -> None:
    """Ends what ran out of time, and finds logins whose job was lost."""
    now = clock.now()
    with scope.platform("sweep logins"), acting_as("system", None, "logins"):
        rows = DeviceLogin.objects.open()
        over = rows.filter(expires_at__lte=now)
        holding = over.filter(status__in=forgetting.HOLDING)
        for row in over.exclude(status__in=forgetting.HOLDING)[:_BATCH]:
            close(row, Status.EXPIRED, code="expired", now=now)
        for row in holding.filter(expires_at__lte=now - _LONGEST_HELD)[:_BATCH]:
            close(row, Status.EXPIRED, code="not_confirmed", now=now)
        # A token is ended at the vendor too, which may take its time.
        with transaction.atomic():
            for login_id in holding.values_list("pk", flat=True)[:_BATCH]:
                enqueue(
                    kind=forgetting.JOB,
                    key=str(login_id),
                    args={"login_id": login_id},
                    due_at=now,
                )
        for row in rows.filter(status=Status.CREATED, created_at__lte=now - _STUCK)[:_BATCH]:
            close(row, Status.ERROR, code="not_started", now=now)
        waiting = rows.filter(
            status__in=[Status.PENDING, Status.APPROVED], next_poll_at__lte=now - _GRACE
        )
        with transaction.atomic():
            for login_id in waiting.values_list("pk", flat=True)[:_BATCH]:
                enqueue(kind=POLL_JOB, key=str(login_id), args={"login_id": login_id}, due_at=now)


@handler(forgetting.JOB, lease=timedelta(seconds=90))
def forget_unconfirmed(*, login_id: str, **_: object) -> None:
    with scope.platform("forget a login"), acting_as("system", None, "logins"):
        forgetting.forget_unconfirmed(login_id, now=clock.now())


@handler("login.prune", every=timedelta(hours=6))
def prune(**_: object) -> datetime | None:
    now = clock.now()
    with scope.platform("forget old logins"):
        old = DeviceLogin.objects.filter(finished_at__lte=now - KEEP_FINISHED)
        ids = list(old.values_list("pk", flat=True)[:_BATCH])
        DeviceLogin.objects.filter(pk__in=ids).delete()
        pruned = max(timeline.prune(now=now), quota.prune(now=now))
    return now if len(ids) >= _BATCH or pruned >= timeline.PRUNE_BATCH else None


@handler("login.refresh_due", every=timedelta(seconds=20))
def refresh_due(**_: object) -> None:
    """One job for each login that falls due: several workers share them."""
    now = clock.now()
    with scope.platform("find logins to renew"), transaction.atomic():
        for credential_id in due_ids(now=now, limit=_BATCH):
            enqueue(
                kind="login.refresh",
                key=str(credential_id),
                args={"credential_id": credential_id},
                due_at=now,
            )


@handler("login.refresh", lease=timedelta(seconds=180), max_attempts=2)
def refresh(*, credential_id: str, **_: object) -> None:
    try:
        ensure_fresh(credential_id, is_due=True)
    except LoginUnusable as error:
        # Why is written in the credential's state and timeline; the next look comes by its date.
        log.info("login not renewed: %s: %s", credential_id, error.message)


@handler("login.quota_due", every=timedelta(minutes=1))
def quota_due(**_: object) -> None:
    now = clock.now()
    with scope.platform("find quotas to look at"), transaction.atomic():
        for credential_id in quota.due_ids(now=now, limit=_BATCH):
            enqueue(
                kind=quota.JOB,
                key=str(credential_id),
                args={"credential_id": credential_id},
                due_at=now,
            )


@handler(quota.JOB, lease=timedelta(seconds=180), max_attempts=2)
def look_at_quota(*, credential_id: str, **_: object) -> None:
    with scope.platform("look at a quota"), acting_as("system", None, "logins"):
        quota.fetch(credential_id)
