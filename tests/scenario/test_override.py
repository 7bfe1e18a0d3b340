"""``--set``: what it changes, and mistakes located there."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flowsim.scenario import Document

Read = Callable[..., Document]
Refused = Callable[..., list[str]]


def test_values_are_yaml(read: Read, small: str) -> None:
    document = read(
        overrides=(
            "adapter.ranks=[3, 4]",
            "time.stop=1e1",
            "title=a = b",
            "schedules.1.windows=[0.5]",
            "adapter.init={kind: orthogonal, scale: 2}",
            "solver.method=exact",
        )
    )
    scenario = document.scenario
    assert scenario.adapter.ranks == (3, 4)
    assert scenario.time.stop == 10.0
    assert scenario.title == "a = b"
    assert scenario.schedules[1].windows == (0.5,)  # type: ignore[union-attr]
    assert scenario.adapter.init.kind == "orthogonal"
    assert scenario.solver.method == "exact"
    assert document.text == small
    assert len(document.overrides) == 6


def test_the_last_of_two_settings_counts(read: Read) -> None:
    assert read(overrides=("time.stop=20", "time.stop=30")).scenario.time.stop == 30.0


def test_a_setting_may_repair_the_file(read: Read) -> None:
    assert read(("stop: 10.0", "stop: -1"), overrides=("time.stop=5",)).scenario.time.stop == 5.0


def test_null_takes_something_away(read: Read) -> None:
    document = read(("shape: [6, 4]", "shape: [4, 4]"), overrides=("objective.kind=trace_squared", "target=null"))
    assert document.scenario.target is None


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("time.stpo=3", "--set time.stpo: unknown key (did you mean stop?)"),
        ("adaptr.ranks=[1]", "--set adaptr.ranks: adaptr: unknown key (did you mean adapter?)"),
        ("seeds=3", "--set seeds: unknown key (did you mean adapter.seeds?)"),
        ("solver.metod=exact", "--set solver.metod: unknown key (did you mean method?)"),
        ("adapter.ranks=[1, 0]", "--set adapter.ranks: adapter.ranks.1: must be at least 1, not 0"),
        ("time.stop=", "--set time.stop: should be a number, not nothing"),
        ("time.stop=-1", "--set time.stop: must be greater than 0, not -1"),
        ("time.stop=.nan", "--set time.stop: must be finite, not nan"),
        ("time={stop: -1}", "--set time: time.stop: must be greater than 0, not -1"),
        ("schedules.1.windows=3", "--set schedules.1.windows: should be a list, not 3"),
        ("schedules.3.windows=[1]", "--set schedules.3.windows: schedules is a list of 3, and has no entry "),
        ("schedules.-1.windows=[1]", "--set schedules.-1.windows: schedules is a list of 3, and has no entr"),
        ("schedules.x.windows=[1]", "--set schedules.x.windows: schedules is a list of 3, and has no entry "),
        ("name.x=1", "--set name.x: name is 'small', which has no keys"),
        ("foo", "--set foo: is not of the form key.path=value"),
        ("=3", "--set =3: is not of the form key.path=value"),
        ("a..b=3", "--set a..b=3: is not of the form key.path=value"),
        ("title='x", "--set title: not YAML: found unexpected end of stream"),
        ("time.stop=!!python/name:os.system 3", "--set time.stop: the tag"),
        ("adapter.init.std=-1", "--set adapter.init.std: must be at least 0, not -1"),
        ("save.factors=some", "--set save.factors: 'some' is not known here"),
        ("pretrained.shape=[6, 5]\nx: 1", "--set pretrained.shape: not YAML"),
        ("checks=[equivalance]", "--set checks: checks.0: 'equivalance' is not known here (did you mean equ"),
    ],
)  # fmt: skip
def test_a_mistake_is_located_at_the_setting(refused: Refused, setting: str, expected: str) -> None:
    lines = refused(overrides=(setting,))
    assert any(line.startswith(expected) for line in lines), "\n".join(lines)


def test_settings_and_file_are_told_together(refused: Refused) -> None:
    lines = refused(("std: 0.1", "std: -1"), overrides=("time.stop=0", "time.points=1"))
    assert [line.split(": ")[0] for line in lines[::2]] == [
        "s.yaml:8:31",
        "--set time.stop",
        "--set time.points",
    ]


def test_a_section_that_is_not_there_can_be_entered(read: Read, refused: Refused) -> None:
    assert read(overrides=("solver.rtol=1e-6",)).scenario.solver.rtol == 1e-6
    lines = refused(("  init: {kind: gaussian, std: 0.1}\n", ""), overrides=("adapter.init.std=1",))
    assert lines[0] == "--set adapter.init.std: adapter.init.kind: is required, but missing"


def test_shapes_that_a_setting_spoils_are_located_there(refused: Refused) -> None:
    lines = refused(overrides=("target={kind: gaussian, shape: [5, 4]}",))
    assert lines[0] == "--set target: target is 5 x 4, but pretrained is 6 x 4" or lines[0].startswith(
        "--set target: is 5 x 4, but pretrained is 6 x 4"
    )
