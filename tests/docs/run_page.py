"""Runs the blocks of one page in order, in one folder and one namespace, as Sybil's examples."""

from __future__ import annotations

import doctest
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

from sybil import Document, Example, Region
from sybil.evaluators.doctest import DocTestEvaluator
from sybil.evaluators.python import PythonEvaluator
from sybil.example import SybilFailure
from sybil.parsers.abstract.doctest import DocTestStringParser
from sybil.region import Lexeme

from tests.docs import scenarios
from tests.docs.blocks import ROOT, Block, blocks
from tests.docs.console import Shell
from tests.docs.match import in_output

_DOCTESTS = DocTestStringParser(DocTestEvaluator(doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE))
_PYTHON = PythonEvaluator()


def run_page(text: str, path: Path, folder: Path, *, slow: bool) -> int:
    """Run a page.

    Parameters
    ----------
    text : str
        The page; `path` names it in messages.
    folder : Path
        An empty folder, which receives `scenarios/`.
    slow : bool
        Whether blocks marked slow are run too.

    Returns
    -------
    int
        How many blocks were run.

    Raises
    ------
    SybilFailure
        At the first block that does not do what the page says. What Python code raises comes as it is.
    """
    shutil.copytree(ROOT / "scenarios", folder / "scenarios")
    document = Document(text, str(path))
    with chdir(folder), Shell(folder) as shell:
        for region in _regions(document, shell, slow=slow):
            document.add(region)
        examples = list(document.examples())
        try:
            for example in examples:
                example.evaluate()
        finally:
            if "matplotlib.pyplot" in sys.modules:
                sys.modules["matplotlib.pyplot"].close("all")
    return len(examples)


def _regions(document: Document, shell: Shell, *, slow: bool) -> Iterator[Region]:
    """One region for each block that is to be run."""

    def evaluate(example: Example) -> str | None:
        block: Block = example.parsed
        if block.language == "python":
            return _python(example)
        if block.language == "console":
            return shell.block(block)
        if block.language == "yaml":
            return scenarios.judge(block, shell.folder)
        if block.language == "bash":
            return _script(block, shell.folder)
        return _shown(block, shell)

    lines = document.text.splitlines(keepends=True)
    for block in blocks(document):
        if block.fault:
            raise SybilFailure(Example(document, block.line, 1, Region(0, 0), {}), block.fault)
        if block.declared or block.of_the_site or (block.slow and not slow):
            continue
        start = sum(map(len, lines[: block.line - 1]))
        yield Region(start, start + block.offset, block, evaluate)


def _python(example: Example) -> str | None:
    block: Block = example.parsed
    if not block.source.lstrip().startswith(">>>"):
        example.parsed = Lexeme(block.source, 0, 0)
        _PYTHON(example)
        return None
    for region in _DOCTESTS(block.source, example.path):
        one = Example(example.document, example.line + region.parsed.lineno + 1, 1, region, example.namespace)
        if failure := _DOCTESTS.evaluator(one):
            return f"line {one.line}:\n{failure}"
    return None


def _script(block: Block, folder: Path) -> str | None:
    """A script for another machine: written where it names a file, and read by bash without being run."""
    if name := block.said.get("file"):
        (folder / name).write_text(block.source, encoding="utf-8")
    done = subprocess.run(["bash", "-n"], input=block.source, capture_output=True, text=True, check=False)
    return done.stderr if done.returncode else None


def _shown(block: Block, shell: Shell) -> str | None:
    """Lines that the command named by `<!-- output: COMMAND -->` prints."""
    command = block.said["output"]
    done = shell.run(command, slow=block.slow)
    if done.returncode or not in_output(block.source, done.stdout):
        return f"$ {command}\nended with {done.returncode}; shown:\n{block.source}\ngiven:\n{done.stdout}{done.stderr}"
    return None
