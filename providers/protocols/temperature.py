"""Which of temperature and top_p a model takes."""

from __future__ import annotations

from providers.protocols.canonical import ModelSpec, Sampling
from providers.protocols.losses import Loss, LossCode


def temperature_and_top_p(
    wish: Sampling, model: ModelSpec, losses: list[Loss]
) -> tuple[float | None, float | None]:
    temperature, top_p = wish.temperature, wish.top_p
    if temperature is not None and not model.quirks.supports_temperature:
        losses.append(
            Loss("sampling.temperature", LossCode.DROPPED, "this model takes no temperature")
        )
        temperature = None
    is_either = not model.quirks.supports_top_p_with_temperature
    if temperature is not None and top_p is not None and is_either:
        losses.append(
            Loss("sampling.top_p", LossCode.DROPPED, "this model takes it without temperature only")
        )
        top_p = None
    return temperature, top_p
