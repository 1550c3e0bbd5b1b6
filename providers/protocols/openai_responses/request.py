"""A canonical Request as the body that a Responses vendor accepts."""

from __future__ import annotations

from typing import Final

from controlplane.kit.json import JSONDict
from providers.protocols import levels
from providers.protocols.canonical import ModelSpec, Request, ResponseFormat, Tool, ToolChoice
from providers.protocols.codec import Restore, UpstreamCall
from providers.protocols.errors import UnsupportedParameter
from providers.protocols.history import mended
from providers.protocols.losses import Loss, LossCode
from providers.protocols.names import NameMap
from providers.protocols.openai_completions.caching import (
    OPENAI_DIALECTS,
    Marks,
    affinity_headers,
    cache_fields,
)
from providers.protocols.openai_completions.request import object_schema
from providers.protocols.openai_responses.carriers import SLUG
from providers.protocols.openai_responses.client_request import (
    ENCRYPTED,
    LOGPROBS,
    NAMESPACE_DESCRIPTION,
)
from providers.protocols.openai_responses.items import FAMILY, Items
from providers.protocols.tool_calls import NO_TOOLS, report_parallel, unique_tools

PATH: Final = "/responses"
# The least that OpenAI accepts (trap 170).
MIN_OUTPUT_TOKENS: Final = 16
_TIERS: Final = frozenset({"auto", "default", "flex", "scale", "priority", "fast", "ultrafast"})
_SHARED_EXTRA: Final = frozenset({"prompt_cache_options", "moderation"})
_NO_SUCH_KNOBS: Final = (
    "top_k",
    "min_p",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "logit_bias",
    "stop",
)


class Body:
    """A Responses body in the making; the variants change it before it leaves."""

    def __init__(self, request: Request, model: ModelSpec) -> None:
        self.request = request
        self.model = model
        self.losses: list[Loss] = []
        self.is_own = request.dialect == SLUG
        self._turns = mended(request.messages, self.losses)
        self._names = NameMap(tool.name for tool in request.tools if tool.kind != "builtin")
        self._marks = Marks(request, model, self.losses)
        self.fields: JSONDict = {"model": model.id}
        self._call_ids: dict[str, str] = {}

    def lose(self, path: str, code: LossCode, why: str) -> None:
        self.losses.append(Loss(path, code, why))

    def add_all(self) -> None:
        self.add_input()
        self.add_tools()
        self.add_sampling()
        self.add_text()
        self.add_reasoning()
        self.fields.update(cache_fields(self.request, self.model, self.losses))
        self.add_identity()
        if self.request.stream:
            self.fields["stream"] = True
        self.add_state()
        self.add_extra()

    def call(self, *, path: str = PATH, query: dict[str, str] | None = None) -> UpstreamCall:
        for wire, name in self._names.restore().items():
            self.lose("tools", LossCode.RENAMED, f"{name!r} is sent as {wire!r}")
        wish = self.request.caching
        key = wish.key if wish.retention != "none" else None
        return UpstreamCall(
            path=path,
            body=self.fields,
            query=query or {},
            headers=affinity_headers(key, self.model),
            stream=bool(self.fields.get("stream")),
            restore=Restore(names=self._names.restore(), call_ids=self._call_ids),
            losses=tuple(self.losses),
        )

    # --- the conversation ---

    def add_input(self) -> None:
        items = self._items()
        instructions = [b.text for b in self.request.system if b.origin == "instructions"]
        if instructions:
            self.fields["instructions"] = "\n\n".join(instructions)
        items.write_system(
            [
                (index, block)
                for index, block in enumerate(self.request.system)
                if block.origin != "instructions"
            ]
        )
        items.write(self._turns)
        self.fields["input"] = items.out

    def add_input_with_instructions(self, fallback: str) -> None:
        """Codex: every leading system text is an instruction, and there must be one."""
        items = self._items()
        blocks = self.request.system
        for index, block in enumerate(blocks):
            self._marks.field(block.cache, f"system[{index}]")
        if blocks:
            self.fields["instructions"] = "\n\n".join(block.text for block in blocks)
        else:
            self.fields["instructions"] = fallback
            self.lose("system", LossCode.SYNTHESISED, "the vendor insists on instructions")
        items.write(self._turns, "developer")
        self.fields["input"] = items.out

    def _items(self) -> Items:
        items = Items(self.request, self.model, self._names, self._marks, self.losses)
        self._call_ids = items.call_ids
        return items

    # --- tools ---

    def add_tools(self) -> None:
        tools: list[JSONDict] = []
        groups: dict[str, JSONDict] = {}
        for index, tool in unique_tools(self.request, self.losses):
            path = f"tools[{index}]"
            if tool.cache is not None:
                self.lose(f"{path}.cache", LossCode.DROPPED, "tools take no cache marks")
            if tool.kind == "builtin":
                if tool.builtin_protocol in FAMILY and tool.builtin is not None:
                    tools.append(tool.builtin)
                else:
                    why = f"only {tool.builtin_protocol} has this built-in tool"
                    self.lose(path, LossCode.DROPPED, why)
            elif tool.namespace is None:
                tools.append(self._tool(tool, path))
            else:
                group = groups.get(tool.namespace)
                if group is None:
                    text = tool.extra.get(NAMESPACE_DESCRIPTION) or tool.namespace
                    group = {
                        "type": "namespace",
                        "name": tool.namespace,
                        "description": text,
                        "tools": [],
                    }
                    groups[tool.namespace] = group
                    tools.append(group)
                group["tools"].append(self._tool(tool, path))
        if tools:
            self.fields["tools"] = tools
        choice = self.request.tool_choice
        if choice is not None:
            self.fields["tool_choice"] = self._choice(choice)
        parallel = self.request.parallel_tool_calls
        if parallel is not None:
            if tools:
                self.fields["parallel_tool_calls"] = parallel
            else:
                report_parallel(self.request, self.losses, NO_TOOLS)

    def _tool(self, tool: Tool, path: str) -> JSONDict:
        entry: JSONDict = {"type": tool.kind, "name": self._names.wire(tool.name)}
        if tool.description is not None:
            entry["description"] = tool.description
        if tool.kind == "custom":
            if tool.grammar is not None:
                entry["format"] = {"type": "grammar", **tool.grammar}
        else:
            schema = tool.schema if tool.schema is not None else {}
            entry["parameters"] = object_schema(schema)
            self.add_strict(entry, tool, path)
        for name, value in tool.extra.items():
            if self.is_own:
                if name != NAMESPACE_DESCRIPTION:
                    entry[name] = value
            else:
                self.lose(f"{path}.extra.{name}", LossCode.DROPPED, "there is no such field")
        return entry

    def add_strict(self, entry: JSONDict, tool: Tool, path: str) -> None:
        """Left out it would mean true: clients of other dialects get the false they meant."""
        if tool.strict and not self.model.quirks.supports_strict_tools:
            self.lose(f"{path}.strict", LossCode.DROPPED, "the vendor has no strict tools")
            entry["strict"] = False
        elif tool.strict is not None:
            entry["strict"] = tool.strict
        elif not self.is_own:
            entry["strict"] = False

    def _choice(self, choice: ToolChoice) -> object:
        if choice.mode not in ("named", "allowed"):
            return choice.mode
        entries = [self._named(name) for name in choice.names]
        if choice.mode == "allowed":
            return {"type": "allowed_tools", "mode": choice.allowed_mode, "tools": entries}
        if not entries:
            raise UnsupportedParameter("`tool_choice` names no tool.", param="tool_choice")
        return entries[0]

    def _named(self, name: str) -> JSONDict:
        tool = next((tool for tool in self.request.tools if tool.name == name), None)
        if tool is not None and tool.kind == "builtin":
            if tool.builtin_protocol not in FAMILY:
                raise UnsupportedParameter(
                    f"`tool_choice` asks for the built-in tool {name!r}, which this model does not "
                    "have.",
                    param="tool_choice",
                )
            return {"type": name}
        kind = tool.kind if tool is not None else "function"
        return {"type": kind, "name": self._names.wire(name)}

    # --- knobs ---

    def add_sampling(self) -> None:
        wish, quirks = self.request.sampling, self.model.quirks
        if wish.n is not None and wish.n > 1:
            raise UnsupportedParameter(
                "This model gives one answer per request. Send `n`: 1, or ask several times.",
                param="n",
            )
        limit = wish.max_output_tokens
        if limit is not None and not quirks.supports_max_output_tokens:
            self.lose("sampling.max_output_tokens", LossCode.DROPPED, "the vendor sets its own")
        elif limit is not None:
            if limit < MIN_OUTPUT_TOKENS:
                self.lose("sampling.max_output_tokens", LossCode.CLAMPED, "16 is the least")
            self.fields["max_output_tokens"] = max(limit, MIN_OUTPUT_TOKENS)
        has_temperature = wish.temperature is not None and quirks.supports_temperature
        if has_temperature:
            self.fields["temperature"] = wish.temperature
        elif wish.temperature is not None:
            self.lose("sampling.temperature", LossCode.DROPPED, "the model takes no temperature")
        if wish.top_p is not None:
            if has_temperature and not quirks.supports_top_p_with_temperature:
                self.lose("sampling.top_p", LossCode.DROPPED, "not together with a temperature")
            else:
                self.fields["top_p"] = wish.top_p
        if wish.top_logprobs is not None:
            self.fields["top_logprobs"] = wish.top_logprobs
        for name in _NO_SUCH_KNOBS:
            if getattr(wish, name) not in (None, ()):
                self.lose(f"sampling.{name}", LossCode.DROPPED, "the protocol has no such knob")

    def add_text(self) -> None:
        text: JSONDict = {}
        if self.request.response_format is not None:
            text["format"] = _format(self.request.response_format)
        if self.request.verbosity is not None:
            text["verbosity"] = self.request.verbosity
        if text:
            self.fields["text"] = text

    def add_reasoning(self) -> None:
        include: list[str] = []
        if self.model.reasoning:
            # Without the store this is the only way to keep thinking over turns.
            include.append(ENCRYPTED)
        if self.request.sampling.logprobs:
            include.append(LOGPROBS)
        if include:
            self.fields["include"] = include
        reasoning = self.reasoning_fields()
        if reasoning:
            self.fields["reasoning"] = reasoning

    def reasoning_fields(self) -> JSONDict:
        wish, model = self.request.reasoning, self.model
        if wish is None:
            return {}
        wanted = levels.requested_level(wish)
        asked = wish.level is not None or wish.budget_tokens is not None or wish.adaptive
        if not model.reasoning:
            if wanted != "off":
                self.lose("reasoning", LossCode.DROPPED, "the model does not reason")
            return {}
        fields: JSONDict = {}
        if wanted == "off":
            word = model.levels.get("off")
            if word is not None:
                return {"effort": word}
            why = "there is no word for off: not sent"
            is_known = "off" in model.levels
            if is_known:
                why = "the model cannot be kept from thinking"
            code = LossCode.CLAMPED if is_known else LossCode.DROPPED
            self.lose("reasoning.level", code, why)
            return {}
        if asked:
            level = levels.clamp(wanted, model)
            if level is None or level == "off":
                self.lose("reasoning", LossCode.DROPPED, "the model takes no level of thinking")
            else:
                fields["effort"] = levels.word(level, model)
                if wish.budget_tokens is not None:
                    why = f"sent as level {level!r}"
                    self.lose("reasoning.budget_tokens", LossCode.EMULATED, why)
                elif level != wanted and wish.level is not None:
                    why = f"{wanted!r} is sent as {level!r}"
                    self.lose("reasoning.level", LossCode.CLAMPED, why)
        if wish.summary is not None and wish.summary != "off":
            fields["summary"] = wish.summary
        elif wish.show or (
            wish.show is None
            and wish.summary is None
            and self.request.dialect not in OPENAI_DIALECTS
        ):
            # Clients of these dialects are used to see thoughts.
            fields["summary"] = "auto"
        return fields

    # --- who and where ---

    def add_identity(self) -> None:
        request, model = self.request, self.model
        # Left out it would mean true for our own clients.
        wants_store = request.store if request.store is not None else self.is_own
        self.fields["store"] = bool(wants_store and model.store)
        if request.store and not model.store:
            self.lose("store", LossCode.DROPPED, "answers are not kept at the vendor")
        if request.metadata:
            self.fields["metadata"] = request.metadata
        if request.end_user_id is not None:
            self.fields["user"] = request.end_user_id
        self.add_tier()

    def add_tier(self) -> None:
        tier = self.request.service_tier
        if tier is None:
            return
        if tier in _TIERS or self.request.dialect in OPENAI_DIALECTS:
            self.fields["service_tier"] = tier
        elif tier in ("standard", "standard_only"):
            self.fields["service_tier"] = "default"
        else:
            self.lose("service_tier", LossCode.DROPPED, f"no tier is named {tier!r}")

    def add_state(self) -> None:
        if self.request.previous_response_id is not None:
            self.fields["previous_response_id"] = self.request.previous_response_id
        if self.request.conversation is not None:
            self.fields["conversation"] = self.request.conversation

    def add_extra(self) -> None:
        for name, value in self.request.extra.items():
            if name == "include" and self.is_own:
                self.fields["include"] = [*self.fields.get("include", ()), *value]
            elif name == "reasoning" and self.is_own:
                self.fields["reasoning"] = {**value, **self.fields.get("reasoning", {})}
            elif self.is_own or (name in _SHARED_EXTRA and self.request.dialect in OPENAI_DIALECTS):
                self.fields.setdefault(name, value)
            else:
                self.lose(f"extra.{name}", LossCode.DROPPED, "the protocol has no such field")


def _format(wish: ResponseFormat) -> JSONDict:
    if wish.kind != "json_schema":
        return {"type": wish.kind}
    # Flat, where Chat Completions nests (trap 177).
    entry: JSONDict = {
        "type": "json_schema",
        "name": wish.name or "response",
        "schema": wish.schema or {},
    }
    if wish.description is not None:
        entry["description"] = wish.description
    if wish.strict is not None:
        entry["strict"] = wish.strict
    return entry


def encode_request(request: Request, model: ModelSpec) -> UpstreamCall:
    body = Body(request, model)
    body.add_all()
    return body.call()
