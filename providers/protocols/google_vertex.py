"""Vertex AI: the Gemini body at another address, with labels (wire-protocols 8).

The address comes from `model.endpoint`: `project` and `location`, or neither (express mode, an
API key alone). `api_version` replaces `v1`; empty when the base URL already holds a version.
"""

from __future__ import annotations

from typing import Final

from controlplane.kit.json import JSONDict
from providers.protocols.canonical import ModelSpec
from providers.protocols.errors import LocalProtocolError
from providers.protocols.google_generative_ai.codec import GoogleRelay, model_segment
from providers.protocols.google_generative_ai.request import Differences

SLUG: Final = "google-vertex"


class GoogleVertex(GoogleRelay):
    slug = SLUG
    differences = Differences(has_labels=True, has_service_tier=False)

    def path(self, model: ModelSpec, action: str) -> str:
        endpoint = model.endpoint
        version = endpoint.get("api_version", "v1")
        prefix = f"/{version}" if version else ""
        project = endpoint.get("project", "")
        location = endpoint.get("location", "")
        if bool(project) is not bool(location):
            # Half a configuration is none: it would send one project's traffic to another path.
            missing = "location" if project else "project"
            raise LocalProtocolError(
                f"Vertex needs both project and location, or neither (express mode). "
                f"Set {missing} on the provider.",
                param=f"endpoint.{missing}",
            )
        if project:
            prefix += f"/projects/{model_segment(project)}/locations/{model_segment(location)}"
        publisher, _, name = model.id.rpartition("/models/")
        publisher = publisher.removeprefix("publishers/") or "google"
        return (
            f"{prefix}/publishers/{model_segment(publisher)}/models/{model_segment(name)}:{action}"
        )

    def count_body(self, body: JSONDict, model: ModelSpec) -> JSONDict:
        kept = ("contents", "systemInstruction", "tools", "generationConfig")
        return {key: body[key] for key in kept if key in body}


CODEC: Final = GoogleVertex()
