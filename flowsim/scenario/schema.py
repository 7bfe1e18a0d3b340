"""The JSON schema of a scenario, for editors: generated from the classes, so it cannot disagree with them."""

from __future__ import annotations

import json
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from flowsim.scenario.model import Scenario

__all__ = ["schema_text"]


class _Schema(GenerateJsonSchema):
    """Pydantic's schema without a title for every field, which would only repeat its name."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Never: the key is the title."""
        return False


def _plain(node: Any) -> Any:
    """The schema without `discriminator`, which is OpenAPI's and not JSON Schema's."""
    if isinstance(node, dict):
        mapped = (
            "propertyName" in node.get("discriminator", {}) if isinstance(node.get("discriminator"), dict) else False
        )
        return {key: _plain(value) for key, value in node.items() if not (mapped and key == "discriminator")}
    if isinstance(node, list):
        return [_plain(entry) for entry in node]
    return node


def schema_text() -> str:
    """The schema of a scenario file (JSON Schema, draft 2020-12) as indented JSON.

    Returns
    -------
    str
        The same text every time, with a newline at its end.
    """
    schema = _plain(Scenario.model_json_schema(schema_generator=_Schema))
    schema = {"$schema": GenerateJsonSchema.schema_dialect, **schema, "title": "flowsim scenario"}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
