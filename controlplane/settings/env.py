"""Typed readers of environment variables: loud when a value is missing or is a sample.

Every variable read here is a row of docs/settings.md; a test compares the two.
A secret may come from `NAME` or from the file that `NAME_FILE` names.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Final

from django.core.exceptions import ImproperlyConfigured

from controlplane.kit.secret import Secret

_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off", ""})
# What .env.example and tutorials use: never good enough for a running system.
_SAMPLES: Final = (
    *("change-me", "changeme", "example", "insecure", "django-insecure", "your-", "your_"),
    *("secret", "password", "sample", "replace", "todo", "xxx", "<"),
)

# Names read so far, in order: the test of docs/settings.md asks for them.
SEEN: dict[str, str] = {}


def text(name: str, default: str = "") -> str:
    SEEN.setdefault(name, "text")
    return os.environ.get(name, default).strip()


def address(name: str) -> str:
    """A URL that may hold a password, so it may also come from the file NAME_FILE names."""
    SEEN.setdefault(name, "address")
    value = os.environ.get(name, "").strip()
    path_text = os.environ.get(f"{name}_FILE", "").strip()
    if value or not path_text:
        return value
    try:
        return Path(path_text).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ImproperlyConfigured(f"{name}_FILE cannot be read: {error}.") from None


def flag(name: str, default: bool) -> bool:
    SEEN.setdefault(name, "yes/no")
    raw = os.environ.get(name)
    if raw is None:
        return default
    value = raw.strip().lower()
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise ImproperlyConfigured(f"Set {name} to yes or no; it is {raw!r}.")


def integer(name: str, default: int, *, minimum: int = 0) -> int:
    SEEN.setdefault(name, "number")
    raw = os.environ.get(name)
    if raw is None or not raw.strip():
        return default
    try:
        value = int(raw)
    except ValueError:
        raise ImproperlyConfigured(f"Set {name} to a whole number; it is {raw!r}.") from None
    if value < minimum:
        raise ImproperlyConfigured(f"Set {name} to {minimum} or more; it is {value}.")
    return value


def days_or_never(name: str, *, minimum: int) -> int:
    """For how many days something is kept; 0, the default, is for ever."""
    value = integer(name, 0)
    if 0 < value < minimum:
        raise ImproperlyConfigured(
            f"Set {name} to {minimum} or more, or to 0 to keep everything; it is {value}."
        )
    return value


def choice(name: str, options: tuple[str, ...]) -> str:
    """One of `options`; the first is the default."""
    SEEN.setdefault(name, "one of " + ", ".join(options))
    value = os.environ.get(name, "").strip() or options[0]
    if value not in options:
        raise ImproperlyConfigured(f"Set {name} to one of {', '.join(options)}; it is {value!r}.")
    return value


def words(name: str, default: tuple[str, ...] = ()) -> list[str]:
    """A comma-separated list."""
    SEEN.setdefault(name, "list")
    raw = os.environ.get(name)
    if raw is None:
        return list(default)
    return [word.strip() for word in raw.split(",") if word.strip()]


def as_commands(name: str, value: str) -> dict[str, list[str]]:
    """`key=/usr/bin/pass show key; other=/opt/bin/secret`: programs by absolute path, split as a
    shell would and run without one."""
    found: dict[str, list[str]] = {}
    for entry in value.split(";"):
        if not entry.strip():
            continue
        key, _, line = entry.strip().partition("=")
        try:
            arguments = shlex.split(line)
        except ValueError:
            arguments = []
        if not key.strip() or not arguments or not arguments[0].startswith("/"):
            raise ImproperlyConfigured(
                f"Write each entry of {name} as name=/absolute/program arguments; this is none: "
                f"{key.strip()[:40]!r}."
            )
        found[key.strip()] = arguments
    return found


def values_of(name: str, listed: list[str]) -> dict[str, Secret]:
    """What the listed variables hold, for credentials that name them; those that are not set are
    left out. None of our own may be listed: a credential would send it to a vendor."""
    own = sorted(
        variable for variable in listed if variable.removesuffix("_FILE") in {*SEEN, "PATH", "HOME"}
    )
    if own:
        raise ImproperlyConfigured(
            f"{name} lists {own[0]}, a setting of this service: take it out."
        )
    return {word: Secret(os.environ[word]) for word in listed if os.environ.get(word)}


def secret(name: str, *, fallback_file: Path | None = None, minimum_length: int = 32) -> str:
    """The secret from NAME, the file NAME_FILE names, or `fallback_file` (made at first start).

    Raises ImproperlyConfigured in one sentence when none is there or it is a sample value.
    """
    SEEN.setdefault(name, "secret")
    value = os.environ.get(name, "").strip()
    source = name
    if not value:
        path_text = os.environ.get(f"{name}_FILE", "").strip()
        path = Path(path_text) if path_text else fallback_file
        if path is not None:
            source = f"{name}_FILE" if path_text else str(path)
            try:
                value = path.read_text(encoding="utf-8").strip()
            except FileNotFoundError:
                value = ""
            except (OSError, UnicodeDecodeError) as error:
                raise ImproperlyConfigured(f"{source} cannot be read: {error}.") from None
    if not value:
        raise ImproperlyConfigured(
            f"Set {name}, or {name}_FILE to a file that holds it: it has no value."
        )
    lowered = value.lower()
    if any(lowered.startswith(sample) for sample in _SAMPLES):
        raise ImproperlyConfigured(f"{source} holds a sample value: put a random one there.")
    if len(value) < minimum_length:
        raise ImproperlyConfigured(
            f"{source} is too short: use at least {minimum_length} random characters."
        )
    return value


def optional_secret(name: str) -> str:
    """As `secret`, but neither NAME nor NAME_FILE being set is fine: the answer is empty."""
    SEEN.setdefault(name, "secret")
    if not has_secret(name):
        return ""
    return secret(name)


def has_secret(name: str) -> bool:
    """Whether NAME or NAME_FILE is set at all; whether its value is any good, `secret` says."""
    return bool(os.environ.get(name, "").strip() or os.environ.get(f"{name}_FILE", "").strip())


def lend(name: str, value: str) -> None:
    """Sets NAME for this process and its children: only the first start does, see first_run."""
    os.environ[name] = value


def take_back(name: str) -> None:
    os.environ.pop(name, None)
