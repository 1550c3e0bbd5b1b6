"""Rows to the plain values that the pure merge takes."""

from __future__ import annotations

from providers.catalog.effective import Effective, ModelChange, Registration, effective
from providers.catalog.loader import catalog
from providers.catalog.models import Provider


def registration_of(provider: Provider, *, is_saved: bool = True) -> Registration:
    """The row as the plain value that the pure merge takes. An unsaved one has no models yet."""
    return Registration(
        slug=provider.slug,
        catalog_id=provider.catalog_id,
        owner="tenant" if provider.tenant_id else "platform",
        protocol=provider.protocol,
        base_url=provider.base_url.rstrip("/"),
        auth_type=provider.auth_type,
        endpoint=provider.endpoint,
        headers=provider.headers,
        quirks=provider.quirks,
        features=provider.features,
        excluded_models=tuple(provider.excluded_models),
        default_context_window=provider.default_context_window,
        default_max_output_tokens=provider.default_max_output_tokens,
        cooldown_seconds=provider.cooldown_seconds,
        store_responses=provider.store_responses,
        passes_unknown_models=provider.passes_unknown_models,
        models=tuple(
            ModelChange(
                upstream_id=model.upstream_id,
                alias=model.alias,
                display_name=model.display_name,
                is_enabled=model.is_enabled,
                protocol=model.protocol,
                context_window=model.context_window,
                max_output_tokens=model.max_output_tokens,
                supports_functions=model.supports_functions,
                supports_streaming=model.supports_streaming,
                facts=model.facts,
            )
            for model in (provider.models.all() if is_saved else ())
        ),
    )


def effective_of(provider: Provider) -> Effective:
    file = catalog().get(provider.catalog_id) if provider.catalog_id else None
    return effective(registration_of(provider), file)
