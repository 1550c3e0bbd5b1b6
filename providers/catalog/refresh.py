"""What providers list and facts files say, written beside the registrations as overrides.

Shipped files are never touched: a difference becomes a ProviderModel row of origin `listed` or
`facts`, which a person's own row (`manual`) always outranks. Refreshing twice changes nothing.
Where the models come from is the caller's to say (providers/inventory asks the network).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence

import msgspec
from django.db import transaction

from controlplane.kit.json import JSONDict
from providers.catalog.diff import Difference, difference, overrides
from providers.catalog.listings import FoundModel, UnreadableListing
from providers.catalog.loader import catalog
from providers.catalog.models import Provider, ProviderModel
from providers.catalog.reading import with_facts
from providers.catalog.schema import CatalogError, Model, ProviderFile
from providers.errors import ProviderError
from tenants import scope
from tenants.audit.services import record
from tenants.revisions.services import bump

# Models by the facts file's own provider ids.
Facts = Mapping[str, Sequence[FoundModel]]
# A registration's live models. Raises ProviderError or UnreadableListing; None = has no listing.
Listing = Callable[[Provider], Iterable[FoundModel] | None]

# How many changes an audit event spells out.
_SPELLED_OUT = 50


class Refreshed(msgspec.Struct, frozen=True, kw_only=True):
    """One registration after a refresh. `written` counts rows made, changed or taken away;
    `kept` names models whose row is a person's own; `problem` = why the listing did not come."""

    provider: str
    sources: tuple[str, ...] = ()
    difference: Difference = Difference()
    written: int = 0
    kept: tuple[str, ...] = ()
    problem: str = ""


def refresh_registered(
    *,
    listing: Listing | None = None,
    facts: Facts | None = None,
    slugs: Sequence[str] = (),
    write: bool = True,
    on_done: Callable[[Refreshed], None] | None = None,
) -> list[Refreshed]:
    """Every enabled registration, or those of `slugs`: what `facts` says, and over it what the
    live listing says, which knows better. One that fails is reported and stops no other."""
    out: list[Refreshed] = []
    with scope.platform("refresh models of registrations"):
        for provider in registered(slugs):
            done = _refresh(provider, listing, facts, write=write)
            out.append(done)
            if on_done is not None:
                on_done(done)
    return out


def refresh_one(
    provider: Provider,
    *,
    listing: Listing | None = None,
    facts: Facts | None = None,
    write: bool = True,
) -> Refreshed:
    """The same for a registration that the caller has, in its scope."""
    return _refresh(provider, listing, facts, write=write)


def registered(slugs: Sequence[str] = ()) -> list[Provider]:
    """The registrations that a refresh looks at, in the scope of the caller."""
    chosen = Provider.objects.filter(is_enabled=True)
    return list((chosen.filter(slug__in=slugs) if slugs else chosen).order_by("slug", "pk"))


def _refresh(
    provider: Provider, listing: Listing | None, facts: Facts | None, *, write: bool
) -> Refreshed:
    said = facts_for(provider, facts) if facts is not None else None
    listed: tuple[FoundModel, ...] | None = None
    problem = ""
    if listing is not None:
        try:
            answer = listing(provider)
            listed = None if answer is None else tuple(answer)
        except (ProviderError, UnreadableListing) as error:
            problem = str(error)
    known = known_models(provider)
    found = combined(said or (), listed, known)
    names = None if listed is None else frozenset(model.id for model in listed)
    sources = tuple(
        name
        for name, models in (
            (ProviderModel.Origin.FACTS, said),
            (ProviderModel.Origin.LISTED, listed),
        )
        if models is not None
    )
    if not sources or not write:
        changes = difference(known, found.values(), names) if sources else Difference()
        return Refreshed(
            provider=provider.slug, sources=sources, difference=changes, problem=problem
        )
    with transaction.atomic():
        # Two refreshes of one registration go one after the other.
        Provider.objects.select_for_update().get(pk=provider.pk)
        changes = difference(known_models(provider), found.values(), names)
        written, kept = _write(provider, found, names)
        if written:
            record(
                tenant_id=provider.tenant_id,
                action="provider.models_refreshed",
                target=provider,
                after=_summary(sources, changes),
            )
            bump("registrations")
    return Refreshed(
        provider=provider.slug,
        sources=sources,
        difference=changes,
        written=written,
        kept=kept,
        problem=problem,
    )


def combined(
    facts: Sequence[FoundModel], listed: Sequence[FoundModel] | None, known: Container[str]
) -> dict[str, FoundModel]:
    """One view of both: what the listing says wins field by field, and where there is a listing
    it alone brings strangers."""
    if listed is None:
        return {model.id: model for model in facts}
    names = {model.id for model in listed}
    out = {model.id: model for model in facts if model.id in names or model.id in known}
    for model in listed:
        said = {
            name: value
            for name in model.__struct_fields__
            if (value := getattr(model, name)) not in (None, "")
        }
        below = out.get(model.id)
        out[model.id] = model if below is None else msgspec.structs.replace(below, **said)
    return out


def facts_for(provider: Provider, facts: Facts) -> Sequence[FoundModel] | None:
    """The file's entry for this registration: by catalog id, its other names, or the slug."""
    file = catalog().get(provider.catalog_id)
    names = (file.id, *file.known_as) if file is not None else (provider.slug,)
    return next((facts[name] for name in names if name in facts), None)


def known_models(provider: Provider) -> dict[str, Model]:
    """The catalog's models with this registration's rows over them: what a diff is held
    against."""
    known = _shipped(provider)
    for row in provider.models.all():
        base = known.get(row.upstream_id) or Model(id=row.upstream_id)
        facts: JSONDict = dict(row.facts)
        for name in ("context_window", "max_output_tokens"):
            value = getattr(row, name)
            if value is not None:
                facts[name] = value
        if row.supports_functions is not None:
            facts["functions"] = row.supports_functions
        try:
            known[row.upstream_id] = with_facts(base, facts)
        except CatalogError:
            known[row.upstream_id] = base
    return known


def _shipped(provider: Provider) -> dict[str, Model]:
    file: ProviderFile | None = catalog().get(provider.catalog_id)
    return {model.id: model for model in file.models} if file is not None else {}


def _write(
    provider: Provider, found: Mapping[str, FoundModel], listed: frozenset[str] | None
) -> tuple[int, tuple[str, ...]]:
    """Rows made, changed or taken away, and the models whose row is a person's own. `listed` =
    the names of the live listing, None when there was none."""
    shipped = _shipped(provider)
    rows = {row.upstream_id: row for row in provider.models.filter(alias="")}
    new: list[ProviderModel] = []
    changed: list[ProviderModel] = []
    useless: list[ProviderModel] = []
    kept: list[str] = []
    for model in found.values():
        row = rows.pop(model.id, None)
        if row is not None and row.origin == ProviderModel.Origin.MANUAL:
            kept.append(model.id)
            continue
        is_shipped = model.id in shipped
        origin = (
            ProviderModel.Origin.FACTS
            if listed is None or model.id not in listed
            else ProviderModel.Origin.LISTED
        )
        facts = _valid(shipped.get(model.id) or Model(id=model.id), overrides(shipped, model))
        if row is None:
            if facts or not is_shipped:
                # A stranger is known, but offered only where live names may pass.
                is_offered = provider.passes_unknown_models and listed is not None
                new.append(
                    ProviderModel(
                        provider=provider,
                        upstream_id=model.id,
                        display_name="" if is_shipped else model.name,
                        origin=origin,
                        is_enabled=is_shipped or is_offered,
                        facts=facts,
                    )
                )
            continue
        # What nobody says now stays as it was last said.
        silent = {
            name: value for name, value in row.facts.items() if getattr(model, name, None) is None
        }
        facts = {**silent, **facts}
        if not facts and is_shipped:
            useless.append(row)
        elif facts != row.facts or origin != row.origin:
            row.facts, row.origin = facts, origin
            changed.append(row)
    if listed is not None:
        # What only a listing had brought, and the listing no longer names.
        useless += [
            row
            for row in rows.values()
            if row.origin == ProviderModel.Origin.LISTED and row.upstream_id not in shipped
        ]
    ProviderModel.objects.bulk_create(new, ignore_conflicts=True, batch_size=500)
    ProviderModel.objects.bulk_update(changed, ["facts", "origin"], batch_size=500)
    if useless:
        ProviderModel.objects.filter(pk__in=[row.pk for row in useless]).delete()
    return len(new) + len(changed) + len(useless), tuple(kept)


def _valid(base: Model, facts: JSONDict) -> JSONDict:
    """Without what our own schema would refuse: a vendor's odd figure spoils nothing else."""
    good: JSONDict = {}
    for name, value in facts.items():
        try:
            with_facts(base, {name: value})
        except CatalogError:
            continue
        good[name] = value
    return good


def _summary(sources: Sequence[str], changes: Difference) -> JSONDict:
    return {
        "sources": list(sources),
        "added": [model.id for model in changes.added[:_SPELLED_OUT]],
        "added_count": len(changes.added),
        "changed": [f"{change.model}: {change.field}" for change in changes.changed[:_SPELLED_OUT]],
        "changed_count": len(changes.changed),
    }
