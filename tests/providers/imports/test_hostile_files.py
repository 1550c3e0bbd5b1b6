"""Whatever stands in a file: it is taken over, reported or refused in a sentence. Nothing in one is
run (bar C7), nothing makes a reader stumble (bar I1)."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from controlplane.kit.secret import Secret
from providers.bundle.apply import plan
from providers.errors import ProviderError
from providers.imports import cliproxy, environment, pi
from providers.imports.cliproxy import SECTIONS
from providers.imports.found import Imported
from tenants.audit.actor import acting_as

# Every type a file can hold, alone and nested.
ODD: list[Any] = [
    *(None, True, False, 0, -1, 10**17, 1.5, "", "x", "\u2028", "\0", "!id", "$X", "a\nb", "ü"),
    *([], {}, [None], [1], ["x"], [[]], [{}], {"": ""}, {"x": None}, {"x": {"x": []}}, [[["x"]]]),
]
COMMANDS = [
    f"{before}{command}{after}"
    for command in ("touch /tmp/ran", "id", "/bin/sh -c id", "curl http://x.test", "python3 -c 1")
    for before, after in (
        *(("!", ""), ("! ", ""), ("!!", ""), ("$(", ")"), ("`", "`")),
        *(("| ", ""), ("; ", ""), ("&& ", "")),
    )
]
OWN = {"api": "openai-completions", "baseUrl": "https://x.example.com"}
_STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.spawn")
_started: list[str] = []
_is_watching = False


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if _is_watching and event in _STARTS:
        _started.append(f"{event}{arguments}")


sys.addaudithook(_watch)


refusals: list[str] = []


def taken(read: Callable[[], Imported]) -> Imported | None:
    """None: refused, and in a sentence."""
    try:
        return read()
    except ProviderError as error:
        refusals.append(error.message)
        return None


def as_cliproxy(config: Any) -> Imported | None:
    return taken(lambda: cliproxy.read(Secret(json.dumps(config))))


def as_pi(auth: Any, models: Any) -> Imported | None:
    return taken(lambda: pi.read(auth=Secret(json.dumps(auth)), models=Secret(json.dumps(models))))


def test_odd_values_in_every_place_of_a_cliproxy_config() -> None:
    top = [*SECTIONS, "openai-compatibility", "kiro", "proxy-url", "force-model-prefix",
           "transient-error-cooldown-seconds", "disable-cooling", "routing", "unknown"]  # fmt: skip
    entry = ["api-key", "prefix", "base-url", "headers", "proxy-url", "models", "excluded-models",
             "weight", "token-file", "name", "disabled", "api-key-entries", "api-keys", "region",
             "start-url", "disable-cooling", "unknown"]  # fmt: skip
    model = ["name", "alias", "thinking", "max-context-length", "force-mapping", "display-name"]
    sections = ("claude-api-key", "openai-compatibility", "kiro")
    as_cliproxy([])
    for value in ODD:
        for key in top:
            as_cliproxy({key: value})
        for section, key in itertools.product(sections, entry):
            as_cliproxy({section: [{"api-key": "k", "name": "n", key: value}]})
        for key in model:
            as_cliproxy({"groq": [{"api-key": "k", "models": [{"name": "m", key: value}]}]})

    assert all(message.endswith(".") for message in refusals)


def test_odd_values_in_every_place_of_pis_files() -> None:
    provider = ["api", "baseUrl", "apiKey", "authHeader", "headers", "compat", "models",
                "modelOverrides", "unknown"]  # fmt: skip
    model = ["id", "name", "reasoning", "input", "contextWindow", "maxTokens", "cost", "compat",
             "thinkingLevelMap", "api", "headers", "unknown"]  # fmt: skip
    for value in ODD:
        as_pi(value, value)
        as_pi({"openai": value}, {"providers": value})
        for key in ("type", "key", "env"):
            as_pi({"azure": {"type": "api_key", "key": "k", key: value}}, {})
        for key in provider:
            as_pi({}, {"providers": {"own": {"api": "openai-completions", key: value}}})
            as_pi({}, {"providers": {"openai": {key: value}}})
        for key in model:
            as_pi({}, {"providers": {"own": {"models": [{"id": "m", key: value}]}}})


@pytest.mark.storage
@pytest.mark.django_db
def test_what_was_taken_can_be_planned_and_its_problems_said() -> None:
    """The services have the last word: never an exception that nobody expected."""
    entry = ["prefix", "base-url", "headers", "models", "excluded-models", "weight", "name"]
    planned = problems = 0
    with acting_as("command", None, "tests"):
        for value in ODD:
            one = {"api-key": "k", "name": "n", "base-url": "https://x.example.com"}
            for section, key in itertools.product(("groq", "openai-compatibility"), entry):
                found = as_cliproxy({section: [{**one, key: value}]})
                if found is not None:
                    planned += 1
                    problems += bool(plan(found.bundle, secrets=found.secrets).problems)
            model = {"id": "m", "name": value, "contextWindow": value, "cost": {"input": value}}
            for name, given in (*model.items(), ("input", value), ("thinkingLevelMap", value)):
                own = {**OWN, "models": [{"id": "m", name: given}]}
                found = as_pi({}, {"providers": {"own": own}})
                if found is not None:
                    planned += 1
                    problems += bool(plan(found.bundle, secrets=found.secrets).problems)
    assert planned > 100
    assert problems


def test_no_command_is_run_and_none_is_kept_as_a_key() -> None:
    global _is_watching
    assert len(COMMANDS) == 40
    _is_watching = True
    try:
        for command in COMMANDS:
            found = as_pi(
                {"openai": {"type": "api_key", "key": command}},
                {"providers": {"own": {"baseUrl": "https://x.example.com", "apiKey": command,
                                       "api": "openai-completions", "headers": {"X-A": command}}}},
            )  # fmt: skip
            assert found is not None
            if command.startswith("!"):
                assert not found.secrets.keys
                assert not found.secrets.headers
            as_cliproxy({"groq": [{"api-key": command, "headers": {"X-A": command}}]})
            environment.read(Secret(f"OPENAI_API_KEY={command}"))
    finally:
        _is_watching = False
    assert _started == []


def test_the_watch_would_see_one() -> None:
    global _is_watching
    import subprocess

    _is_watching = True
    try:
        subprocess.run([sys.executable, "-c", ""], check=True)
    finally:
        _is_watching = False
    assert _started
    _started.clear()
