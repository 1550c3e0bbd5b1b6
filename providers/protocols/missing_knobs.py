"""What the Anthropic, Bedrock and Kiro wires all lack: refused or reported in the same words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from providers.protocols.canonical import Request
from providers.protocols.errors import UnsupportedParameter
from providers.protocols.losses import Loss, LossCode

UNKNOWN_SAMPLING: Final = (
    "min_p",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "logit_bias",
    "top_logprobs",
)


def refuse_state(request: Request, slug: str) -> None:
    """Several answers and conversations kept by the vendor: without them the answer is another."""
    n = request.sampling.n
    if n is not None and n > 1:
        raise UnsupportedParameter(
            f"{slug} gives one answer per request: send n = 1 or repeat the request.",
            param="sampling.n",
        )
    for name in ("previous_response_id", "conversation"):
        if getattr(request, name) is not None:
            raise UnsupportedParameter(
                f"{slug} keeps no conversations: send all messages instead of `{name}`.",
                param=name,
            )


def report_sampling(request: Request, losses: list[Loss], names: Iterable[str]) -> None:
    """One loss for each of these that the client set."""
    for name in names:
        if getattr(request.sampling, name) not in (None, ()):
            losses.append(Loss(f"sampling.{name}", LossCode.DROPPED, "unknown to this protocol"))
    if request.sampling.logprobs:
        losses.append(
            Loss("sampling.logprobs", LossCode.DROPPED, "this protocol reports no probabilities")
        )


def report_labels(request: Request, losses: list[Loss]) -> None:
    if request.verbosity is not None:
        losses.append(Loss("verbosity", LossCode.DROPPED, "unknown to this protocol"))
    if request.store:
        losses.append(Loss("store", LossCode.DROPPED, "this protocol stores no answers"))


def report_extra(request: Request, losses: list[Loss]) -> None:
    for key in request.extra:
        losses.append(Loss(f"extra.{key}", LossCode.DROPPED, "unknown to this protocol"))
