"""A Gemini client's OpenAPI-style schemas (`parameters`, `responseSchema`) as JSON Schema."""

from __future__ import annotations

from typing import Any, Final

from controlplane.kit.json import JSONDict
from providers.protocols.errors import LocalProtocolError

# No body that passed the door nests deeper (kit.json.MAX_DEPTH).
MAX_READ_DEPTH: Final = 64

_SNAKE: Final[dict[str, str]] = {
    "any_of": "anyOf", "additional_properties": "additionalProperties", "max_items": "maxItems",
    "max_length": "maxLength", "max_properties": "maxProperties", "min_items": "minItems",
    "min_length": "minLength", "min_properties": "minProperties",
    "property_ordering": "propertyOrdering", "defs": "$defs", "ref": "$ref",
}  # fmt: skip
_COUNTS: Final = frozenset(
    {"minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"}
)


def from_openapi(schema: Any, path: str, depth: int = 0) -> JSONDict:
    """A client's `parameters` or `responseSchema` as JSON Schema. Either spelling of names.

    Raises LocalProtocolError where a schema is not an object.
    """
    if depth > MAX_READ_DEPTH:
        raise LocalProtocolError(
            f"The schema nests deeper than {MAX_READ_DEPTH} levels.", param=path[:200]
        )
    if not isinstance(schema, dict):
        raise LocalProtocolError(f"{path} must be a schema object.", param=path)
    out: JSONDict = {}
    is_nullable = False
    ordering: Any = None
    for name, value in schema.items():
        key = str(_SNAKE.get(name, name))
        if value is None and key != "default":
            continue
        if key == "type":
            lowered = value.lower() if isinstance(value, str) else value
            if lowered != "type_unspecified":
                out["type"] = lowered
        elif key == "nullable":
            is_nullable = value is True
        elif key == "propertyOrdering":
            ordering = value
        elif key == "example":
            out["examples"] = [value]
        elif key in _COUNTS and isinstance(value, str) and value.isdecimal():
            # 64-bit integers travel as strings in Google's JSON.
            out[key] = int(value)
        elif key in ("items", "additionalProperties") and isinstance(value, dict):
            out[key] = from_openapi(value, f"{path}.{key}", depth + 1)
        elif key in ("properties", "$defs"):
            if not isinstance(value, dict):
                raise LocalProtocolError(f"{path}.{key} must be an object.", param=f"{path}.{key}")
            out[key] = {
                member: from_openapi(item, f"{path}.{key}.{member}", depth + 1)
                for member, item in value.items()
            }
        elif key == "anyOf":
            if not isinstance(value, list):
                raise LocalProtocolError(f"{path}.anyOf must be a list.", param=f"{path}.anyOf")
            out[key] = [
                from_openapi(item, f"{path}.anyOf[{index}]", depth + 1)
                for index, item in enumerate(value)
            ]
        elif key == "format" and value == "enum":
            continue
        else:
            out[key] = value
    if isinstance(ordering, list) and "properties" in out:
        members: JSONDict = out["properties"]
        ordered = {one: members[one] for one in ordering if isinstance(one, str) and one in members}
        out["properties"] = {**ordered, **members}
    if is_nullable:
        _make_nullable(out)
    return out


def _make_nullable(schema: JSONDict) -> None:
    kind = schema.get("type")
    if isinstance(kind, str):
        schema["type"] = [kind, "null"]
    elif isinstance(schema.get("anyOf"), list):
        schema["anyOf"] = [*schema["anyOf"], {"type": "null"}]
    if isinstance(schema.get("enum"), list) and None not in schema["enum"]:
        schema["enum"] = [*schema["enum"], None]
