"""What somebody else says, held against what we have."""

from __future__ import annotations

from providers.catalog.diff import Difference, FieldChange, difference, overrides
from providers.catalog.listings import FoundModel
from providers.catalog.loader import catalog
from providers.catalog.schema import Model, Price, Tier

KNOWN = {
    "big": Model(
        id="big",
        context_window=200_000,
        max_output_tokens=64_000,
        modalities=("text", "image"),
        reasoning=True,
        price=Price(
            input="3", output="15", cache_read="0.30", cache_write="3.75", cache_write_1h="6"
        ),
    ),
    "bare": Model(id="bare"),
    "old": Model(id="old", is_retired=True),
}


def test_what_is_not_said_is_no_change() -> None:
    found = difference(KNOWN, [FoundModel(id="big"), FoundModel(id="bare")])
    assert found == Difference()
    assert found.is_empty


def test_new_changed_and_gone() -> None:
    found = difference(
        KNOWN, [FoundModel(id="big", context_window=1_000_000), FoundModel(id="new")]
    )
    assert [model.id for model in found.added] == ["new"]
    assert found.changed == (
        FieldChange(model="big", field="context_window", before=200_000, after=1_000_000),
    )
    # A retired model is expected to be missing.
    assert found.gone == ("bare",)


def test_the_same_price_in_other_words_is_no_change() -> None:
    price = {"input": "3.00", "output": "15", "cache_read": "0.3"}
    assert difference(KNOWN, [FoundModel(id="big", price=price)]).changed == ()


def test_a_new_price_keeps_what_they_do_not_know() -> None:
    facts = overrides(KNOWN, FoundModel(id="big", price={"input": "4", "output": "20"}))
    assert facts["price"] == {
        "input": "4",
        "output": "20",
        "cache_read": "0.30",
        "cache_write": "3.75",
        # An hour's write is twice the input, so it follows.
        "cache_write_1h": "8",
    }


def test_tiers_stay_when_a_listing_knows_none() -> None:
    tiered = Model(
        id="t",
        price=Price(
            input="2", output="8", tiers=(Tier(above_input_tokens=9, input="4", output="9"),)
        ),
    )
    price = {"input": "1", "output": "8"}
    facts = overrides({"t": tiered}, FoundModel(id="t", price=price))
    assert facts["price"]["tiers"] == [{"above_input_tokens": 9, "input": "4", "output": "9"}]


def test_modalities_are_only_added() -> None:
    facts = overrides(KNOWN, FoundModel(id="big", modalities=("text", "document")))
    assert facts == {"modalities": ["text", "image", "document"]}
    assert overrides(KNOWN, FoundModel(id="big", modalities=("text",))) == {}


def test_everything_said_of_a_stranger_is_kept() -> None:
    stranger = FoundModel(
        id="new", name="New", kind="chat", context_window=9, modalities=("text",), reasoning=False
    )
    assert overrides(KNOWN, stranger) == {
        "name": "New", "kind": "chat", "context_window": 9, "modalities": ["text"],
        "reasoning": False,
    }  # fmt: skip


def test_the_whole_catalog_differs_in_nothing_from_itself() -> None:
    for file in catalog().values():
        known = {model.id: model for model in file.models if not model.is_retired}
        said = [
            FoundModel(
                id=model.id,
                context_window=model.context_window or None,
                max_output_tokens=model.max_output_tokens or None,
                modalities=model.modalities,
                reasoning=model.reasoning,
            )
            for model in known.values()
        ]
        assert difference(known, said).is_empty, file.id
