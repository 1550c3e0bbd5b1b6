"""YAML in and out, with only what JSON has too: a file from elsewhere can name no object of ours,
repeat itself into gigabytes, or mean `no` when it says Norway. Pure.

Refused: tags, anchors and aliases, keys that are no text or stand twice, more bytes, nodes or
levels than a registry needs.
"""

from __future__ import annotations

import re
from typing import Any, Final

import yaml
from yaml.nodes import MappingNode

from controlplane.kit.errors import FaultKind
from providers.errors import ProviderError

MOST_BYTES: Final = 1024 * 1024
MOST_NODES: Final = 100_000
DEEPEST: Final = 32


class UnreadableText(ProviderError):
    """No YAML, or YAML with more in it than plain values."""

    kind = FaultKind.BAD_REQUEST
    code = "unreadable_file"


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # chosen at run time
    """Plain words are texts but for the values of JSON: no `yes`, no dates, no octal numbers."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:str":
                raise _refusal("keys are texts: put this one in quotes", key.start_mark)
            if key.value in seen:
                raise _refusal(f"{key.value[:100]!r} stands twice", key.start_mark)
            seen.add(key.value)
        found: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return found


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:null", re.compile(r"(?:~|null|)\Z"), ["~", "n", ""]
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"(?:true|false)\Z"), list("tf"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"-?(?:0|[1-9][0-9]{0,17})\Z"), list("-0123456789")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"-?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,17})?(?:[eE][-+]?[0-9]{1,3})?\Z"),
    list("-0123456789"),
)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def loads(text: str) -> Any:
    """Raises UnreadableText, which names line and column and never quotes a value."""
    if len(text.encode("utf-8", "surrogatepass")) > MOST_BYTES:
        raise UnreadableText(f"A file may hold at most {MOST_BYTES:,} bytes.")
    try:
        _look_over(text)
        found = yaml.load(text, Loader=_Loader)  # noqa: S506  (a SafeLoader that does even less)
    except yaml.MarkedYAMLError as error:
        # Its own text would quote the line, and with it maybe a secret.
        place = _place(error.problem_mark or error.context_mark)
        raise UnreadableText(
            f"This is no YAML{place}: {error.problem or 'cannot be read'}."
        ) from None
    except (yaml.YAMLError, ValueError):
        raise UnreadableText("This is no YAML: it holds characters that no text has.") from None
    check_texts(found)
    return found


def check_texts(value: Any) -> None:
    """What escapes like `\\0` and `\\ud800` make is no text that a database takes. Raises
    UnreadableText. For values whose depth is bounded."""
    match value:
        case str():
            if "\0" in value or not _is_unicode(value):
                raise UnreadableText("The file holds characters that no text has, such as NUL.")
        case dict():
            for name, inner in value.items():
                check_texts(name)
                check_texts(inner)
        case list():
            for inner in value:
                check_texts(inner)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def dumps(value: Any) -> str:
    found: str = yaml.dump(
        value,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=False,
        width=100,
    )
    return found


def _look_over(text: str) -> None:
    """Every event, before anything is made of them: neither depth nor repetition costs memory."""
    depth = nodes = documents = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise _refusal("anchors and aliases are not taken: write values out", event.start_mark)
        if getattr(event, "tag", None) is not None:
            raise _refusal("tags (!…) are not taken", event.start_mark)
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise _refusal("one document is wanted, here begins another", event.start_mark)
        nodes += isinstance(event, yaml.NodeEvent)
        if nodes > MOST_NODES:
            raise _refusal(f"there are more than {MOST_NODES:,} values", event.start_mark)
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise _refusal(f"it nests deeper than {DEEPEST} levels", event.start_mark)


def _refusal(problem: str, mark: Any) -> UnreadableText:
    return UnreadableText(f"The file cannot be taken{_place(mark)}: {problem}.")


def _place(mark: Any) -> str:
    return "" if mark is None else f" (line {mark.line + 1}, column {mark.column + 1})"
