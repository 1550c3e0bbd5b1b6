"""Which files a request's body names. Pure."""

from __future__ import annotations

import re
from typing import Any, Final

from controlplane.kit import json

MOST_NAMED: Final = 500
_NAME: Final = b"file_id"
# A letter of the name, written as JSON's escape of it: nobody does, but who wants to hide one.
_ESCAPE: Final = b"\\u00"
_ESCAPED: Final = re.compile(rb"\\u00[4-7]")


def may_name(body: bytes) -> bool:
    """Almost every body says no at once, and then surely names none."""
    return _NAME in body or (_ESCAPE in body and _ESCAPED.search(body) is not None)


def named_in(body: bytes) -> set[str]:
    """Every value of `file_id`, and of `file_ids`, wherever it stands. What is no JSON names
    nothing: it is refused elsewhere."""
    if not may_name(body):
        return set()
    try:
        value: Any = json.loads_dict(body)
    except json.InvalidJSON:
        return set()
    found: set[str] = set()
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if type(one) is list:
            waiting += one
        elif type(one) is dict:
            for name, inner in one.items():
                if name == "file_id" and type(inner) is str:
                    found.add(inner)
                elif name == "file_ids" and type(inner) is list:
                    found.update(each for each in inner if type(each) is str)
                waiting.append(inner)
    return found
