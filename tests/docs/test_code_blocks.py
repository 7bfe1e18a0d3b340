"""Every fenced block of every page is run: commands, Python, scenarios, and the output that they are said to give."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from sybil import Document
from sybil.example import SybilFailure

from tests.docs.blocks import ROOT, Block, blocks, pages
from tests.docs.match import in_output, same_output, same_word
from tests.docs.run_page import run_page


def blocks_of(page: Path) -> list[Block]:
    return list(blocks(Document(page.read_text(encoding="utf-8"), str(page))))


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


PAGES = pages()
RUN = [page for page in PAGES if blocks_of(page)]
SLOW = [page for page in RUN if any(block.slow for block in blocks_of(page))]
#: Pages that take seconds each, half a minute together: `make pages` runs them, and so does `.ci/run`.
LONG = ["cluster", "own_start", "own_weights", "read_a_result", "verdicts", "which_solver", "sweeps"]


# A page is one test, so that its blocks run in order in one process, whatever `-n` and `-m` say.
@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=[pytest.mark.slow] if page.stem in LONG else []) for page in RUN],
    ids=named,
)
def test_the_blocks_of_a_page_do_what_it_says(page: Path, tmp_path: Path) -> None:
    run_page(page.read_text(encoding="utf-8"), page, tmp_path, slow=False)


@pytest.mark.slow  # minutes: what the page itself marks as slow, with the blocks that it builds on
@pytest.mark.parametrize("page", SLOW, ids=named)
def test_the_slow_blocks_of_a_page_too(page: Path, tmp_path: Path) -> None:
    run_page(page.read_text(encoding="utf-8"), page, tmp_path, slow=True)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_no_block_is_passed_over(page: Path) -> None:
    found = blocks_of(page)
    fences = re.findall(r"^[ >]*(?:```|~~~)", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(fences) == 2 * len(found), f"{len(fences)} fences make {len(found)} blocks"
    faults = [f"{named(page)}:{block.line}: {block.fault}" for block in found if block.fault]
    faults += [
        f"{named(page)}:{block.line}: a slow block says why" for block in found if block.slow and not block.said["slow"]
    ]
    assert not faults


def test_there_are_pages_and_blocks_of_each_kind() -> None:
    assert {"README.md", "docs/index.md", "docs/solvers.md", "docs/sweeps.md", "docs/theory.md"} <= set(
        map(named, PAGES)
    )
    every = [block for page in PAGES for block in blocks_of(page)]
    checked = [block for block in every if not block.declared and not block.of_the_site]
    assert {block.language for block in checked} >= {"python", "console", "yaml"}
    assert len(checked) >= 25 and len([block for block in checked if not block.slow]) >= len(checked) / 2


PYTHON = "```python\nx = {}\nassert x == 1\n```\n\n```python\n>>> x + 1\n{}\n```\n"
OUTPUT = "<!-- output: printf 'a 1.25\\nb 2e-9\\nc 3\\n' -->\n```text\n{}\n```\n"


#: A page, and what is said of it: nothing, a part of the message, or what its Python code raises.
CASES: dict[str, tuple[str, str | type[Exception] | None]] = {
    "python": (PYTHON.format(1, 2), None),
    "a doctest that gives something else": (PYTHON.format(1, 3), "line 7:.*Got:\\s+2"),
    "code that raises": (PYTHON.format(2, 2), AssertionError),
    "a command that fails": (
        "```console\n$ echo one  two\none two\n$ false\n```\n",
        "false\nended with 1, 0 expected",
    ),
    "another output": ("```console\n$ echo one\ntwo\n```\n", "given:\none"),
    "the exit code said": ("<!-- exit: 3 -->\n```console\n$ exit 3\n```\n", None),
    "another exit code": ("<!-- exit: 3 -->\n```console\n$ exit 2\n```\n", "ended with 2, 3 expected"),
    "no command": ("```console\nflowsim run\n```\n", "without a line that begins"),
    "flowsim": ("```console\n$ flowsim validate scenarios/blackboard.yaml\n...\n```\n", None),
    "no such target": ("```console\n$ make nothing-of-this-name\n```\n", "ended with 2"),
    "a target": ("```console\n$ make test    # runs every check\n```\n", None),
    "a worker without a scheduler": ("```console\n$ dask worker tcp://scheduler:8786\n```\n", AssertionError),
    "a fragment": ("```yaml\nreach: 1e-3\n```\n", None),
    "a fragment that is refused": ("```yaml\nreach: 2.0\n```\n", "reach: must be less than 1"),
    "a fragment that does not fit": (
        "<!-- in: scenarios/trace_squared.yaml -->\n```yaml\ntarget: {kind: zeros}\n```\n",
        "target",
    ),
    "a file": (
        "<!-- file: a.yaml -->\n```yaml\nreach: 1e-3\n```\n```console\n$ cat a.yaml\nreach: 1e-3\n```\n",
        None,
    ),
    "shown lines": (OUTPUT.format("a 1.25\nb 5e-9"), None),
    "shown lines that do not follow each other": (OUTPUT.format("a 1.2\nc 3"), "shown"),
    "a shown number that is wrong": (OUTPUT.format("a 1.35"), "shown"),
    "a picture that says nothing": ("```text\na picture\n```\n", "text needs"),
    "a picture": ("<!-- text: a picture -->\n```text\na picture\n```\n", None),
    "a comment that is none": ("<!-- sloow: typo -->\n```python\n1\n```\n", "no such comment: sloow"),
    "a slow block": ("<!-- slow: never by default -->\n```python\n1 / 0\n```\n", None),
    "a script": ("```bash\nif true\n```\n", "syntax error"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "fault"), CASES.values(), ids=CASES)
def test_a_page_that_is_wrong_is_noticed(text: str, fault: str | type[Exception] | None, tmp_path: Path) -> None:
    if fault is None:
        run_page(text, Path("page.md"), tmp_path, slow=False)
    elif isinstance(fault, str):
        with pytest.raises(SybilFailure, match=f"(?s){fault}"):
            run_page(text, Path("page.md"), tmp_path, slow=False)
    else:
        with pytest.raises(fault):
            run_page(text, Path("page.md"), tmp_path, slow=False)


def test_numbers_are_compared_to_the_digits_shown() -> None:
    same = [
        ("pass", "pass"),
        ("0.3078", "0.3079"),
        ("1.0", "1.0"),
        ("2e-9", "1.9e-8"),
        ("-3e-10", "-1e-10"),
        ("4", "4"),
    ]
    other = [
        ("pass", "fail"),
        ("0.3078", "0.3081"),
        ("2e-9", "3e-8"),
        ("2e-9", "-2e-9"),
        ("4", "5"),
        ("0", "1"),
        ("1e-9", "0"),
    ]
    assert all(same_word(*pair) for pair in same)
    assert not any(same_word(*pair) for pair in other)


def test_shown_lines_stand_together_in_the_output() -> None:
    assert in_output("a\n────\nb", "x\n  a\n──\nb\ny")
    assert not in_output("a\nb", "a\nx\nb") and not in_output("", "a")
    assert same_output("a ... d", "a b\n c  d\n") and not same_output("a ... d", "a b c")
