"""What a registration offers: its models, what they are called, which are hidden, and which of
its names clients may use instead."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

from django.db import IntegrityError, transaction
from django.db.models import F

from controlplane.kit import clock
from controlplane.kit.errors import FaultKind
from controlplane.kit.secret import Secret
from providers.catalog.destinations import destinations, require_secrets_again
from providers.catalog.effective import ProviderRegistrationError
from providers.catalog.loader import catalog
from providers.catalog.models import ModelMapping, Provider, ProviderModel
from providers.catalog.registrations import effective_of
from providers.catalog.validators import check_shapes
from providers.errors import ProviderError
from providers.protocols import registry
from tenants.audit.services import record
from tenants.errors import StaleVersion
from tenants.revisions.services import bump

MODEL_FIELDS: Final = (
    "upstream_id",
    "alias",
    "display_name",
    "is_enabled",
    "protocol",
    "context_window",
    "max_output_tokens",
    "supports_functions",
    "supports_streaming",
    "facts",
)
MOST_MODELS: Final = 20_000
MOST_MAPPINGS: Final = 2_000

# What clients have come to call some models, by catalog id: offered as rows that anybody may
# change or take away. Several of the names on the right are gone at their vendors.
DEFAULT_MAPPINGS: Final[Mapping[str, Mapping[str, str]]] = {
    "anthropic": {"claude-3-5-sonnet": "claude-3-5-sonnet-20241022"},
    "openai": {"gpt-4-turbo": "gpt-4-turbo-preview"},
    "google": {"gemini-1.5-pro": "gemini-1.5-pro-preview-0514"},
    "openrouter": {
        "claude-3-5-sonnet": "anthropic/claude-3.5-sonnet",
        "gpt-4-turbo": "openai/gpt-4-turbo",
        "gemini-1.5-pro": "google/gemini-pro-1.5",
    },
}


class NameTaken(ProviderError):
    """The registration has this name already."""

    kind = FaultKind.CONFLICT
    code = "name_taken"


class TooMany(ProviderError):
    kind = FaultKind.BAD_REQUEST
    code = "too_many"


def add_model(
    *,
    provider: Provider,
    upstream_id: str,
    secrets: Mapping[uuid.UUID, Secret] | None = None,
    **values: Any,
) -> ProviderModel:
    """One more model of a registration, or other facts about one the catalog knows. Where its
    protocol lives at another host, `secrets` must bring each stored one again. Raises NameTaken,
    ProviderRegistrationError, ValidationError, SecretNeededAgain."""
    model = ProviderModel(provider=provider, upstream_id=upstream_id, **values)
    with _changing(provider, values.get("protocol", ""), secrets):
        if provider.models.count() >= MOST_MODELS:
            raise TooMany(f"A registration holds at most {MOST_MODELS:,} models.")
        _check(model)
        _insert(model)
        record(
            tenant_id=provider.tenant_id,
            action="model.added",
            target=model,
            after={"provider": provider.slug, "upstream_id": upstream_id, **values},
        )
    return model


def change_model(
    model: ProviderModel,
    *,
    expected_version: int | None = None,
    secrets: Mapping[uuid.UUID, Secret] | None = None,
    **values: Any,
) -> ProviderModel:
    """Changes what a registration says of a model; from then on the row is a person's own, which
    no refresh touches. Raises StaleVersion and what `add_model` raises."""
    provider = model.provider
    version = model.version if expected_version is None else expected_version
    before = {name: getattr(model, name) for name in values}
    changed = ProviderModel(**{f.attname: getattr(model, f.attname) for f in _columns()})
    for name, value in values.items():
        setattr(changed, name, value)
    differs = {name: getattr(changed, name) for name in values if before[name] != values[name]}
    if not differs:
        return model
    changed.origin = ProviderModel.Origin.MANUAL
    with _changing(provider, changed.protocol, secrets):
        _check(changed)
        try:
            with transaction.atomic():
                moved = ProviderModel.objects.filter(pk=model.pk, version=version).update(
                    **{name: getattr(changed, name) for name in (*differs, "origin")},
                    version=F("version") + 1,
                    updated_at=clock.now(),
                )
        except IntegrityError:
            raise _taken(changed) from None
        if not moved:
            raise StaleVersion("Somebody else changed this model: load it again.")
        record(
            tenant_id=provider.tenant_id,
            action="model.changed",
            target=changed,
            before={"provider": provider.slug, **{name: before[name] for name in differs}},
            after=differs,
        )
    for name in (*differs, "origin"):
        setattr(model, name, getattr(changed, name))
    model.version = version + 1
    return model


def remove_model(model: ProviderModel) -> None:
    """What the registration said of a model is gone; the catalog's own word counts again."""
    provider = model.provider
    with _changing(provider, ""):
        record(
            tenant_id=provider.tenant_id,
            action="model.removed",
            target=model,
            before={
                "provider": provider.slug,
                **{name: getattr(model, name) for name in MODEL_FIELDS},
            },
        )
        model.delete()


@transaction.atomic
def replace_models(provider: Provider, models: Sequence[Mapping[str, Any]]) -> int:
    """The registration says exactly this of its models. Returns how many rows changed. What a
    refresh has found stays, unless it is named here."""
    wanted: dict[tuple[str, str], dict[str, Any]] = {}
    for entry in models:
        place = (str(entry["upstream_id"]), str(entry.get("alias", "")))
        if place in wanted:
            raise NameTaken(f"{place[1] or place[0]!r} stands twice in the list of models.")
        wanted[place] = {**_defaults(), **entry}
    changes = 0
    for row in list(provider.models.select_related("provider")):
        values = wanted.pop((row.upstream_id, row.alias), None)
        if values is not None:
            differs = any(getattr(row, name) != value for name, value in values.items())
            change_model(row, **values)
            changes += differs
        elif row.origin == ProviderModel.Origin.MANUAL:
            remove_model(row)
            changes += 1
    for values in wanted.values():
        add_model(provider=provider, **values)
        changes += 1
    return changes


@transaction.atomic
def enable_models(models: Iterable[ProviderModel], *, is_enabled: bool) -> int:
    """Switches models on or off. Returns how many were otherwise before."""
    changed = 0
    for model in models:
        if model.is_enabled != is_enabled:
            change_model(model, is_enabled=is_enabled)
            changed += 1
    return changed


@transaction.atomic
def set_mapping(
    provider: Provider, *, client_model: str, upstream_model: str, owned_by: str = ""
) -> ModelMapping:
    """'When a client asks for X, this provider calls it Y.' One of the same name is replaced."""
    row = provider.mappings.filter(client_model=client_model).first()
    if row is not None:
        return change_mapping(row, upstream_model=upstream_model, owned_by=owned_by)
    return add_mapping(
        provider, client_model=client_model, upstream_model=upstream_model, owned_by=owned_by
    )


@transaction.atomic
def add_mapping(
    provider: Provider, *, client_model: str, upstream_model: str, owned_by: str = ""
) -> ModelMapping:
    """Raises NameTaken, TooMany, ValidationError."""
    if provider.mappings.count() >= MOST_MAPPINGS:
        raise TooMany(f"A registration holds at most {MOST_MAPPINGS:,} mappings.")
    row = ModelMapping(
        provider=provider,
        client_model=client_model,
        upstream_model=upstream_model,
        owned_by=owned_by,
    )
    row.full_clean(exclude=["provider"], validate_unique=False, validate_constraints=False)
    try:
        with transaction.atomic():
            row.save(force_insert=True)
    except IntegrityError:
        raise _mapped_already(client_model) from None
    record(
        tenant_id=provider.tenant_id,
        action="mapping.added",
        target=row,
        after={
            "provider": provider.slug,
            "client_model": client_model,
            "upstream_model": upstream_model,
        },
    )
    _changed(provider)
    return row


@transaction.atomic
def change_mapping(
    mapping: ModelMapping, *, expected_version: int | None = None, **values: Any
) -> ModelMapping:
    """Raises StaleVersion and what `add_mapping` raises."""
    version = mapping.version if expected_version is None else expected_version
    before = {name: getattr(mapping, name) for name in values}
    differs = {name: value for name, value in values.items() if before[name] != value}
    if not differs:
        return mapping
    for name, value in differs.items():
        setattr(mapping, name, value)
    mapping.full_clean(exclude=["provider"], validate_unique=False, validate_constraints=False)
    try:
        with transaction.atomic():
            moved = ModelMapping.objects.filter(pk=mapping.pk, version=version).update(
                **differs, version=F("version") + 1, updated_at=clock.now()
            )
    except IntegrityError:
        raise _mapped_already(mapping.client_model) from None
    if not moved:
        raise StaleVersion("Somebody else changed this mapping: load it again.")
    mapping.version = version + 1
    record(
        tenant_id=mapping.provider.tenant_id,
        action="mapping.changed",
        target=mapping,
        before={name: before[name] for name in differs},
        after={"provider": mapping.provider.slug, **differs},
    )
    _changed(mapping.provider)
    return mapping


@transaction.atomic
def remove_mapping(mapping: ModelMapping) -> None:
    record(
        tenant_id=mapping.provider.tenant_id,
        action="mapping.removed",
        target=mapping,
        before={
            "provider": mapping.provider.slug,
            "client_model": mapping.client_model,
            "upstream_model": mapping.upstream_model,
        },
    )
    mapping.delete()
    _changed(mapping.provider)


def default_mappings(provider: Provider) -> dict[str, str]:
    """What is offered for this registration and not there yet."""
    offered = DEFAULT_MAPPINGS.get(provider.catalog_id, {})
    taken = set(provider.mappings.values_list("client_model", flat=True))
    return {name: model for name, model in offered.items() if name not in taken}


@transaction.atomic
def add_default_mappings(provider: Provider) -> int:
    """Writes the offered rows that are not there. Returns how many."""
    offered = default_mappings(provider)
    for client_model, upstream_model in offered.items():
        set_mapping(provider, client_model=client_model, upstream_model=upstream_model)
    return len(offered)


@contextmanager
def together(
    provider: Provider, *, is_moving: bool, secrets: Mapping[uuid.UUID, Secret] | None = None
) -> Iterator[None]:
    """Around many changes of one registration's models: whether it still works is looked at once,
    at the end, since a look takes as long as there are models. `is_moving`: some model says its
    protocol, which may live at another host; then also where secrets go."""
    with _looking(provider, is_moving=is_moving, secrets=secrets):
        token = _together.set(_Around(provider.pk, is_moving))
        try:
            yield
        finally:
            _together.reset(token)


@dataclass(frozen=True, slots=True)
class _Around:
    provider_id: uuid.UUID
    is_moving: bool


# The registration whose changes are looked at together.
_together: ContextVar[_Around | None] = ContextVar("models_together", default=None)


@contextmanager
def _changing(
    provider: Provider, protocol: str, secrets: Mapping[uuid.UUID, Secret] | None = None
) -> Iterator[None]:
    """Around a change of models: it must still work afterwards, and send no secret anywhere new."""
    if protocol and protocol not in registry.slugs():
        raise ProviderRegistrationError(
            f"There is no protocol {protocol!r}; there are {', '.join(registry.slugs())}.",
            param="protocol",
        )
    around = _together.get()
    if (
        around is not None
        and around.provider_id == provider.pk
        and (around.is_moving or not protocol)
    ):
        with transaction.atomic():
            yield
        return
    with _looking(provider, is_moving=bool(protocol), secrets=secrets):
        yield


@contextmanager
def _looking(
    provider: Provider, *, is_moving: bool, secrets: Mapping[uuid.UUID, Secret] | None
) -> Iterator[None]:
    with transaction.atomic():
        held = Provider.objects.select_for_update().get(pk=provider.pk)
        before = destinations(held) if is_moving else None
        yield
        _forget_prefetched(provider)
        settings = effective_of(held)
        if before is not None and destinations(held, effective=settings).reach_beyond(before):
            require_secrets_again(held, secrets or {}, has_secret_headers=False)
        bump("registrations")


def _changed(provider: Provider) -> None:
    _forget_prefetched(provider)
    bump("registrations")


def _forget_prefetched(provider: Provider) -> None:
    for name in ("models", "mappings"):
        getattr(provider, "_prefetched_objects_cache", {}).pop(name, None)


def _mapped_already(client_model: str) -> NameTaken:
    return NameTaken(f"The registration maps {client_model!r} already.", param="client_model")


def _check(model: ProviderModel) -> None:
    check_shapes(model)
    model.full_clean(exclude=["provider"], validate_unique=False, validate_constraints=False)
    file = catalog().get(model.provider.catalog_id)
    if file is None or model.provider.base_url:
        return
    if model.protocol not in {"", file.protocol, *file.protocols}:
        known = ", ".join(sorted({file.protocol, *file.protocols} - {""}))
        raise ProviderRegistrationError(
            f"{file.id!r} has no address for {model.protocol!r}: choose from {known}, or give "
            "the registration a base URL.",
            param="protocol",
        )


def _insert(row: ProviderModel) -> None:
    try:
        with transaction.atomic():
            row.save(force_insert=True)
    except IntegrityError:
        raise _taken(row) from None


def _taken(model: ProviderModel) -> NameTaken:
    return NameTaken(f"The registration has {str(model)!r} already.", param="upstream_id")


def _defaults() -> dict[str, Any]:
    return {
        field.name: field.get_default()
        for field in _columns()
        if field.name in MODEL_FIELDS and field.name != "upstream_id"
    }


def _columns() -> list[Any]:
    return list(ProviderModel._meta.concrete_fields)
