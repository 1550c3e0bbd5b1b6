"""Gemini's embeddings: passed on with the model's name exchanged wherever it stands."""

from __future__ import annotations

from typing import Any, Final

from controlplane.kit.json import JSONDict, dumps
from providers.protocols.canonical import ModelSpec, Usage
from providers.protocols.errors import LocalProtocolError
from providers.protocols.google_generative_ai.relay import answer_usage, model_name

ACTIONS: Final = ("embedContent", "batchEmbedContents")
# A request of either action, and the list that holds several of them.
_REQUESTS: Final = "requests"


def patched(body: JSONDict, model: ModelSpec) -> bytes:
    """The body for `model`. Google refuses one whose names differ from that of the path."""
    name = model_name(model)
    requests: Any = body.get(_REQUESTS)
    if requests is None:
        return dumps({**body, "model": name} if "model" in body else body)
    if type(requests) is not list or not all(type(one) is dict for one in requests):
        raise LocalProtocolError("`requests` must be a list of objects.", param=_REQUESTS)
    return dumps({**body, _REQUESTS: [{**one, "model": name} for one in requests]})


def usage(body: bytes) -> Usage | None:
    return answer_usage(body)
