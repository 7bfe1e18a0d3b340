"""The digest of a scenario: equal for scenarios that ask for the same, however they are written down."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowsim.scenario.read import Document

__all__ = ["digest_of"]


def digest_of(document: Document) -> str:
    """Sha256 of a resolved scenario and of the weight files it names.

    Parameters
    ----------
    document : Document
        A scenario that was read.

    Returns
    -------
    str
        64 hexadecimal digits. Comments, layout, the order of keys, defaults written out and the device make
        no difference; everything else in the scenario does, its title included, and so does every byte of a
        weight file.
    """
    resolved = document.scenario.model_dump(mode="json")
    del resolved["compute"]["device"]
    weights = [[file.where, file.sha256] for file in document.weights]
    text = json.dumps(
        {"scenario": resolved, "weights": weights}, sort_keys=True, separators=(",", ":"), allow_nan=False
    )
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
