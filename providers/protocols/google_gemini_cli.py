"""Cloud Code Assist: the Gemini body inside an envelope (wire-protocols 9).

`model.endpoint` says what stands around the body: `project`, and optionally `user_agent` and
`request_type` (Antigravity: `agent`), `request_id_prefix`, `system_text` (put before the
client's own system prompt) and `system_role`.
"""

from __future__ import annotations

from typing import Final

from controlplane.kit.json import JSONDict
from providers.protocols.canonical import ModelSpec, Request, Text
from providers.protocols.errors import LocalProtocolError
from providers.protocols.google_generative_ai.codec import GoogleUpstream
from providers.protocols.google_generative_ai.request import Differences
from providers.protocols.losses import Loss, LossCode
from providers.protocols.names import digest

SLUG: Final = "google-gemini-cli"
_INTERLEAVED: Final = "interleaved-thinking-2025-05-14"


class GoogleGeminiCLI(GoogleUpstream):
    slug = SLUG
    differences = Differences(has_service_tier=False)

    def path(self, model: ModelSpec, action: str) -> str:
        return f"/v1internal:{action}"

    def headers(self, model: ModelSpec) -> dict[str, str]:
        if model.quirks.is_claude and model.reasoning:
            return {"anthropic-beta": _INTERLEAVED}
        return {}

    def envelope(
        self,
        body: JSONDict,
        request: Request,
        model: ModelSpec,
        request_id: str,
        losses: list[Loss],
    ) -> JSONDict:
        endpoint = model.endpoint
        project = endpoint.get("project", "")
        if not project:
            raise LocalProtocolError(
                "Code Assist needs a project. Sign in to this provider again, or set its project.",
                param="endpoint.project",
            )
        _prepend_system(body, endpoint)
        _raise_limit(body, model, losses)
        body["sessionId"] = _session(request)
        out: JSONDict = {
            "project": project,
            "model": model.id.removeprefix("models/"),
            "request": body,
            "userAgent": endpoint.get("user_agent", "provider-control-plane"),
            "requestId": endpoint.get("request_id_prefix", "") + request_id,
        }
        if request_type := endpoint.get("request_type", ""):
            out["requestType"] = request_type
        return out

    def count_body(self, body: JSONDict, model: ModelSpec) -> JSONDict:
        name = model.id.removeprefix("models/")
        return {"request": {"model": f"models/{name}", "contents": body["contents"]}}


def _prepend_system(body: JSONDict, endpoint: dict[str, str]) -> None:
    system = body.get("systemInstruction")
    if own := endpoint.get("system_text", ""):
        parts = system["parts"] if system is not None else []
        system = body["systemInstruction"] = {"parts": [{"text": own}, *parts]}
    if system is not None and (role := endpoint.get("system_role", "")):
        system["role"] = role


def _raise_limit(body: JSONDict, model: ModelSpec, losses: list[Loss]) -> None:
    """Claude here refuses an output limit that its thinking alone would fill (trap 111)."""
    generation = body.get("generationConfig", {})
    budget = generation.get("thinkingConfig", {}).get("thinkingBudget", 0)
    limit = generation.get("maxOutputTokens")
    if model.quirks.is_claude and limit is not None and limit <= budget:
        generation["maxOutputTokens"] = budget + limit
        losses.append(
            Loss("sampling.max_output_tokens", LossCode.CLAMPED, "must exceed the thinking budget")
        )


def _session(request: Request) -> str:
    """The same for every turn of a conversation: the backend keeps its cache by it."""
    if request.caching.key is not None:
        return digest(request.caching.key, 32)
    for message in request.messages:
        if message.role == "user":
            words = "\n".join(part.text for part in message.parts if isinstance(part, Text))
            if words:
                return digest(words, 32)
    return digest(request.model, 32)


CODEC: Final = GoogleGeminiCLI()
