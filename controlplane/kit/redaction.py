"""Hides what looks like a secret in anything that is about to be written down."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from controlplane.kit.secret import MASK, Secret

# Names whose value is never shown, whatever it looks like. Matched at the end of a name, as whole
# words: `x-goog-api-key` and `refresh_token`, but not `keyboard`, `max_tokens` or `key_id`.
_SECRET_NAME: Final = re.compile(
    r"(?i)(?:^|[_\-. ])(?:authorization|cookies?|password|passwd|passphrase|secrets?|apikeys?"
    r"|(?:api|access|secret|private|provider)[_-]?keys?|peppers?|otp|token|credentials?|signature"
    r"|device[_-]?code|user[_-]?code|code[_-]?verifier|assertion)$"
)

# What needs a mark (`=`, `:`, `@`, a scheme's name) to be recognised …
_MARKED: Final = re.compile(
    "|".join(
        (
            # Whole headers: what follows may hold blanks and semicolons.
            r"(?i:(?P<header>\b(?:proxy-)?authorization|\b(?:set-)?cookie)[\"']?\s?[:=]\s?)[^\r\n]+",
            r"(?i:(?P<scheme>\b(?:bearer|basic|negotiate)\s)[^\s\"',;]{6,})",
            # A URL's query: the short names that are secrets there and nowhere else.
            r"(?i:(?P<query>[?&](?:key|sig|code|token|state|x-amz-[a-z-]{1,30})=)[^\s&\"'#]+)",
            # name=value, name: value, "name": "value". The bound keeps the search linear.
            r"(?i:(?P<name>(?<![\w.-])[\"']?[\w.-]{0,40}(?:api[_-]?key|access[_-]?key|secret|"
            r"secret[_-]key|private[_-]?key|passw(?:or)?d|[_-]token|credential|signature|assertion|"
            r"code_verifier|device_code)[\"']?\s{0,3}[=:]\s{0,3}[\"']?)[^\s\"'&,;}]{4,})",
            # user:password@ in a URL.
            r"(?P<userinfo>\w://)[^\s/@\"']+@",
            r"-----BEGIN [A-Z ]{1,40}-----.*?(?:-----END [A-Z ]{1,40}-----|\Z)",
        )
    ),
    re.DOTALL,
)
_MARK: Final = re.compile(r"[=:@]|-----|(?i:bearer|basic|negotiate)\s")

# … and what is recognised by how it begins: typed keys, vendors' and ours, and JSON web tokens.
_TYPED: Final = re.compile(
    r"(?<![A-Za-z0-9])(?:(?:sk|rk|pk|xai|gsk|hf|nvapi|pplx|gh[posu]|github_pat|glpat|xox[abprs]"
    r"|pcp|fw|tgp|csk|r8|whsec|ya29)[-_.][A-Za-z0-9_\-./+=]{12,}"
    r"|(?:AKIA|ASIA)[A-Z0-9]{12,}|AIza[\w-]{20,}|eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?)"
)
_RUN: Final = re.compile(r"[\w\-./+=]{14}")

# A long run of characters that random bytes are written in. Whether it is a secret is decided by
# `_looks_random`, because paths and names of models and classes are such runs too.
_LONG_RUN: Final = re.compile(r"[A-Za-z0-9+/_\-]{32,}={0,2}")
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z")
# What names are made of: words, camel case, a number or date, a word with a number (`gpt4o`).
_SEPARATOR: Final = re.compile(r"[+/_\-=]+")
_NAME_PIECE: Final = re.compile(
    r"[A-Z]?[a-z]{1,24}|[A-Z]{1,16}|(?:[A-Z]{1,4}[a-z]{2,24}){2,8}|\d{1,8}"
    r"|[A-Za-z]{1,10}\d{1,4}[a-z]?"
)

MAX_TEXT: Final = 16_384
_MAX_DEPTH: Final = 8


def hide_secrets(text: str) -> str:
    """`text` with everything masked that is written like a secret; long texts are cut."""
    if len(text) > MAX_TEXT:
        text = f"{text[:MAX_TEXT]}… ({len(text)} characters)"
    # Most texts are words: two cheap looks spare them the costly ones.
    if _MARK.search(text):
        text = _MARKED.sub(_hide, text)
    if _RUN.search(text):
        text = _LONG_RUN.sub(_hide_random, _TYPED.sub(MASK, text))
    return text


@lru_cache(maxsize=1024)
def _hide_name(name: str) -> tuple[str, bool]:
    """How a name is shown, and whether it says that its value is secret."""
    return hide_secrets(name), _SECRET_NAME.search(name) is not None


def hide(value: Any, *, depth: int = 0) -> Any:
    """`value` as plain JSON types, with what is secret in it masked: whole if its name says so."""
    if isinstance(value, str):
        return hide_secrets(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Secret):
        return MASK
    if depth >= _MAX_DEPTH:
        return "…"
    if isinstance(value, Mapping):
        return {
            shown: MASK if is_secret and item is not None else hide(item, depth=depth + 1)
            for (shown, is_secret), item in (
                (_hide_name(text_of(key)), item) for key, item in value.items()
            )
        }
    if isinstance(value, bytes | bytearray | memoryview):
        return hide_secrets(bytes(value).decode("utf-8", "backslashreplace"))
    if isinstance(value, list | tuple | set | frozenset):
        return [hide(item, depth=depth + 1) for item in value]
    return hide_secrets(text_of(value))


def text_of(value: object) -> str:
    """str(value), or what is wrong with it: showing a thing must never be what fails."""
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001  (any class may raise anything from __str__)
        return f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"


def _hide(match: re.Match[str]) -> str:
    kept = match[match.lastgroup] if match.lastgroup else ""
    return kept + MASK + ("@" if match.lastgroup == "userinfo" else "")


def _hide_random(match: re.Match[str]) -> str:
    return MASK if _looks_random(match.group()) else match.group()


def _looks_random(run: str) -> bool:
    """Whether `run` is anything but a name: words and numbers between separators, or a UUID."""
    if _UUID.match(run):
        return False
    return not all(map(_NAME_PIECE.fullmatch, filter(None, _SEPARATOR.split(run))))
