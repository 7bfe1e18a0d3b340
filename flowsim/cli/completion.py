"""Shell completion: ``flowsim completion bash`` prints the script; below, what is offered after an option.

Nothing here imports more than click before a key of a scenario is asked for: the shell waits for every answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem, get_completion_class

from flowsim.cli.common import debug_option, say
from flowsim.errors import FlowsimError

if TYPE_CHECKING:
    from flowsim.scenario import Axis

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_FLOWSIM_COMPLETE"  # click asks it whether a shell wants an answer

#: As `report.plots.FIGURES` has them, which is too slow to import for a shell; a test holds the two together.
FIGURE_NAMES = (
    "loss_vs_rank",
    "loss_vs_time",
    "relative_error_vs_rank",
    "equivalence",
    "singular_values",
    "imbalance",
    "phase_diagram",
)

_INSTALL = {
    "bash": 'in ~/.bashrc:  eval "$(flowsim completion bash)"',
    "zsh": 'in ~/.zshrc, after compinit:  eval "$(flowsim completion zsh)"',
    "fish": "once:  flowsim completion fish > ~/.config/fish/completions/flowsim.fish",
}
# bash would put a space behind a key that still wants its value.
_NO_SPACE = """
_flowsim_completion_of_keys() {
    _flowsim_completion "$@"
    [[ ${COMPREPLY[0]} == *= ]] && compopt -o nospace
    return 0
}
complete -o nosort -F _flowsim_completion_of_keys flowsim
"""

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem[str]]]


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@debug_option
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that lets SHELL complete commands, options, keys and files.

    The last line of the script says where to put it.

    \b
    Examples:
      eval "$(flowsim completion bash)"
      flowsim completion fish > ~/.config/fish/completions/flowsim.fish
    """
    maker = get_completion_class(shell)
    assert maker is not None  # click knows all of SHELLS
    script = maker(ctx.find_root().command, {}, "flowsim", VARIABLE).source().rstrip("\n")
    say(script + (_NO_SPACE if shell == "bash" else "\n") + f"# To have it in every shell, {_INSTALL[shell]}")


def words(*known: str) -> Completer:
    """Offer these words."""
    return lambda _ctx, _param, incomplete: _items(known, incomplete)


def listed_words(*known: str) -> Completer:
    """Offer these words as parts of a list with commas, each once."""

    def complete(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        before, comma, last = incomplete.rpartition(",")
        given = before.split(",")
        return [CompletionItem(before + comma + word) for word in known if word.startswith(last) and word not in given]

    return complete


def setting_keys(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Offer the key paths of a scenario, each with the sign that its value follows."""
    from flowsim.scenario.model import Scenario

    schema = Scenario.model_json_schema()
    return _items((f"{key}=" for key in dict.fromkeys(_keys(schema, schema["$defs"]))), incomplete)


def point_settings(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Offer the swept keys of the result or scenario on the command line, and then their values."""
    offered: list[str] = []
    # With an option that has no value yet, click has left the arguments where they were.
    place = ctx.params.get("path") or ctx.params.get("result") or next(iter(ctx.args), None)
    for axis in _axes(place):
        names = dict.fromkeys((axis.name, axis.path))
        chosen = [name for name in names if incomplete.startswith(f"{name}=")]
        offered += [f"{name}={text}" for name in chosen for text in axis.texts]
        offered += [] if chosen else [f"{axis.name}="]
    return _items(offered, incomplete)


def _items(known: Iterable[str], incomplete: str) -> list[CompletionItem[str]]:
    return [CompletionItem(word) for word in known if word.startswith(incomplete)]


def _keys(schema: Mapping[str, Any], parts: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[str]:
    """Every path of keys below a schema; a class within itself (a shift by a shift) is not entered again."""
    reference = str(schema.get("$ref", "")).removeprefix("#/$defs/")
    if reference and reference not in above:
        yield from _keys(parts[reference], parts, (*above, reference))
    for way in ("anyOf", "oneOf", "allOf"):
        for one in schema.get(way, ()):
            yield from _keys(one, parts, above)
    for key, value in schema.get("properties", {}).items():
        yield key
        yield from (f"{key}.{below}" for below in _keys(value, parts, above))


def _axes(place: object) -> tuple[Axis, ...]:
    """What is swept there; nothing where it cannot be read, for a shell shows no reasons."""
    from flowsim.scenario import read_scenario

    try:
        path = Path(str(place))
        path = path.parent if path.suffix == ".nc" else path
        return read_scenario(path / "scenario.yaml" if path.is_dir() else path).axes
    except (FlowsimError, OSError, ValueError):
        return ()
