"""What Google accepts as a schema: its OpenAPI subset, or JSON Schema with few exceptions.

Both walk schema positions only: a property may be called `const`, `title` or `$ref`.
"""

from __future__ import annotations

from typing import Any, Final

from controlplane.kit.json import JSONDict
from providers.simulator.wire import checks
from providers.simulator.wire.checks import fail, require

_WORDS: Final = frozenset(
    "type format title description nullable enum items properties required propertyOrdering "
    "minItems maxItems minProperties maxProperties minLength maxLength minimum maximum pattern "
    "example anyOf default additionalProperties defs ref".split(" ")
)
_TYPES: Final = ("STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT", "NULL")
_FORMATS: Final = {
    "STRING": ("enum", "date-time"),
    "NUMBER": ("float", "double"),
    "INTEGER": ("int32", "int64"),
}
_MAPS: Final = ("properties", "$defs", "definitions", "patternProperties")
_SINGLE: Final = ("items", "additionalProperties", "not", "contains", "propertyNames")
_LISTS: Final = ("anyOf", "oneOf", "allOf", "prefixItems")
_MAX_DEPTH: Final = 32


def camel(name: str) -> str:
    """The server takes snake_case too."""
    head, *rest = name.split("_")
    return head + "".join(piece[:1].upper() + piece[1:] for piece in rest) if head else name


def openapi(value: object, place: str, *, must_be_object: bool = False) -> JSONDict:
    """`parameters`, `response` and `responseSchema`."""
    root = _openapi(value, place, 0)
    if must_be_object:
        require(
            root.get("type") == "OBJECT",
            "schema_root",
            f"{place}: functionDeclaration parameters schema should be of type OBJECT.",
        )
        require(
            root.get("properties"),
            "schema_empty",
            f"{place}.properties: should be non-empty for OBJECT type",
        )
    return root


def _openapi(value: object, place: str, depth: int) -> JSONDict:
    require(depth < _MAX_DEPTH, "schema_depth", f"{place}: schema nests too deep")
    node = {camel(name): inner for name, inner in checks.table(value, place).items()}
    for name in node:
        require(
            name in _WORDS,
            "schema_word",
            f"Invalid JSON payload received. Unknown name \"{name}\" at '{place}': Cannot find "
            "field.",
        )
    kind = node.get("type")
    require(
        not isinstance(kind, list),
        "schema_type",
        f"Invalid value at '{place}.type': Proto field is not repeating, cannot start list.",
    )
    if kind is not None:
        kind = node["type"] = str(kind).upper()
        require(kind in _TYPES, "schema_type", f"Invalid value at '{place}.type': {kind!r}")
    if "enum" in node:
        words = checks.items(node["enum"], f"{place}.enum")
        require(
            all(isinstance(word, str) for word in words),
            "schema_enum",
            f"Invalid value at '{place}.enum' (TYPE_STRING)",
        )
        require(
            kind in (None, "STRING"), "schema_enum", f"{place}.enum: only allowed for STRING type"
        )
    if node.get("format") is not None and kind in _FORMATS:
        require(
            node["format"] in _FORMATS[kind],
            "schema_format",
            f"{place}: the specified schema format {node['format']!r} is not supported for "
            f"{kind} type",
        )
    require(kind != "ARRAY" or "items" in node, "schema_items", f"{place}.items: missing field.")
    properties = node.get("properties") or {}
    for name, inner in checks.table(properties, f"{place}.properties").items():
        _openapi(inner, f"{place}.properties[{name}]", depth + 1)
    for name in node.get("required") or ():
        require(
            name in properties,
            "schema_required",
            f"{place}.required[{name}]: property is not defined",
        )
    if "items" in node:
        _openapi(node["items"], f"{place}.items", depth + 1)
    for number, inner in enumerate(node.get("anyOf") or ()):
        _openapi(inner, f"{place}.any_of[{number}]", depth + 1)
    if isinstance(node.get("additionalProperties"), dict):
        _openapi(node["additionalProperties"], f"{place}.additional_properties", depth + 1)
    return node


def json_schema(value: object, place: str, *, must_be_object: bool = False) -> JSONDict:
    """`parametersJsonSchema` and `responseJsonSchema`."""
    root = checks.table(value, place)
    if must_be_object:
        require(
            root.get("type") == "object" or "$ref" in root,
            "schema_root",
            f"{place}: the schema of parameters must be of type object",
        )
    _json_schema(root, root, place, 0)
    return root


def _json_schema(node: Any, root: JSONDict, place: str, depth: int) -> None:
    if not isinstance(node, dict):
        return
    require(depth < _MAX_DEPTH, "schema_depth", f"{place}: schema nests too deep")
    require("const" not in node, "schema_const", f"{place}: the keyword `const` is not supported")
    reference = node.get("$ref")
    if reference is not None:
        _resolve(str(reference), root, place)
    for name in _MAPS:
        inner = node.get(name)
        if isinstance(inner, dict):
            for key, value in inner.items():
                _json_schema(value, root, f"{place}.{name}[{key}]", depth + 1)
    for name in _SINGLE:
        _json_schema(node.get(name), root, f"{place}.{name}", depth + 1)
    for name in _LISTS:
        for number, value in enumerate(node.get(name) or ()):
            _json_schema(value, root, f"{place}.{name}[{number}]", depth + 1)


def _resolve(reference: str, root: JSONDict, place: str) -> None:
    if not reference.startswith("#"):
        raise fail("schema_ref", f"{place}: reference to undefined schema {reference}")
    found: Any = root
    for step in reference.removeprefix("#").strip("/").split("/"):
        if step:
            step = step.replace("~1", "/").replace("~0", "~")
            found = found.get(step) if isinstance(found, dict) else None
    require(
        isinstance(found, dict), "schema_ref", f"{place}: reference to undefined schema {reference}"
    )
