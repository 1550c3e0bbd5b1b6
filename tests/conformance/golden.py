"""Golden files: what was sent when someone last looked. `make golden` rewrites them all.

Long strings are shortened to their beginning, length and digest, so that a reviewer can read the
difference of a change.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Final

from controlplane.kit import json as kit_json
from tests.conformance import upstreams

ROOT: Final = Path(__file__).resolve().parent.parent / "golden" / "protocols"
IS_WRITING: Final = os.environ.get("PCP_WRITE_GOLDEN") == "1"
_LONGEST: Final = 400


def shortened(value: Any) -> Any:
    if isinstance(value, str):
        if len(value) <= _LONGEST:
            return value
        digest = hashlib.sha256(value.encode()).hexdigest()[:12]
        return f"{value[:40]}… ({len(value)} characters, sha256 {digest})"
    if isinstance(value, dict):
        return {name: shortened(item) for name, item in value.items()}
    if isinstance(value, list):
        return _without_middle([shortened(item) for item in value])
    return value


def _without_middle(items: list[Any]) -> list[Any]:
    """Both ends of a very long list: what lies between follows the same pattern."""
    if len(items) <= 30:
        return items
    digest = hashlib.sha256(kit_json.dumps(items)).hexdigest()[:12]
    return [*items[:4], f"… {len(items) - 8} more, sha256 of all {digest}", *items[-4:]]


def check(name: str, value: Any) -> None:
    """`name` is relative to the golden folder. Fails with a diff when the file says otherwise."""
    if _is_added(name):
        return
    path = ROOT / f"{name}.json"
    found = json.loads(kit_json.dumps(shortened(json.loads(kit_json.dumps(value)))))
    if IS_WRITING:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
        return
    assert path.exists(), f"{path.name} is missing: run `make golden` and read what it wrote"
    expected = json.loads(path.read_text())
    assert found == expected, f"{name} changed: run `make golden` and read the diff"


def check_bytes(name: str, data: bytes) -> None:
    """A transcript, byte for byte; `name` has its ending."""
    if _is_added(name):
        return
    path = ROOT / name
    if IS_WRITING:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return
    assert path.exists(), f"{name} is missing: run `make golden` and read what it wrote"
    assert path.read_bytes() == data, f"{name} changed: run `make golden` and read the diff"


def _is_added(name: str) -> bool:
    """Of an installed package: nobody has recorded it here, the other judges look at it."""
    return name.partition("/")[0] in upstreams.ADDED


def read_bytes(name: str) -> bytes:
    return (ROOT / name).read_bytes()


def names() -> set[str]:
    """All golden files, without their ending."""
    return {str(path.relative_to(ROOT).with_suffix("")) for path in ROOT.rglob("*.json")}
