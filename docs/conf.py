"""How Sphinx builds the documentation: `make docs`. Nothing is fetched, and a warning is an error."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent / "_ext"), str(Path(__file__).parents[1])]
os.environ.setdefault("OMP_NUM_THREADS", "1")

import matplotlib  # noqa: E402  # after the path, as what follows

from flowsim import __version__  # noqa: E402

project = "flowsim"
author = "flowsim authors"
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "numpydoc",
    "sphinx_click",
    "command_line_page",
    "generated",
    "mathml",
]
exclude_patterns = ["_ext"]
nitpicky = True

# Pages are plain Markdown that a code host shows too: mathematics in dollars and ```math, anchors as it makes them.
myst_enable_extensions = ["dollarmath"]
myst_fence_as_directive = ["math"]
myst_heading_anchors = 4

# Docstrings say types in words, so signatures need none, and words are no references.
autodoc_typehints = "none"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

highlight_language = "none"  # of blocks without a language: the examples in the help of commands
html_theme = "furo"
html_title = f"flowsim {__version__}"
html_math_renderer = "mathml"
html_static_path = ["_static", f"{matplotlib.get_data_path()}/fonts/ttf/STIXGeneral.ttf"]
html_css_files = ["flowsim.css"]
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False
