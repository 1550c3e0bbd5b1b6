"""Who answers "can it do that": the model's facts, the provider's, a probe, or nobody."""

from __future__ import annotations

import pytest

from providers.catalog.effective import EffectiveModel, ModelChange, Registration, effective
from providers.catalog.features import FEATURES, FeatureSource, capabilities, capability, facts_of
from providers.catalog.loader import catalog
from providers.catalog.schema import Model


@pytest.mark.parametrize(
    ("model", "provider", "probed", "supported", "source"),
    [
        ({"vision": True}, {"vision": False}, {"vision": False}, True, "model"),
        ({"vision": False}, {"vision": True}, {"vision": True}, False, "model"),
        ({}, {"vision": True}, {"vision": False}, True, "provider"),
        ({}, {"vision": False}, {"vision": True}, False, "provider"),
        ({}, {}, {"vision": True}, True, "probe"),
        ({}, {}, {"vision": False}, False, "probe"),
        ({"audio": True}, {"audio": True}, {"audio": True}, None, "unknown"),
        ({}, {}, {}, None, "unknown"),
    ],
)
def test_the_most_specific_source_decides(
    model: dict[str, bool],
    provider: dict[str, bool],
    probed: dict[str, bool],
    supported: bool | None,
    source: FeatureSource,
) -> None:
    answer = capability("vision", model=model, provider=provider, probed=probed)  # type: ignore[arg-type]
    assert (answer.is_supported, answer.source) == (supported, source)


def one(provider: str, model: str, **change: object) -> tuple[EffectiveModel, Model | None]:
    file = catalog()[provider]
    changes = (ModelChange(upstream_id=model, **change),)  # type: ignore[arg-type]
    made = effective(Registration(slug=provider, catalog_id=provider, models=changes), file)
    found = next(entry for entry in made.models if entry.spec.id == model)
    return found, next((entry for entry in file.models if entry.id == model), None)


def test_facts_of_a_known_model() -> None:
    facts = facts_of(*one("openai", "gpt-4o"))
    assert facts["vision"] is True
    assert facts["reasoning"] is False
    assert facts["embeddings"] is False
    assert facts["prompt_caching"] is True
    # The record knows text and images only: of documents the provider may speak.
    assert "documents" not in facts
    assert "streaming" not in facts


def test_facts_of_an_embedding_model() -> None:
    facts = facts_of(*one("openai", "text-embedding-3-small"))
    assert facts["embeddings"] is True
    assert facts["functions"] is False
    assert facts["reasoning"] is False
    assert facts["streaming"] is False


def test_a_model_nobody_described_has_no_facts() -> None:
    facts = facts_of(*one("openai", "gpt-99"))
    assert facts == {}
    answers = capabilities(
        model=facts, provider={"functions": True}, probed={"vision": True, "functions": False}
    )
    said = {answer.feature: (answer.is_supported, answer.source) for answer in answers}
    assert said["functions"] == (True, "provider")
    assert said["vision"] == (True, "probe")
    assert said["audio"] == (None, "unknown")
    assert tuple(said) == FEATURES


def test_what_a_registration_denies_is_a_fact() -> None:
    facts = facts_of(*one("openai", "gpt-4o", supports_functions=False, supports_streaming=False))
    assert facts["functions"] is False
    assert facts["streaming"] is False


def test_refreshed_modalities_count() -> None:
    facts = facts_of(*one("openai", "gpt-4o", facts={"modalities": ["text", "image", "document"]}))
    assert facts["documents"] is True
