"""YAML 1.2 text as plain data with positions.

Only mappings, lists, text, numbers, true/false and null are built; every other tag is refused, an alias may
not repeat much, and nothing in the text is ever executed.
"""

from __future__ import annotations

import re
import warnings
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from flowsim.scenario.tree import Tree
from flowsim.scenario.types import Path, shown

__all__ = ["is_text", "parse_tree"]

MAX_DEPTH = 50
MAX_REPEATED = 100_000
_TAG = "tag:yaml.org,2002:"
_NO_TEXT = "half of a surrogate pair is no text"


def parse_tree(text: str, name: str) -> Tree:
    """Read YAML 1.2 text into plain data with positions.

    Parameters
    ----------
    text : str
        One document.
    name : str
        Of the file, for messages.

    Returns
    -------
    Tree
        Its `mistakes` hold whatever is wrong with the text as YAML, duplicate keys included; after a
        syntax error its `data` is None.
    """
    tree = Tree(name)
    version = re.search(r"^%YAML\s+(\S+)", text, re.MULTILINE)
    if version and version.group(1) != "1.2":
        line = text.count("\n", 0, version.start()) + 1
        tree.add_at(
            (line, 1),
            (),
            f"YAML {shown(version.group(1))} is not read",
            "Remove the line: YAML 1.2 is meant.",
        )
        return tree
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # ruamel warns of anchors used twice, which is legal
            node = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        tree.add_at(place, (), f"not YAML: {error.problem or error.context}", _syntax_hint(error.problem or ""))
    except RecursionError:
        tree.add_at((1, 1), (), "nested too deeply", f"A scenario has at most {MAX_DEPTH} levels.")
    except (YAMLError, ValueError, OverflowError) as error:
        tree.add_at(_character_place(text), (), f"not YAML: {_first_line(error)}", "Write it as plain YAML text.")
    else:
        if node is not None:
            _Builder(tree).build(node)
    return tree


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _character_place(text: str) -> tuple[int, int]:
    """Line and column of the first character that YAML forbids."""
    found = re.search(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", text)
    if found is None:
        return 1, 1
    before = text[: found.start()]
    return before.count("\n") + 1, found.start() - (before.rfind("\n") + 1) + 1


def _syntax_hint(problem: str) -> str:
    if "tab" in problem or r"'\t'" in problem:
        return "Indent with spaces, not tabs."
    if "another document" in problem:
        return "Keep one scenario in a file; remove the '---' between them."
    if "alias" in problem:
        return "Define the anchor (&name) before it is used, or quote the text."
    if "mapping values" in problem:
        return "Check the indentation, and quote text that contains ': '."
    if "end of stream" in problem or "expected ',' or" in problem:
        return "Close every quote, bracket and brace."
    return "Check quotes, brackets and indentation around this place."


class _Builder:
    """Turns nodes into data, noting places and mistakes."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.key_places: dict[Path, tuple[int, int]] = {}
        self.seen: set[int] = set()
        self.open: set[int] = set()
        self.repeated = 0
        self.stopped = False

    def build(self, root: Node) -> None:
        data = self._value(root, (), repeat=False)
        self.tree.data = None if self.stopped else data

    def _value(self, node: Node, path: Path, *, repeat: bool) -> Any:
        place = _place(node)
        if isinstance(node, ScalarNode) and _tag(node) == _TAG + "null" and not node.value:
            place = self.key_places.get(path, place)  # nothing is written: the parser says where the next thing is
        self.tree.places[path] = place
        if self.stopped:
            return None
        if id(node) in self.open or len(path) > MAX_DEPTH:
            self.stopped = True
            inside = id(node) in self.open
            what = "an alias stands inside its own anchor" if inside else "nested too deeply"
            hint = "Write the value out." if inside else f"A scenario has at most {MAX_DEPTH} levels."
            self.tree.add_at(place, path[:3], what, hint)
            return None
        # An alias composes to the node of its anchor: a second visit, which may multiply.
        repeat = repeat or id(node) in self.seen
        self.seen.add(id(node))
        self.repeated += repeat
        if self.repeated > MAX_REPEATED:
            self.stopped = True
            self.tree.add_at(place, path[:3], "aliases repeat too much", "Write the values out, without aliases.")
            return None
        if isinstance(node, ScalarNode):
            return self._scalar(node, path)
        self.open.add(id(node))
        try:
            if isinstance(node, MappingNode):
                return self._mapping(node, path, repeat=repeat)
            if isinstance(node, SequenceNode):
                self._expect(node, path, "seq")
                return [self._value(item, (*path, index), repeat=repeat) for index, item in enumerate(node.value)]
        finally:
            self.open.discard(id(node))
        raise AssertionError(f"unknown node {type(node).__name__}")

    def _mapping(self, node: MappingNode, path: Path, *, repeat: bool) -> dict[str, Any]:
        self._expect(node, path, "map")
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            place = _place(key_node)
            if not isinstance(key_node, ScalarNode):
                self.tree.add_at(place, path, "a key must be a word", "Write keys as plain words.")
                continue
            key = str(key_node.value)
            below = (*path, key)
            if not is_text(key):
                self.tree.add_at(place, below, _NO_TEXT, "Write keys as plain words.")
                continue
            if key in result:
                line = self.key_places[below][0]
                self.tree.add_at(
                    place, below, f"the key is given twice, first in line {line}", "Remove one of the two."
                )
                continue
            self.tree.keys[below] = self.key_places[below] = place
            result[key] = self._value(value_node, below, repeat=repeat)
        return result

    def _expect(self, node: Node, path: Path, kind: str) -> None:
        if _tag(node) != _TAG + kind:
            self._refuse_tag(node, path)

    def _refuse_tag(self, node: Node, path: Path) -> None:
        tag = _tag(node)
        if tag == _TAG + "timestamp":
            what, hint = f"{shown(node.value)} is read as a date", "Put quotes around it if text is meant."
        else:
            name = "!!" + tag.removeprefix(_TAG) if tag.startswith(_TAG) else tag
            what, hint = (
                f"the tag {shown(name)} is not allowed",
                "Remove the tag: only plain values are read.",
            )
        self._refuse(node, path, what, hint)

    def _refuse(self, node: Node, path: Path, what: str, hint: str) -> None:
        self.tree.add_at(_place(node), path, what, hint)
        self.tree.refused.add(path)

    def _scalar(self, node: ScalarNode, path: Path) -> Any:
        tag, text = _tag(node), str(node.value)
        try:
            if tag == _TAG + "str" and is_text(text):
                return text
            if tag == _TAG + "str":
                self._refuse(node, path, _NO_TEXT, "Write plain characters.")
                return None
            if tag == _TAG + "int":
                return _integer(text)
            if tag == _TAG + "float":
                return _float(text)
        except ValueError:
            self._refuse(node, path, f"{shown(text)} cannot be read as a number", "Write it as 12, 1.5 or 1e-3.")
            return None
        if tag == _TAG + "bool" and text.lower() in ("true", "false"):
            return text.lower() == "true"
        if tag == _TAG + "null" and text in ("", "~", "null", "Null", "NULL"):
            return None
        self._refuse_tag(node, path)
        return None


def is_text(text: str) -> bool:
    """Whether a string can be written as UTF-8; escapes in YAML and foreign arguments may not be."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _tag(node: Node) -> str:
    return str(node.tag)


def _place(node: Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _integer(text: str) -> int:
    plain = text.replace("_", "").lower()
    sign = -1 if plain.startswith("-") else 1
    digits = plain.lstrip("+-")
    base = {"0x": 16, "0o": 8, "0b": 2}.get(digits[:2], 10)
    return sign * int(digits if base == 10 else digits[2:], base)


def _float(text: str) -> float:
    plain = text.replace("_", "").lower()
    if plain.lstrip("+-") in (".inf", ".nan"):
        return float(plain.replace(".", ""))
    return float(plain)
