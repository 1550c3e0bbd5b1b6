"""Copilot's models: who may ask, for which model, on which path, and what has to be announced."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.providers.simulator.logins.conftest import Reply, Vendors, vendors
from tests.providers.simulator.logins.test_github import EDITOR, copilot, sign_in

__all__ = ["vendors"]

DIRECT = EDITOR | {"copilot_integration_id": "copilot-developer-cli"}
PNG = "iVBORw0KGgo="
CHAT = "/copilot/chat/completions"
HELLO: dict[str, Any] = {"model": "sim-gpt", "messages": [{"role": "user", "content": "hello"}]}
PICTURE: dict[str, Any] = {
    "model": "sim-gpt",
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
            ],
        }
    ],
}


def ask(
    vendors: Vendors, token: str, body: dict[str, Any], path: str = CHAT, **headers: str
) -> Reply:
    return vendors.post(path, body, authorization=f"Bearer {token}", **{**EDITOR, **headers})


def refusal(reply: Reply) -> tuple[int, str]:
    return reply.status, json.loads(reply.text)["error"]["code"]


def test_each_mode_takes_its_own_token_only(vendors: Vendors) -> None:
    github = sign_in(vendors)["access_token"]
    exchanged = copilot(vendors)
    assert ask(vendors, exchanged, HELLO).status == 200
    assert ask(vendors, github, HELLO, **DIRECT).status == 200
    assert refusal(ask(vendors, github, HELLO)) == (403, "forbidden")
    assert refusal(ask(vendors, exchanged, HELLO, **DIRECT)) == (403, "forbidden")
    assert vendors.rules() == ["integration_id", "integration_id"]


@pytest.mark.parametrize(
    ("token", "status"), [("", 401), ("ghu_unknown", 401), ("github_pat_1", 400), ("ghp_1", 400)]
)
def test_other_tokens(vendors: Vendors, token: str, status: int) -> None:
    assert ask(vendors, token, HELLO, **DIRECT).status == status


def test_a_seat_is_needed(vendors: Vendors) -> None:
    without = ask(vendors, sign_in(vendors, "dan")["access_token"], HELLO, **DIRECT)
    assert refusal(without) == (403, "forbidden")
    used_up = ask(vendors, sign_in(vendors, "eve")["access_token"], HELLO, **DIRECT)
    assert refusal(used_up) == (402, "quota_exceeded")
    assert vendors.rules() == []


@pytest.mark.parametrize(
    ("model", "path", "code"),
    [
        ("sim-claude", CHAT, "model_not_supported"),
        ("sim-nothing", CHAT, "model_not_supported"),
        ("sim-embedding", CHAT, "unsupported_api_for_model"),
        ("sim-gpt", "/copilot/v1/messages", "unsupported_api_for_model"),
    ],
)
def test_models_and_their_paths(vendors: Vendors, model: str, path: str, code: str) -> None:
    token = copilot(vendors)
    assert refusal(ask(vendors, token, {**HELLO, "model": model}, path)) == (400, code)
    assert vendors.rules() == ["model"]


def test_accepted_terms_open_a_model_on_all_its_paths(vendors: Vendors) -> None:
    token = copilot(vendors)
    ask(vendors, token, {"state": "enabled"}, "/copilot/models/sim-claude/policy")
    said = {**HELLO, "model": "sim-claude", "max_tokens": 50}
    assert ask(vendors, token, said).status == 200
    assert ask(vendors, token, said, "/copilot/v1/messages").status == 400
    version = {"anthropic_version": "2023-06-01"}
    assert ask(vendors, token, said, "/copilot/v1/messages", **version).status == 200
    asked = {"model": "sim-gpt", "input": "hello"}
    assert ask(vendors, token, asked, "/copilot/responses").status == 200
    assert vendors.rules() == ["version"]


def test_images_are_announced(vendors: Vendors) -> None:
    token = copilot(vendors)
    assert "Copilot-Vision-Request" in ask(vendors, token, PICTURE).text
    assert ask(vendors, token, PICTURE, copilot_vision_request="true").status == 200
    assert vendors.rules() == ["vision_header"]


@pytest.mark.parametrize("field", ["store", "reasoning_effort"])
def test_fields_that_are_refused_here(vendors: Vendors, field: str) -> None:
    value = {"store": False, "reasoning_effort": "low"}[field]
    assert ask(vendors, copilot(vendors), {**HELLO, field: value}).status == 400
    assert vendors.rules() == ["field"]
