"""Every named switch: its meaning and its default.

A quirk is a fact about a provider or model that the generic codec must know. Catalog files
set them by these names, with a reason and a date beside each; unknown names fail to load.
Nobody writes `if provider == …`: a difference becomes a field here.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from controlplane.kit.json import JSONDict

ThinkingFormat = Literal[
    "openai",  # reasoning_effort
    "openrouter",  # reasoning: {effort}
    "deepseek",  # thinking: {type} + reasoning_effort
    "together",  # reasoning: {enabled}
    "zai",  # thinking: {type, clear_thinking: false}
    "qwen",  # enable_thinking
    "qwen-chat-template",  # chat_template_kwargs: {enable_thinking, preserve_thinking}
    "chat-template",  # chat_template_kwargs from the quirk of that name
    "baseten",  # chat_template_args from the quirk of that name
    "string-thinking",  # thinking: "<level>"
    "ant-ling",  # reasoning: {effort} only if the level is mapped
]


class Quirks(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    # --- any protocol ---
    supports_developer_role: bool = True
    supports_temperature: bool = True
    supports_top_p_with_temperature: bool = True
    supports_mid_conversation_system: bool = False
    supports_strict_tools: bool = False
    supports_long_cache_retention: bool = True
    send_session_affinity: bool = False
    session_affinity_format: Literal["openai", "openai-nosession", "openrouter"] = "openai"
    # A header that must name the conversation on every request; empty = none.
    session_header: str = ""
    # A header that says `user` where a person wrote last and `agent` where a program goes on with
    # results of tools, and one that says `true` where an image is shown; empty = none.
    initiator_header: str = ""
    vision_header: str = ""
    # The vendor's own id limit for tool calls where it differs from the protocol's.
    max_tool_call_id_length: int = 0

    # --- openai-completions (and mistral-conversations where it says so) ---
    max_tokens_field: Literal["max_completion_tokens", "max_tokens"] = "max_completion_tokens"
    supports_store: bool = True
    supports_reasoning_effort: bool = True
    supports_usage_in_streaming: bool = True
    supports_finish_reason: bool = True
    supports_prompt_cache_key: Literal["auto", "enabled", "disabled"] = "auto"
    supports_grammar_tools: bool = False
    # top_k, min_p and repetition_penalty, which OpenAI itself refuses.
    supports_sampling_extensions: bool = False
    requires_tool_result_name: bool = False
    requires_assistant_after_tool_result: bool = False
    requires_non_null_assistant_content: bool = False
    requires_string_assistant_content: bool = True
    requires_tools_with_tool_history: bool = False
    requires_thinking_as_text: bool = False
    requires_reasoning_content: bool = False
    thinking_format: ThinkingFormat = "openai"
    # Which field replays reasoning: None = do not replay, "same" = the one it arrived in.
    reasoning_replay_field: Literal["reasoning_content", "reasoning", "reasoning_text"] | None = (
        None
    )
    chat_template_kwargs: JSONDict | None = None
    chat_template_args: JSONDict | None = None
    thinking_token_budget_field: str | None = None
    cache_control_format: Literal["anthropic"] | None = None
    open_router_routing: JSONDict | None = None
    vercel_gateway_routing: JSONDict | None = None
    zai_tool_stream: bool = False
    vllm_priority: int | None = None

    # --- openai-responses family ---
    supports_max_output_tokens: bool = True
    supports_explicit_prompt_cache: bool = False
    supports_additional_tools: bool = False
    supports_tool_search: bool = False
    supports_mid_conversation_effort: bool = False

    # --- anthropic-messages (and Claude on Bedrock) ---
    supports_eager_tool_input_streaming: bool = True
    supports_cache_control: bool = True
    supports_cache_control_on_tools: bool = True
    force_adaptive_thinking: bool = False
    supports_effort: bool = False
    allow_empty_signature: bool = False
    supports_prefill: bool = True
    supports_output_format: bool = False
    supports_message_threads: bool = False
    supports_mid_conversation_tools: bool = False
    allowed_fallback_models: tuple[str, ...] = ()

    # --- google family ---
    # How thinking is controlled: `level` (Gemini 3 and later) or `budget` (2.5).
    thinking_control: Literal["level", "budget"] = "budget"
    # Budgets per level where the family's differ from the default table in levels.py.
    thinking_budgets: dict[str, int] | None = None
    # Ids inside functionCall: sent from Gemini 3 on; older Vertex and Code Assist refuse them.
    supports_function_call_ids: bool = False
    # Images inside functionResponse.parts: from Gemini 3 on.
    supports_images_in_tool_results: bool = False
    # Unsigned calls need the sentinel: Gemini 3 and later.
    requires_thought_signature: bool = False
    # JSON Schema (parametersJsonSchema) or the OpenAPI subset (parameters).
    schema_dialect: Literal["json-schema", "openapi"] = "json-schema"
    # Claude and gpt-oss behind Code Assist.
    is_claude: bool = False

    # --- bedrock-converse-stream ---
    supports_cache_points: bool = False
    reasoning_field: Literal["thinking", "reasoning", "reasoning_effort"] | None = None
    supports_tool_choice: bool = True
