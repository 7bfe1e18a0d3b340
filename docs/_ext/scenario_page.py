"""Every key of a scenario, from its JSON schema: type, bounds, default and meaning."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tables import code, plain, table

from flowsim.scenario.schema import schema_text

Node = dict[str, Any]
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
UNBOUNDED = 10_000_000  # bounds at or beyond it only keep sizes and seeds within what a computer counts


class Sections:
    """The classes of a schema, in the order in which a reader meets them."""

    def __init__(self, schema: Node) -> None:
        self.schema = schema
        self.places: dict[str, list[str]] = {}  # class -> the keys that take it
        self._meet("", schema)

    def _meet(self, path: str, node: Node) -> None:
        for key, below in node.get("properties", {}).items():
            place = f"{path}.{key}" if path else key
            for name in dict.fromkeys(_references(below)):
                known = name in self.places
                self.places.setdefault(name, []).append(place)
                if not known:
                    self._meet(place, self.schema["$defs"][name])

    def title(self, name: str) -> str:
        """The key and, where it has one, the kind."""
        kind = self.schema["$defs"][name]["properties"].get("kind", {}).get("const")
        place = self.places[name][0]
        return plain(f"{place}: {kind}" if kind else place)

    def link(self, name: str) -> str:
        """A link to the section of a class."""
        kind = self.schema["$defs"][name]["properties"].get("kind", {}).get("const")
        return f"[{kind or 'section'}](#{_anchor(name)})"

    def section(self, name: str) -> str:
        """The section of one class."""
        node = self.schema["$defs"][name]
        others = self.places[name][1:]
        also = f" Also of {', '.join(map(code, others))}." if others else ""
        lines = [
            f"({_anchor(name)})=",
            f"### {self.title(name)}",
            "",
            f"{plain(node.get('description', ''))}{also}",
            "",
        ]
        return "\n".join([*lines, self.keys(node)])

    def keys(self, node: Node) -> str:
        """The table of the keys of a class."""
        rows = [
            [code(key), self.kind(below), self._default(key, below, node), plain(self._meaning(below))]
            for key, below in node["properties"].items()
            if key != "kind" or "const" not in below
        ]
        return table(["key", "value", "default", "meaning"], rows) if rows else "No other keys.\n"

    def kind(self, node: Node) -> str:
        """What a key takes, in words."""
        if "$ref" in node:
            return self.link(node["$ref"].rsplit("/", 1)[-1])
        for several in ("anyOf", "oneOf"):
            if several in node:
                return " or ".join(dict.fromkeys(self.kind(one) for one in node[several] if one.get("type") != "null"))
        if "const" in node:
            return code(json.dumps(node["const"]).strip('"'))
        if "enum" in node:
            return ", ".join(code(str(one)) for one in node["enum"])
        return self._plain(node)

    def _plain(self, node: Node) -> str:
        kind = node.get("type", "any value")
        if kind == "array":
            if "prefixItems" in node:
                return f"[{', '.join(self.kind(one) for one in node['prefixItems'])}]"
            return f"list of ({self.kind(node['items'])})" if node.get("items") else "list"
        if kind == "object":
            return "keys with lists"
        bounds = [
            f"{sign} {node[name]:g}" for name, sign in BOUNDS.items() if abs(node.get(name, UNBOUNDED)) < UNBOUNDED
        ]
        words = {"string": "text", "boolean": "`true`, `false`"}.get(kind, kind)
        return " ".join([words, ", ".join(bounds)]).strip()

    def _meaning(self, node: Node) -> str:
        """The description of a key; where it would only repeat that of its class, the schema has it there alone."""
        below = self.schema["$defs"].get(node.get("$ref", "").rsplit("/", 1)[-1], {})
        return str(node.get("description") or below.get("description", ""))

    @staticmethod
    def _default(key: str, below: Node, node: Node) -> str:
        if key in node.get("required", ()):
            return "required"
        value = below.get("default")
        return "" if value is None else code(json.dumps(value, ensure_ascii=False).replace('"', ""))


def _anchor(name: str) -> str:
    return f"scenario-{name.lower()}"


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"].rsplit("/", 1)[-1]
        for one in node.values():
            yield from _references(one)
    elif isinstance(node, list):
        for one in node:
            yield from _references(one)


def tables() -> str:
    """The keys of the first level, then one section for each class below."""
    schema = json.loads(schema_text())
    sections = Sections(schema)
    top = f"## Keys of the first level\n\n{sections.keys(schema)}"
    return "\n".join([top, "## Keys below\n", *(sections.section(name) for name in sections.places)])
