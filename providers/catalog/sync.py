"""Brings registrations in line with the files of a new release. Running it twice changes nothing.

Registrations read their catalog file anew whenever they are used, so figures need no syncing.
What stays behind in rows does: an id that was renamed, a kind, overrides that say what the
newer file says too.
"""

from __future__ import annotations

import msgspec
from django.db import transaction
from django.db.models import F

from controlplane.kit import clock
from providers.catalog.loader import catalog
from providers.catalog.models import Provider, ProviderModel
from providers.catalog.reading import with_facts
from providers.catalog.registrations import effective_of
from providers.catalog.schema import CatalogError, ProviderFile
from providers.errors import ProviderError
from tenants import scope
from tenants.audit.services import record
from tenants.revisions.services import bump


class Synced(msgspec.Struct, frozen=True, kw_only=True):
    """What was done to one registration, in sentences, and what keeps it from working."""

    provider: str
    done: tuple[str, ...] = ()
    problem: str = ""


def sync_registrations() -> list[Synced]:
    """One entry per registration that changed or cannot work."""
    out: list[Synced] = []
    with scope.platform("bring registrations in line with the catalog"):
        for provider in Provider.objects.exclude(catalog_id="").order_by("slug", "pk"):
            file = catalog().named(provider.catalog_id)
            if file is None:
                out.append(
                    Synced(
                        provider=provider.slug,
                        problem=f"The catalog has no {provider.catalog_id!r} any more: give "
                        "another catalog_id, or protocol and base_url of its own.",
                    )
                )
                continue
            done = _sync(provider, file)
            problem = ""
            try:
                effective_of(provider)
            except ProviderError as error:
                problem = str(error)
            if done or problem:
                out.append(Synced(provider=provider.slug, done=done, problem=problem))
    return out


@transaction.atomic
def _sync(provider: Provider, file: ProviderFile) -> tuple[str, ...]:
    done: list[str] = []
    changes: dict[str, str] = {}
    before = {"catalog_id": provider.catalog_id, "kind": provider.kind}
    if provider.catalog_id != file.id:
        done.append(f"{provider.catalog_id} is called {file.id} now.")
        changes["catalog_id"] = file.id
    if provider.kind != file.kind:
        done.append(f"Its kind is {file.kind} now.")
        changes["kind"] = file.kind
    if changes:
        Provider.objects.filter(pk=provider.pk).update(
            **changes, version=F("version") + 1, updated_at=clock.now()
        )
        provider.refresh_from_db()
    useless = _useless(provider, file)
    if useless:
        ProviderModel.objects.filter(pk__in=[row.pk for row in useless]).delete()
        done.append(f"{len(useless)} overrides say what the catalog says now: taken out.")
    if done:
        record(
            tenant_id=provider.tenant_id,
            action="provider.synced",
            target=provider,
            before=before,
            after={**changes, "overrides_removed": len(useless)},
        )
        bump("registrations")
    return tuple(done)


def _useless(provider: Provider, file: ProviderFile) -> list[ProviderModel]:
    """Overrides of a refresh that change nothing any more. A person's own rows stay."""
    known = {model.id: model for model in file.models}
    out: list[ProviderModel] = []
    for row in provider.models.exclude(origin=ProviderModel.Origin.MANUAL):
        model = known.get(row.upstream_id)
        if model is None or row.alias or not row.is_enabled:
            continue
        try:
            if with_facts(model, row.facts) == model:
                out.append(row)
        except CatalogError:
            # Facts that the newer schema refuses are of no use to anybody.
            out.append(row)
    return out
