"""What a Gemini client gets wrong is refused by name, before anything else can stumble on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from controlplane.kit.json import JSONDict
from providers.protocols.canonical import Request
from providers.protocols.codec import ClientCall
from providers.protocols.errors import LocalProtocolError
from providers.protocols.google_generative_ai import CODEC

Decode = Callable[[JSONDict], Request]

TEXT: JSONDict = {"parts": [{"text": "a"}]}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ([], "body"),
        ({"contents": "hi"}, "contents"),
        ({"contents": ["hi"]}, "contents[0]"),
        ({"contents": [{"role": 1}]}, "contents[0].role"),
        ({"contents": [{"role": "assistant", "parts": []}]}, "contents[0].role"),
        ({"contents": [{"parts": {}}]}, "contents[0].parts"),
        ({"contents": [TEXT, {"parts": [7]}]}, "contents[1].parts[0]"),
        ({"contents": [{"parts": [{}]}]}, "contents[0].parts[0]"),
        ({"contents": [{"parts": [{"text": 1}]}]}, "contents[0].parts[0].text"),
        (
            {"contents": [{"parts": [{"text": "", "thoughtSignature": 1}]}]},
            "contents[0].parts[0].thoughtSignature",
        ),
        (
            {"contents": [{"parts": [{"inlineData": {}}]}]},
            "contents[0].parts[0].inlineData.mimeType",
        ),
        (
            {"contents": [{"parts": [{"inline_data": {"mime_type": "a/b", "data": 1}}]}]},
            "contents[0].parts[0].inlineData.data",
        ),
        (
            {"contents": [{"parts": [{"fileData": {"fileUri": ""}}]}]},
            "contents[0].parts[0].fileData.fileUri",
        ),
        (
            {"contents": [{"role": "model", "parts": [{"functionCall": {}}]}]},
            "contents[0].parts[0].functionCall.name",
        ),
        (
            {
                "contents": [
                    {"role": "model", "parts": [{"functionCall": {"name": "f", "args": []}}]}
                ]
            },
            "contents[0].parts[0].functionCall.args",
        ),
        (
            {"contents": [{"role": "model", "parts": [{"functionResponse": {"name": "f"}}]}]},
            "contents[0].parts[0]",
        ),
        (
            {"contents": [{"parts": [{"functionResponse": {"name": "f", "response": "x"}}]}]},
            "contents[0].parts[0].functionResponse.response",
        ),
        (
            {"contents": [{"parts": [{"functionResponse": {"name": "f", "parts": [{}]}}]}]},
            "contents[0].parts[0].functionResponse.parts[0]",
        ),
        ({"systemInstruction": 7}, "systemInstruction"),
        ({"systemInstruction": {"parts": [{"inlineData": {}}]}}, "systemInstruction.parts[0]"),
        ({"tools": {}}, "tools"),
        ({"tools": [[]]}, "tools[0]"),
        ({"tools": [{"functionDeclarations": {}}]}, "tools[0].functionDeclarations"),
        ({"tools": [{"functionDeclarations": [{}]}]}, "tools[0].functionDeclarations[0].name"),
        (
            {"tools": [{"functionDeclarations": [{"name": "f", "parameters": []}]}]},
            "tools[0].functionDeclarations[0].parameters",
        ),
        (
            {
                "tools": [
                    {
                        "functionDeclarations": [
                            {"name": "f", "parameters": {"properties": {"x": 1}}}
                        ]
                    }
                ]
            },
            "tools[0].functionDeclarations[0].parameters.properties.x",
        ),
        (
            {"tools": [{"functionDeclarations": [{"name": "f", "parametersJsonSchema": "x"}]}]},
            "tools[0].functionDeclarations[0].parametersJsonSchema",
        ),
        ({"toolConfig": []}, "toolConfig"),
        (
            {"toolConfig": {"functionCallingConfig": {"mode": "SOME"}}},
            "toolConfig.functionCallingConfig.mode",
        ),
        (
            {"toolConfig": {"functionCallingConfig": {"allowedFunctionNames": [1]}}},
            "toolConfig.functionCallingConfig.allowedFunctionNames[0]",
        ),
        ({"generationConfig": 1}, "generationConfig"),
        ({"generationConfig": {"temperature": "hot"}}, "generationConfig.temperature"),
        ({"generationConfig": {"temperature": True}}, "generationConfig.temperature"),
        ({"generationConfig": {"topK": 1.5}}, "generationConfig.topK"),
        ({"generationConfig": {"maxOutputTokens": "many"}}, "generationConfig.maxOutputTokens"),
        ({"generationConfig": {"stopSequences": "x"}}, "generationConfig.stopSequences"),
        ({"generationConfig": {"candidateCount": 0}}, "generationConfig.candidateCount"),
        ({"generationConfig": {"responseLogprobs": 1}}, "generationConfig.responseLogprobs"),
        ({"generationConfig": {"thinkingConfig": []}}, "generationConfig.thinkingConfig"),
        (
            {"generationConfig": {"thinkingConfig": {"thinkingLevel": "SOME"}}},
            "generationConfig.thinkingConfig.thinkingLevel",
        ),
        ({"generationConfig": {"responseJsonSchema": {}}}, "generationConfig.responseMimeType"),
        ({"labels": {"a": 1}}, "labels.a"),
        ({"serviceTier": 1}, "serviceTier"),
        ({"contents": [TEXT] * 10_001}, "contents"),
        ({"tools": [{"functionDeclarations": [{"name": f"f{i}"} for i in range(1001)]}]}, "tools"),
    ],
)
def test_wrong_input_names_the_field(body: Any, param: str) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        CODEC.decode_request(body, ClientCall(model="m"))
    assert caught.value.param == param
    assert caught.value.message


def test_schemas_that_nest_without_end_are_refused(decode: Decode) -> None:
    schema: JSONDict = {"type": "OBJECT"}
    for _ in range(2000):
        schema = {"type": "ARRAY", "items": schema}
    with pytest.raises(LocalProtocolError, match="nests deeper"):
        decode(
            {
                "contents": [],
                "tools": [{"functionDeclarations": [{"name": "f", "parameters": schema}]}],
            }
        )
