"""GET /v1/models and /v1/models/{model} in the shape that the caller's SDK expects."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import parse_qs

from controlplane.kit import json
from controlplane.kit.json import JSONDict
from controlplane.proxy import respond
from controlplane.proxy.errors import UnknownModel
from controlplane.proxy.exchange import Answer, Exchange
from controlplane.proxy.routes import CHAT, GEMINI, MESSAGES
from providers.routing.plan import nearest_names
from providers.routing.table import ListedModel, RouteTable
from tenants.keys.snapshot import KeyRecord


def shape_of(exchange: Exchange) -> str:
    """Anthropic's SDKs share the path with OpenAI's and tell themselves apart by a header."""
    if exchange.route.dialect == CHAT and (
        exchange.header(b"anthropic-version")
        or exchange.header(b"user-agent").startswith("claude-cli")
    ):
        return MESSAGES
    return exchange.route.dialect


def answer(exchange: Exchange, caller: KeyRecord, table: RouteTable) -> Answer:
    shape = shape_of(exchange)
    allowed = [model for model in table.models if caller.allows_model(model.id)]
    if exchange.route.operation == "model":
        name = exchange.model or ""
        found = next((model for model in allowed if model.id == name), None)
        if found is None:
            near = nearest_names(name, table, caller.allows_model)
            hint = f" Did you mean {', '.join(near)}?" if near else ""
            raise UnknownModel(
                f"The model {name[:200]!r} does not exist or this key may not use it.{hint}",
                param="model",
            )
        body = _entry(found, shape)
    else:
        wanted = parse_qs(exchange.query.decode("latin-1")).get("provider")
        if wanted:
            allowed = [model for model in allowed if model.owned_by in wanted]
        body = _list(allowed, shape)
    return Answer(200, respond.json_headers(exchange.shown_id), json.dumps(body))


def _list(models: list[ListedModel], shape: str) -> JSONDict:
    entries = [_entry(model, shape) for model in models]
    if shape == MESSAGES:
        return {
            "data": entries,
            "has_more": False,
            "first_id": models[0].id if models else None,
            "last_id": models[-1].id if models else None,
        }
    if shape == GEMINI:
        return {"models": entries}
    return {"object": "list", "data": entries}


def _entry(model: ListedModel, shape: str) -> JSONDict:
    if shape == MESSAGES:
        created = datetime.fromtimestamp(model.created, UTC)
        return {
            "type": "model",
            "id": model.id,
            "display_name": model.display_name or model.id,
            "created_at": created.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
    if shape == GEMINI:
        return {
            "name": f"models/{model.id}",
            "displayName": model.display_name or model.id,
            "inputTokenLimit": model.context_window,
            "outputTokenLimit": model.max_output_tokens,
            "supportedGenerationMethods": [
                "generateContent",
                "streamGenerateContent",
                "countTokens",
            ],
        }
    return {
        "id": model.id,
        "object": "model",
        "created": model.created,
        "owned_by": model.owned_by,
    }
