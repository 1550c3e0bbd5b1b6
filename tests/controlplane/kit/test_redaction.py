from __future__ import annotations

import base64
import secrets
import string
import time
import urllib.parse
import uuid
from typing import Any

import pytest

from controlplane.kit.redaction import MAX_TEXT, hide, hide_secrets
from controlplane.kit.secret import MASK, Secret
from tests.patience import allowed

RAW = secrets.token_urlsafe(40)


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {RAW}",
        f"authorization=Basic {RAW}",
        f"sent 'Bearer {RAW}' upstream",
        f"GET /v1beta/models?key={RAW}&alt=sse",
        f"POST /token?grant=1&code={RAW[:12]}",
        f'{{"api_key": "{RAW}", "model": "m"}}',
        f"x-goog-api-key: {RAW}",
        f"client_secret={RAW}",
        f"refresh_token={RAW}",
        f"password: {RAW[:9]}",
        f"Cookie: session={RAW}; csrf={RAW}",
        f"postgres://gateway:{RAW[:10]}@db.internal/control",
        f"key sk-proj-{RAW}",
        f"token ghp_{RAW}",
        f"pcp_live_{RAW}",
        f"AIza{RAW}",
        f"eyJhbGciOiJIUzI1NiJ9.{RAW}.{RAW}",
        f"-----BEGIN PRIVATE KEY-----\n{RAW}\n{RAW}\n-----END PRIVATE KEY-----",
        RAW,
        base64.b64encode(RAW.encode()).decode(),
        RAW.encode().hex(),
        f"wrapped {urllib.parse.quote(RAW)} in text",
    ],
    # Not the text: it is drawn anew in each process, and they must agree on names.
    ids=lambda _: "",
)
def test_secrets_in_text_are_masked(text: str) -> None:
    hidden = hide_secrets(text)
    assert MASK in hidden
    for piece in (RAW[:9], RAW[:12], base64.b64encode(RAW.encode()).decode(), RAW.encode().hex()):
        assert piece not in hidden


@pytest.mark.parametrize(
    "text",
    [
        "GET /v1/chat/completions",
        "code: invalid_key",
        "Missing key: temperature",
        "max_tokens=4096",
        "controlplane.proxy.pipeline.answer_in_the_dialect_of_the_caller",
        "tenants/migrations/0003_row_level_security_policies_for_tenants.py",
        str(uuid.UUID(int=0x0198_0000_7000_8000_0000_0000_0000_0001)),
        "the signature of this function changed",
        "-" * 60,
        "anthropic/claude-sonnet-4-5-20250929",
        "",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    assert hide_secrets(text) == text


@pytest.mark.parametrize(
    "name",
    [
        *("api_key", "x-api-key", "apikey", "Authorization", "Set-Cookie", "password", "token"),
        *("access_token", "refresh_token", "client_secret", "private_key", "otp", "pepper"),
    ],
)
@pytest.mark.parametrize("value", ["short", 123456, ["a", "b"], {"a": "b"}, b"bytes"])
def test_a_name_can_say_that_its_value_is_secret(name: str, value: Any) -> None:
    assert hide({"outer": {name: value}}) == {"outer": {name: MASK}}


@pytest.mark.parametrize("name", ["max_tokens", "key_id", "keyboard", "status", "tokens_in"])
def test_names_that_only_sound_secret(name: str) -> None:
    assert hide({name: 7}) == {name: 7}


def test_every_shape_is_searched() -> None:
    class Shown:
        def __str__(self) -> str:
            return f"Bearer {RAW}"

    class Broken:
        def __str__(self) -> str:
            raise RuntimeError(RAW)

    shapes = [
        Secret(RAW),
        RAW.encode(),
        bytearray(RAW.encode()),
        {RAW: 1},
        (RAW, [RAW, {RAW}]),
        Shown(),
        Broken(),
        ValueError(f"api_key={RAW}"),
    ]
    assert RAW not in repr(hide(shapes))


def test_deep_and_circular_values_end() -> None:
    circle: list[Any] = [1]
    circle.append(circle)
    assert "…" in repr(hide(circle))


def test_long_text_is_cut_and_says_so() -> None:
    assert hide_secrets("word " * MAX_TEXT).endswith(f"… ({5 * MAX_TEXT} characters)")


@pytest.mark.parametrize(
    "unit",
    [
        *("a.", "a-", "key ", "bearer ", "key=", "://", "-----BEGIN A", "eyJ", "api", "?key=&"),
        *("password ", "'\"", "a" * 31 + " ", "x-amz-", "Aa1+/", " \t", "secret:secret"),
    ],
)
@pytest.mark.timed
def test_no_text_makes_the_search_slow(unit: str) -> None:
    text = (unit * MAX_TEXT)[:MAX_TEXT]
    began = time.thread_time()
    hide_secrets(text)
    assert time.thread_time() - began < allowed(0.25)


def test_random_keys_of_every_alphabet_are_masked() -> None:
    """2,000 random values as vendors make them: none may show in a sentence."""
    alphabets = (
        string.ascii_letters + string.digits,
        string.hexdigits.lower(),
        string.ascii_letters + string.digits + "-_",
        string.ascii_letters + string.digits + "+/",
    )
    shown = [
        key
        for alphabet in alphabets
        for _ in range(500)
        if (key := "".join(secrets.choice(alphabet) for _ in range(40)))
        in hide_secrets(f"upstream said: {key} is not valid")
    ]
    assert not shown
