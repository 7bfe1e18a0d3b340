"""Mathematics as MathML, made when the site is built: browsers show it without a script and without a network."""

from __future__ import annotations

import re

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.errors import SphinxError
from sphinx.writers.html5 import HTML5Translator

_BAR = re.compile("<mo>(&#x02016;|&#x0007C;)</mo>")  # bars of a norm keep their size, with an exponent too


def _mathml(node: nodes.Element, display: str) -> str:
    latex = node.astext().strip()
    try:
        return _BAR.sub(r'<mo stretchy="false">\1</mo>', convert(latex, display=display))
    except Exception as error:  # the converter raises many kinds
        raise SphinxError(f"mathematics that cannot be shown: {latex!r}: {error}") from error


def _inline(self: HTML5Translator, node: nodes.math) -> None:
    self.body.append(_mathml(node, "inline"))
    raise nodes.SkipNode


def _block(self: HTML5Translator, node: nodes.math_block) -> None:
    # It can be wider than the page and scrolls then: the keyboard has to reach it.
    self.body.append(
        f'<div class="math" tabindex="0" role="group" aria-label="formula">{_mathml(node, "block")}</div>\n'
    )
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
