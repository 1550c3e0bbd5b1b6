"""Azure OpenAI: Responses under a deployment's name, with the version in the query.

Late `encrypted_content` and text before its part are handled by the shared decoder; the strict
pairing of reasoning with what follows it, by the shared encoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from controlplane.kit.json import dumps
from providers.protocols.canonical import ModelSpec, Request
from providers.protocols.codec import UpstreamCall
from providers.protocols.losses import Loss, LossCode
from providers.protocols.openai_responses.codec import ResponsesRelay, ResponsesUpstream
from providers.protocols.openai_responses.relay import patched, relayed
from providers.protocols.openai_responses.request import Body

SLUG: Final = "azure-openai-responses"
_NO_TIER: Final = "the tier is a property of the deployment"


def _deployment(model: ModelSpec) -> str:
    return model.endpoint.get("deployment") or model.id


def _query(model: ModelSpec) -> dict[str, str]:
    return {"api-version": model.endpoint.get("api_version") or "v1"}


class _AzureBody(Body):
    def add_tier(self) -> None:
        if self.request.service_tier is not None:
            self.lose("service_tier", LossCode.DROPPED, _NO_TIER)


class AzureCodec(ResponsesUpstream, ResponsesRelay):
    """Two halves: nobody calls us in Azure's name, but Responses clients can be relayed."""

    slug = SLUG
    # The dialects whose bodies it takes as they are.
    relays = frozenset({"openai-responses"})

    def encode_request(
        self, request: Request, model: ModelSpec, *, request_id: str
    ) -> UpstreamCall:
        body = _AzureBody(request, model)
        body.add_all()
        body.fields["model"] = _deployment(model)
        return body.call(query=_query(model))

    def relay_request(
        self, raw: bytes, body: Mapping[str, Any], model: ModelSpec, *, stream: bool
    ) -> tuple[UpstreamCall, bytes]:
        patch, losses = patched(raw, body, model, stream=stream)
        patch.set("model", dumps(_deployment(model)))
        if "service_tier" in patch:
            patch.drop("service_tier")
            losses.append(Loss("service_tier", LossCode.DROPPED, _NO_TIER))
        return relayed(patch, body, model, losses, stream=stream, query=_query(model))


CODEC: Final = AzureCodec()
