"""Where each simulated vendor lives, for people: what to put where a base URL is asked for."""

from __future__ import annotations

from typing import Final

# Name, path behind the simulation's own address, how a key is sent.
BASES: Final[tuple[tuple[str, str, str], ...]] = (
    ("OpenAI", "/openai/v1", "Authorization: Bearer"),
    ("Azure OpenAI", "/azure/openai/v1", "api-key"),
    ("OpenAI Codex", "/codex/backend-api", "Authorization: Bearer"),
    ("Anthropic", "/anthropic", "x-api-key"),
    ("Gemini", "/gemini/v1beta", "x-goog-api-key"),
    ("Vertex AI", "/vertex", "Authorization: Bearer"),
    ("Cloud Code Assist", "/code-assist", "Authorization: Bearer"),
    ("Bedrock", "/bedrock", "AWS signature"),
    ("Mistral", "/mistral/v1", "Authorization: Bearer"),
    ("Kiro", "/kiro", "Authorization: Bearer"),
    ("GitHub Copilot", "/copilot", "Authorization: Bearer"),
    ("Switchboard", "/control", "none"),
)


def table(base_url: str) -> str:
    """One line per vendor."""
    names = max(len(name) for name, _, _ in BASES)
    urls = max(len(base_url + path) for _, path, _ in BASES)
    return "\n".join(
        f"  {name:<{names}}  {base_url + path:<{urls}}  {key}" for name, path, key in BASES
    )
