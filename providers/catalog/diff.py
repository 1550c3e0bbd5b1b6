"""What somebody else says of a provider's models, held against what we have. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec

from controlplane.kit.json import JSONDict
from providers.catalog.listings import FoundModel
from providers.catalog.schema import Model, Price

# Fields that others know too, in the order in which a diff shows them.
COMPARED: Final = (
    "context_window",
    "max_output_tokens",
    "modalities",
    "reasoning",
    "functions",
    "price",
)


class FieldChange(msgspec.Struct, frozen=True, kw_only=True):
    model: str
    field: str
    before: Any
    after: Any


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """`gone` = known here, not named there. From a listing it says what this credential does not
    see; from a facts file, only that the file is not complete."""

    added: tuple[FoundModel, ...] = ()
    changed: tuple[FieldChange, ...] = ()
    gone: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not (self.added or self.changed or self.gone)


def difference(
    known: Mapping[str, Model],
    found: Iterable[FoundModel],
    named: frozenset[str] | None = None,
) -> Difference:
    """`known` by upstream id, retired ones too. What `found` does not say is no change. `named`
    = the names that decide what is gone, where `found` holds others as well."""
    added: list[FoundModel] = []
    changed: list[FieldChange] = []
    seen: set[str] = set()
    for other in found:
        seen.add(other.id)
        ours = known.get(other.id)
        if ours is None:
            added.append(other)
        else:
            changed += _changes(ours, other)
    there = seen if named is None else named
    gone = tuple(
        name for name, model in known.items() if name not in there and not model.is_retired
    )
    return Difference(added=tuple(added), changed=tuple(changed), gone=gone)


def overrides(known: Mapping[str, Model], found: FoundModel) -> JSONDict:
    """The facts of `found` that differ from what we have, as ProviderModel.facts keeps them; all
    that it says when we know nothing."""
    ours = known.get(found.id)
    if ours is None:
        facts = {name: getattr(found, name) for name in ("name", "kind", *COMPARED)}
        return {
            name: list(value) if type(value) is tuple else value
            for name, value in facts.items()
            if value not in (None, "")
        }
    return {change.field: change.after for change in _changes(ours, found)}


def _changes(ours: Model, other: FoundModel) -> list[FieldChange]:
    out: list[FieldChange] = []
    for name in COMPARED:
        after = getattr(other, name)
        if after is None:
            continue
        before = getattr(ours, name)
        if name == "price":
            after = _merged_price(ours.price, after)
            if _same_price(ours.price, after):
                continue
            before = None if ours.price is None else _written(ours.price)
        elif name == "modalities":
            # Others have words that we map to ours; what we know beyond that stays.
            missing = [word for word in after if word not in before]
            if not missing:
                continue
            before, after = list(before), [*before, *missing]
        elif before == after:
            continue
        out.append(FieldChange(model=ours.id, field=name, before=before, after=after))
    return out


def _merged_price(ours: Price | None, other: JSONDict) -> JSONDict:
    """Their figures over ours: a listing rarely knows of tiers, 1-hour writes or audio."""
    if ours is None:
        return other
    merged = {**_written(ours), **other}
    was_doubled = ours.cache_write_1h and Decimal(ours.cache_write_1h) == 2 * Decimal(ours.input)
    if was_doubled and "cache_write_1h" not in other:
        # Anthropic bills an hour's write at twice the input: it follows the new price.
        merged["cache_write_1h"] = _plain(2 * Decimal(merged["input"]))
    return merged


def _same_price(ours: Price | None, other: JSONDict) -> bool:
    return ours is not None and _canonical(_written(ours)) == _canonical(other)


def _written(price: Price) -> JSONDict:
    built: JSONDict = msgspec.to_builtins(price)
    built["tiers"] = [
        {name: value for name, value in tier.items() if value != ""} for tier in built["tiers"]
    ]
    return {name: value for name, value in built.items() if value not in ("", [], {})}


def _canonical(price: JSONDict) -> JSONDict:
    """Amounts as numbers, so that "2.50" and "2.5" are one."""
    out: JSONDict = {}
    for name, value in price.items():
        if name == "tiers":
            out[name] = [_canonical(tier) for tier in value]
        elif isinstance(value, str):
            out[name] = Decimal(value)
        else:
            out[name] = value
    return out


def _plain(amount: Decimal) -> str:
    return format(amount.normalize(), "f")
