"""What the tests of Bedrock share: a conversation and two tools."""

from __future__ import annotations

from typing import Any

from tests.providers.simulator.wire.said import TIME, WEATHER

CONVERSATION = [{"role": "user", "content": [{"text": "hello"}]}]
TOOL_CONFIG: dict[str, Any] = {
    "tools": [
        {
            "toolSpec": {
                "name": "get_weather",
                "description": "The weather.",
                "inputSchema": {"json": WEATHER},
            }
        },
        {
            "toolSpec": {
                "name": "get_time",
                "description": "The time.",
                "inputSchema": {"json": TIME},
            }
        },
    ]
}
