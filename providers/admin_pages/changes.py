"""What a refresh would change, and switching models: the parts of a page that change models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from django.db import transaction

from providers.catalog.loader import catalog
from providers.catalog.model_services import add_model, change_model
from providers.catalog.models import Provider, ProviderModel
from providers.catalog.refresh import Refreshed

_SPELLED_OUT: Final = 100


def context_of(provider: Provider, done: Refreshed) -> dict[str, Any]:
    difference = done.difference
    return {
        "added": difference.added[:_SPELLED_OUT],
        "added_more": max(0, len(difference.added) - _SPELLED_OUT),
        "added_count": len(difference.added),
        "changed": difference.changed[:_SPELLED_OUT],
        "changed_more": max(0, len(difference.changed) - _SPELLED_OUT),
        "changed_count": len(difference.changed),
        "gone": difference.gone[:_SPELLED_OUT],
        "gone_more": max(0, len(difference.gone) - _SPELLED_OUT),
        "gone_count": len(difference.gone),
        "new_are_offered": provider.passes_unknown_models,
    }


def told(done: Refreshed) -> str:
    """After it was written, in one sentence."""
    if not done.written:
        return "Nothing was written: what differs is a person's own word, which stays."
    rows = "1 model" if done.written == 1 else f"{done.written} models"
    kept = f" {len(done.kept)} that a person wrote stayed as they are." if done.kept else ""
    return f"{rows} brought up to date.{kept}"


@transaction.atomic
def switch_models(provider: Provider, upstream_ids: Sequence[str], *, is_enabled: bool) -> int:
    """Offers models to clients or hides them. A model that only the catalog knew gets a row that
    says so. Returns how many were otherwise before."""
    rows: dict[str, list[ProviderModel]] = {}
    for row in provider.models.filter(upstream_id__in=upstream_ids).select_related("provider"):
        rows.setdefault(row.upstream_id, []).append(row)
    file = catalog().get(provider.catalog_id) if provider.catalog_id else None
    catalogued = {model.id for model in (file.models if file is not None else ())}
    changed = 0
    for name in dict.fromkeys(upstream_ids):
        if name not in rows:
            if is_enabled or name not in catalogued:
                continue
            add_model(provider=provider, upstream_id=name, is_enabled=False)
            changed += 1
            continue
        differing = [row for row in rows[name] if row.is_enabled != is_enabled]
        for row in differing:
            change_model(row, is_enabled=is_enabled)
        changed += bool(differing)
    return changed
