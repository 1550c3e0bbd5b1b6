"""From a model's name to the targets that answer to it. Pure.

Prefixes, aliases, mappings, exclusions and switches are already applied: the table holds only
names that work (loader.py).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable

import msgspec

from providers.routing.table import RouteTable, Target

Allows = Callable[[str], bool]


def resolve(name: str, table: RouteTable, allows: Allows) -> tuple[Target, ...]:
    """Empty when the name is unknown or the key may not use it."""
    # No name holds a line break or a NUL, and what follows a known one must not bring any either.
    if not name.isprintable() or not allows(name):
        return ()
    found = table.targets.get(name)
    return found if found is not None else _by_stem(name, table)


def _by_stem(name: str, table: RouteTable) -> tuple[Target, ...]:
    """`known+anything` where the provider's catalog file says that its models take it."""
    for separator in table.suffix_separators:
        stem, found, suffix = name.partition(separator)
        if found:
            return tuple(
                msgspec.structs.replace(
                    target,
                    name=name,
                    spec=msgspec.structs.replace(target.spec, id=target.spec.id + found + suffix),
                )
                for target in table.targets.get(stem, ())
                if target.endpoint.model_suffix_separator == separator
            )
    return ()


def nearest_names(name: str, table: RouteTable, allows: Allows) -> list[str]:
    """Up to three names the caller may use that look like what was asked."""
    allowed = [known for known in table.targets if allows(known)]
    return difflib.get_close_matches(name[:200], allowed, n=3, cutoff=0.5)
