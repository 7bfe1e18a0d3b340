"""YAML blocks: whole scenarios, files for later blocks, and fragments of a scenario."""

from __future__ import annotations

import io
from importlib.resources import files
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from flowsim.errors import FlowsimError
from flowsim.scenario.read import parse_scenario
from tests.docs.blocks import Block

_YAML = YAML(typ="safe", pure=True)


def judge(block: Block, folder: Path) -> str | None:
    """Write the block where it names a file; what is wrong with it as a scenario is returned."""
    if name := block.said.get("file"):
        (folder / name).write_text(block.source, encoding="utf-8")
    keys = _YAML.load(block.source)
    if not isinstance(keys, dict):
        return "is no mapping of keys"
    text = block.source if {"name", "objective"} <= keys.keys() else _completed(keys, block, folder)
    try:
        parse_scenario(text, name=name or "block.yaml", folder=folder)
    except FlowsimError as error:
        return "\n".join(error.lines())
    return None


def _completed(keys: dict[str, Any], block: Block, folder: Path) -> str:
    """The scenario of `flowsim new`, or the one that `<!-- in: PATH -->` names, with the keys of a fragment."""
    if path := block.said.get("in"):
        whole = _YAML.load((folder / path).read_text(encoding="utf-8"))
    else:
        text = files("flowsim.cli").joinpath("templates/scenario.yaml").read_text(encoding="utf-8")
        whole = _YAML.load(text) | {"name": "fragment"}
    out = io.StringIO()
    _YAML.dump(whole | keys, out)
    return out.getvalue()
