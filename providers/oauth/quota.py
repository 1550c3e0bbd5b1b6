"""Vendors' quotas: asked for at their pace, kept as history. A hint: what holds is our own."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

import msgspec
from django.db import transaction
from django.db.models import Q

from controlplane.kit import clock
from controlplane.kit.jobs.services import enqueue
from providers.credentials import alerts, timeline
from providers.credentials.models import Credential
from providers.errors import ProviderError
from providers.oauth import asking
from providers.oauth.flows import tokens
from providers.oauth.flows.login import at_addresses
from providers.oauth.flows.quota import Window, quota_ask, read_quota
from providers.oauth.models import QuotaSnapshot
from providers.oauth.quota_chart import Point, thinned
from providers.oauth.refresh import USABLE, LoginUnusable, ensure_fresh
from providers.oauth.ways import login_of, settings_of
from providers.routing.quota import words_of
from providers.routing.table import ModelQuota
from tenants.revisions.services import bump
from tenants.vault import services as vault

# Vendors limit unknown programs to about this (anthropic's usage endpoint: 429 for long).
LEAST_PAUSE: Final = timedelta(minutes=5)
PACE: Final = timedelta(minutes=15)
KEEP: Final = timedelta(days=60)
SHOWN: Final = timedelta(days=14)
JOB: Final = "login.quota"
PRUNE_BATCH: Final = 1_000
# More models than any login has.
MOST_MODELS: Final = 200


def due_ids(*, now: datetime, limit: int) -> list[uuid.UUID]:
    """Logins whose quota was not looked at for a while."""
    rows = Credential.objects.filter(
        Q(quota_at=None) | Q(quota_at__lte=now - PACE),
        kind=Credential.Kind.OAUTH,
        state__in=USABLE,
    )
    return list(rows.order_by("quota_at").values_list("pk", flat=True)[:limit])


def look_soon(credential_id: str | uuid.UUID, *, now: datetime) -> bool:
    """A vendor said that nothing is left: its quota is looked at as soon as its pace allows. False:
    that is under way already, or it is no login that works. In the platform's scope."""
    row = Credential.objects.filter(
        pk=credential_id, kind=Credential.Kind.OAUTH, state__in=USABLE
    ).first()
    if row is None:
        return False
    due = now if row.quota_at is None else max(now, row.quota_at + LEAST_PAUSE)
    with transaction.atomic():
        return enqueue(kind=JOB, key=str(row.pk), args={"credential_id": row.pk}, due_at=due)


def fetch(credential_id: str | uuid.UUID) -> list[QuotaSnapshot]:
    """Asks the vendor, at most every five minutes, and keeps what it says. An answer that is none
    leaves what was known. In the platform's scope; waits."""
    now = clock.now()
    taken = Credential.objects.filter(
        Q(quota_at=None) | Q(quota_at__lte=now - LEAST_PAUSE) | Q(quota_at__gt=now),
        pk=credential_id,
        state__in=USABLE,
    ).update(quota_at=now)
    if not taken:
        return []
    row: Credential = Credential.objects.select_related("provider").get(pk=credential_id)
    settings = settings_of(row.provider)
    if settings is None or not settings.is_on:
        return []
    try:
        ensure_fresh(row.pk)
        row.refresh_from_db(fields=["sealed"])
        held = tokens.unpacked(vault.unseal_from(row, "sealed").reveal())
        login = at_addresses(
            login_of(row.provider, settings, row.login, row.endpoint), held.addresses
        )
        question = quota_ask(login, held, row.endpoint)
        if question is None:
            return []
        windows = read_quota(login, asking.ask(row.provider, question, row), now)
    except (LoginUnusable, ProviderError):
        # Its state or the next look says why; what was known stays known, with its date.
        return []
    return _keep(row, windows or [], now)


@transaction.atomic
def _keep(row: Credential, windows: list[Window], now: datetime) -> list[QuotaSnapshot]:
    before = {snapshot.name: snapshot for snapshot in latest(row)}
    made = QuotaSnapshot.objects.bulk_create(
        QuotaSnapshot(
            tenant_id=row.tenant_id,
            credential=row,
            name=window.name,
            covers=window.covers,
            unit=window.unit,
            used=window.used,
            limit=window.limit,
            percent_used=window.percent_used,
            is_unlimited=window.is_unlimited,
            allows_overage=window.allows_overage,
            resets_at=window.resets_at,
            fetched_at=now,
        )
        for window in windows
    )
    for snapshot in made:
        was = before.get(snapshot.name)
        is_new = was is None or (was.percent_used or 0) < 100
        if (snapshot.percent_used or 0) >= 100 and is_new and not snapshot.is_unlimited:
            until = f" until {snapshot.resets_at:%Y-%m-%d %H:%M} UTC" if snapshot.resets_at else ""
            timeline.note(row, "quota", f"{snapshot.name} is used up{until}.", now=now)
            alerts.used_up(row, snapshot.name, snapshot.resets_at, now=now)
    if made:
        _tell_routes(row, windows, now)
    return made


def _tell_routes(row: Credential, windows: list[Window], now: datetime) -> None:
    """What routing goes by, on the row itself. Routes are read anew only for what changes an
    order: a tenth more or less, used up, or back again."""
    share, until = left_of((each for each in windows if each.covers == "account"), now)
    of_models = left_of_models(windows, now)
    known = msgspec.convert(row.model_quotas, list[ModelQuota])
    Credential.objects.filter(pk=row.pk).update(
        quota_share=share,
        quota_used_up_until=until,
        model_quotas=msgspec.to_builtins(of_models),
    )
    if (
        round(10 * share) != round(10 * row.quota_share)
        or until != row.quota_used_up_until
        or _in_tenths(of_models) != _in_tenths(known)
    ):
        bump("routes")


def left_of(windows: Iterable[Window], now: datetime) -> tuple[float, datetime | None]:
    """The share left of the fullest of these windows, and when the last of those that are used up
    opens again. Unlimited ones, and those over, do not count."""
    share, until = 1.0, None
    for window in windows:
        ends, percent = window.resets_at, window.percent_used
        if percent is None and window.limit and window.used is not None:
            percent = 100 * window.used / window.limit
        if percent is None or window.is_unlimited:
            continue
        if ends is not None and ends <= now:
            continue
        share = min(share, max(0.0, 1 - percent / 100))
        if percent >= 100 and not window.allows_overage and ends is not None:
            until = ends if until is None else max(until, ends)
    return share, until


def left_of_models(windows: Iterable[Window], now: datetime) -> list[ModelQuota]:
    """The same for each model and family that windows name, where some of it is used."""
    named: dict[tuple[str, tuple[str, ...]], list[Window]] = {}
    for window in windows:
        if window.covers == "model" and window.models:
            named.setdefault((window.models, ()), []).append(window)
        elif window.covers == "family" and (family := words_of(window.models)):
            named.setdefault(("", family), []).append(window)
    found = []
    for (model, family), theirs in sorted(named.items()):
        share, until = left_of(theirs, now)
        if share < 1:
            ends = until.timestamp() if until is not None else 0.0
            found.append(ModelQuota(share=share, used_up_until=ends, model=model, family=family))
    return found[:MOST_MODELS]


def _in_tenths(quotas: Iterable[ModelQuota]) -> list[ModelQuota]:
    rounded = [msgspec.structs.replace(quota, share=round(quota.share, 1)) for quota in quotas]
    return [quota for quota in rounded if quota.share < 1 or quota.used_up_until]


def history(
    credential: Credential, *, now: datetime, within: timedelta = SHOWN
) -> dict[str, list[Point]]:
    """What was used of each window, oldest first, thinned out. One query."""
    rows = QuotaSnapshot.objects.filter(
        credential=credential, fetched_at__gt=now - within, percent_used__isnull=False
    ).order_by("fetched_at", "pk")
    found: dict[str, list[Point]] = {}
    for name, at, percent in rows.values_list("name", "fetched_at", "percent_used"):
        found.setdefault(name, []).append(Point(at, percent))
    return {name: thinned(points) for name, points in sorted(found.items())}


def latest(credential: Credential) -> list[QuotaSnapshot]:
    """Of each window the last that was said."""
    newest: dict[str, QuotaSnapshot] = {}
    rows = QuotaSnapshot.objects.filter(
        credential=credential, fetched_at__gt=clock.now() - KEEP
    ).order_by("-fetched_at", "-pk")
    last = rows.first()
    if last is None:
        return []
    for snapshot in rows.filter(fetched_at=last.fetched_at):
        newest.setdefault(snapshot.name, snapshot)
    return [newest[name] for name in sorted(newest)]


def prune(*, now: datetime) -> int:
    """At most one batch. Returns how many."""
    old = QuotaSnapshot.objects.filter(fetched_at__lt=now - KEEP).values_list("pk", flat=True)
    return QuotaSnapshot.objects.filter(pk__in=list(old[:PRUNE_BATCH])).delete()[0]
