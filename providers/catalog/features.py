"""Can this model do that? Three sources, the most specific first; each answer names its own.

Model facts (the catalog's, changed by the registration), then what the provider is said to do,
then what probes found out. Where none has spoken the answer is unknown, not no. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, get_args

import msgspec

from providers.catalog.effective import EffectiveModel
from providers.catalog.schema import Feature, Model

FeatureSource = Literal["model", "provider", "probe", "unknown"]
FEATURES: Final[tuple[Feature, ...]] = get_args(Feature)

# The facts name text and images for every model, the others only where somebody looked.
_MODALITIES: Final[dict[Feature, str]] = {
    "documents": "document",
    "audio": "audio",
    "video": "video",
}
_KINDS: Final[dict[Feature, str]] = {
    "embeddings": "embedding",
    "images": "image",
    "speech": "speech",
    "transcription": "transcription",
    "moderation": "moderation",
}
# What only a model that chats can do: an embedding model does none of it.
_CHAT_ONLY: Final[tuple[Feature, ...]] = (
    "functions",
    "reasoning",
    "structured_output",
    "prompt_caching",
    "web_search",
    "code_generation",
)


class Capability(msgspec.Struct, frozen=True, kw_only=True):
    """`is_supported` None = nobody knows."""

    feature: Feature
    is_supported: bool | None
    source: FeatureSource


def capability(
    feature: Feature,
    *,
    model: Mapping[Feature, bool],
    provider: Mapping[str, bool],
    probed: Mapping[str, bool],
) -> Capability:
    """The answer of the most specific source that has one."""
    sources: tuple[tuple[FeatureSource, Mapping[Feature, bool] | Mapping[str, bool]], ...] = (
        ("model", model),
        ("provider", provider),
        ("probe", probed),
    )
    for source, said in sources:
        found = said.get(feature)
        if found is not None:
            return Capability(feature=feature, is_supported=found, source=source)
    return Capability(feature=feature, is_supported=None, source="unknown")


def capabilities(
    *, model: Mapping[Feature, bool], provider: Mapping[str, bool], probed: Mapping[str, bool]
) -> tuple[Capability, ...]:
    return tuple(
        capability(feature, model=model, provider=provider, probed=probed) for feature in FEATURES
    )


def facts_of(model: EffectiveModel, catalogued: Model | None) -> dict[Feature, bool]:
    """What is known of this model itself. `catalogued` None = the catalog has never heard of it:
    then only what somebody said counts, and a default is no fact."""
    facts: dict[Feature, bool] = {}
    if catalogued is not None:
        facts["vision"] = "image" in model.spec.modalities
        for feature, modality in _MODALITIES.items():
            if modality in model.spec.modalities:
                facts[feature] = True
        facts["reasoning"] = model.spec.reasoning
        facts["multimodal"] = len(model.spec.modalities) > 1
        if model.price is not None and model.price.cache_read:
            facts["prompt_caching"] = True
    if catalogued is not None or model.kind != "chat":
        for feature, kind in _KINDS.items():
            facts[feature] = model.kind == kind
        if model.kind != "chat":
            facts.update(dict.fromkeys(_CHAT_ONLY, False))
    # True is also the default, so only a refusal is a statement.
    if not model.functions:
        facts["functions"] = False
    if not model.streaming:
        facts["streaming"] = False
    for name in model.features:
        facts[name] = True  # type: ignore[index]  # EffectiveModel keeps them as plain text
    return facts
