"""Everything a registration could offer, line by line: what clients may use, and what is hidden and
why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from controlplane.kit.badges import StateChoices, Tone
from providers.catalog.effective import Effective, EffectiveModel, Origin, is_excluded
from providers.catalog.models import Provider, ProviderModel
from providers.catalog.refresh import known_models
from providers.catalog.schema import Price

SHOWN_NAMES: Final = 3


class Offer(StateChoices):
    """Whether clients may use a model of a registration. No column."""

    ON = "on", Tone.GOOD, "On"
    OFF = "off", Tone.QUIET, "Off"
    EXCLUDED = "excluded", Tone.QUIET, "Excluded by pattern"


@dataclass(frozen=True, slots=True)
class ModelLine:
    """`row` None = all that is said of it is the catalog's. `context_window` 0 = unknown."""

    upstream_id: str
    offer: Offer
    display_name: str = ""
    names: tuple[str, ...] = ()
    kind: str = "chat"
    protocol: str = ""
    context_window: int = 0
    max_output_tokens: int = 0
    context_origin: Origin | None = None
    price: str = ""
    row: ProviderModel | None = None

    @property
    def other_names(self) -> str:
        others = [name for name in self.names if name != self.upstream_id]
        shown = ", ".join(others[:SHOWN_NAMES])
        return f"{shown} and {len(others) - SHOWN_NAMES} more" if len(others) > 3 else shown

    def matches(self, words: Iterable[str]) -> bool:
        text = " ".join((self.upstream_id, self.display_name, *self.names)).lower()
        return all(word in text for word in words)


def model_lines(provider: Provider, effective: Effective | None) -> list[ModelLine]:
    """What is on first, each part by name. With `effective` None (the settings do not merge) only
    the registration's own rows are known."""
    rows: dict[str, ProviderModel] = {}
    for row in provider.models.all():
        # A model may have a row per alias; the one without an alias stands for it.
        if row.upstream_id not in rows or not row.alias:
            rows[row.upstream_id] = row
    offered = {model.spec.id: model for model in (effective.models if effective else ())}
    lines = [
        _offered(model, effective, rows.get(name))
        for name, model in offered.items()
        if effective is not None
    ]
    lines += list(_hidden(provider, rows, offered))
    return sorted(lines, key=lambda line: (line.offer is not Offer.ON, line.upstream_id.lower()))


def _offered(model: EffectiveModel, effective: Effective, row: ProviderModel | None) -> ModelLine:
    return ModelLine(
        upstream_id=model.spec.id,
        offer=Offer.ON,
        display_name=model.display_name,
        names=model.names,
        kind=model.kind,
        protocol=model.spec.protocol,
        context_window=model.spec.context_window,
        max_output_tokens=model.spec.max_output_tokens,
        context_origin=effective.origins.get(f"models.{model.spec.id}.context_window"),
        price=_price(model.price),
        row=row,
    )


def _hidden(
    provider: Provider, rows: dict[str, ProviderModel], offered: dict[str, EffectiveModel]
) -> Iterator[ModelLine]:
    patterns = tuple(provider.excluded_models)
    for name, model in known_models(provider).items():
        row = rows.get(name)
        if name in offered or (row is None and model.is_retired):
            continue
        yield ModelLine(
            upstream_id=name,
            offer=Offer.EXCLUDED if is_excluded(name, patterns) else Offer.OFF,
            display_name=(row.display_name if row else "") or model.name,
            kind=model.kind,
            protocol=row.protocol if row else "",
            context_window=model.context_window,
            max_output_tokens=model.max_output_tokens,
            price=_price(model.price),
            row=row,
        )


def _price(price: Price | None) -> str:
    """US dollars per million tokens, in and out."""
    return "" if price is None else f"{_dollars(price.input)} / {_dollars(price.output)}"


def _dollars(amount: str) -> str:
    """0.5 as $0.50, but 0.0375 whole."""
    whole, _, cents = amount.partition(".")
    return f"${whole}.{cents:0<2}"
