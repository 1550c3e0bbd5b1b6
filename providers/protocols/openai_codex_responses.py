"""Codex, the ChatGPT subscription's Responses: always a stream, never a store, few knobs."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from controlplane.kit.json import JSONDict
from providers.protocols import levels
from providers.protocols.canonical import ModelSpec, Request, Sampling, Tool
from providers.protocols.codec import UpstreamCall
from providers.protocols.errors import UnsupportedParameter
from providers.protocols.losses import LossCode
from providers.protocols.openai_completions.caching import header_value, short_key
from providers.protocols.openai_responses.client_request import ENCRYPTED
from providers.protocols.openai_responses.codec import ResponsesUpstream
from providers.protocols.openai_responses.request import Body

SLUG: Final = "openai-codex-responses"
PATH: Final = "/codex/responses"
INSTRUCTIONS: Final = "You are a helpful assistant."
_REFUSED: Final = "the subscription's endpoint refuses it"
# State at the vendor that this endpoint does not offer over HTTP.
_STATE: Final = ("background", "prompt")
_NO_SAMPLING: Final = Sampling()
_SAMPLING: Final = tuple(name for name in Sampling.__struct_fields__ if name != "n")


class _CodexBody(Body):
    def add_all(self) -> None:
        self._refuse_state()
        self.add_input_with_instructions(INSTRUCTIONS)
        self.add_tools()
        # A built-in tool that was asked for by name travels beside the canonical choice.
        named = self.request.extra.get("tool_choice") if self.is_own else None
        self.fields.setdefault("tool_choice", named or "auto")
        if self.request.parallel_tool_calls is False and "tools" in self.fields:
            self.lose("parallel_tool_calls", LossCode.DROPPED, "calls are always parallel here")
        self.fields["parallel_tool_calls"] = True
        self._report_sampling()
        self.add_text()
        self.fields.setdefault("text", {}).setdefault("verbosity", "medium")
        self.fields["include"] = [ENCRYPTED]
        reasoning = self.reasoning_fields()
        if self.model.reasoning:
            self._complete_reasoning(reasoning)
        wish = self.request.caching
        if wish.key and wish.retention != "none":
            self.fields["prompt_cache_key"] = short_key(wish.key)
        if wish.retention == "long":
            self.lose("caching.retention", LossCode.DROPPED, _REFUSED)
        self.fields["store"] = False
        self.fields["stream"] = True
        self._report_identity()
        for name in self.request.extra:
            if self.is_own and name == "tool_choice":
                continue
            self.lose(f"extra.{name}", LossCode.DROPPED, _REFUSED)

    def _refuse_state(self) -> None:
        request = self.request
        state: dict[str, Any] = {
            "previous_response_id": request.previous_response_id,
            "conversation": request.conversation,
            **{name: request.extra.get(name) for name in _STATE},
        }
        for name, value in state.items():
            if value:
                raise UnsupportedParameter(
                    f"This model keeps no state: `{name}` cannot be used. Send the whole "
                    "conversation instead.",
                    param=name,
                )

    def _report_sampling(self) -> None:
        wish = self.request.sampling
        if wish.n is not None and wish.n > 1:
            raise UnsupportedParameter(
                "This model gives one answer per request. Send `n`: 1, or ask several times.",
                param="n",
            )
        if wish == _NO_SAMPLING:
            return
        for name in _SAMPLING:
            if getattr(wish, name) != getattr(_NO_SAMPLING, name):
                self.lose(f"sampling.{name}", LossCode.DROPPED, _REFUSED)

    def _complete_reasoning(self, reasoning: JSONDict) -> None:
        wish = self.request.reasoning
        if wish is None or (wish.level is None and "effort" not in reasoning):
            level = levels.clamp("medium", self.model)
            if level is not None and level != "off":
                reasoning.setdefault("effort", levels.word(level, self.model))
        if reasoning and reasoning.get("effort") != self.model.levels.get("off", ""):
            reasoning.setdefault("summary", "auto")
        if reasoning:
            self.fields["reasoning"] = reasoning

    def _report_identity(self) -> None:
        request = self.request
        if request.store:
            self.lose("store", LossCode.DROPPED, "answers are not kept at the vendor")
        if request.metadata:
            self.lose("metadata", LossCode.DROPPED, _REFUSED)
        if request.end_user_id is not None:
            self.lose("end_user_id", LossCode.DROPPED, _REFUSED)
        if request.service_tier == "priority":
            self.fields["service_tier"] = "priority"
        elif request.service_tier not in (None, "auto", "default"):
            self.lose("service_tier", LossCode.DROPPED, "only `priority` exists here")

    def add_strict(self, entry: JSONDict, tool: Tool, path: str) -> None:
        entry["strict"] = None
        if tool.strict:
            self.lose(f"{path}.strict", LossCode.DROPPED, _REFUSED)

    def rename_search(self) -> None:
        """Web search has one name here."""
        tools = self.fields.get("tools")
        if tools:
            self.fields["tools"] = [_tool(tool) for tool in tools]
        choice = self.fields.get("tool_choice")
        if type(choice) is dict and choice.get("type") == "web_search_preview":
            self.fields["tool_choice"] = {**choice, "type": "web_search"}


def _tool(tool: JSONDict) -> JSONDict:
    if tool["type"].startswith("web_search_preview"):
        return {**tool, "type": "web_search"}
    return tool


class CodexCodec(ResponsesUpstream):
    """Upstream only. Answers to callers who do not stream are aggregated: `decode_answer` takes
    the stream's bytes."""

    slug = SLUG

    def encode_request(
        self, request: Request, model: ModelSpec, *, request_id: str
    ) -> UpstreamCall:
        # Cache marks inside content are refused, whatever the catalog says (trap 163).
        quirks = msgspec.structs.replace(
            model.quirks, supports_explicit_prompt_cache=False, cache_control_format=None
        )
        body = _CodexBody(request, msgspec.structs.replace(model, quirks=quirks))
        body.add_all()
        body.rename_search()
        call = body.call(path=PATH)
        headers = {"openai-beta": "responses=experimental", "accept": "text/event-stream"}
        key = body.fields.get("prompt_cache_key")
        if key is not None:
            headers |= session_headers(key)
        return msgspec.structs.replace(call, headers={**call.headers, **headers})


def session_headers(key: str) -> dict[str, str]:
    """One conversation, one machine: the backend keeps its cache there."""
    value = header_value(key)
    return {"session-id": value, "x-client-request-id": value}


CODEC: Final = CodexCodec()
