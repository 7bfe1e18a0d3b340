"""Damaged and hostile files: refused in two lines, or read as they were written; no crash, no hang, no other error."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from flowsim.errors import ResultError
from flowsim.trajectory import content, structure
from flowsim.trajectory.content import CONTENT
from flowsim.trajectory.source import Source
from flowsim.trajectory.store import load, open_result
from tests.trajectory.examples import save, seal_again, small, unseal

many = settings(
    max_examples=int(os.environ.get("FLOWSIM_PROBLEMS", "50")), derandomize=True, deadline=None, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.function_scoped_fixture],
)  # fmt: skip

SWEEP: dict[str, list[Any]] = {"std": [1e-4, 1.0], "init": ["gaussian", "orthogonal"]}
SEAL_BYTES = 48


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "sound.nc"
    save(small(), path)
    return path


@pytest.fixture(scope="module")
def unsealed(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Without a seal, by flowsim and by xarray, whose files carry no checksums at all."""
    folder = tmp_path_factory.mktemp("unsealed")
    save(small(), folder / "ours.nc")
    unseal(folder / "ours.nc")
    small().to_netcdf(folder / "xarray.nc", engine="h5netcdf")
    return [folder / "ours.nc", folder / "xarray.nc"]


def refused(path: Path) -> str:
    """The file is refused in two lines; the first of them, without the file's name."""
    with pytest.raises(ResultError) as caught:
        load(path)
    return two_lines(caught.value, path)


def two_lines(error: ResultError, path: Path) -> str:
    lines = error.lines()
    assert len(lines) == 2 and error.exit_code == 2 and all(line.isprintable() for line in lines), lines
    assert lines[0].startswith(f"{path}: ")
    return lines[0].removeprefix(f"{path}: ")


# Bytes


Edit = Callable[[bytes], bytes]


@st.composite
def edits(draw: st.DrawFn) -> tuple[str, list[Any]]:
    """What happens to the bytes of a file: places are shares of its length."""
    place = st.floats(0.0, 1.0)
    kind = draw(st.sampled_from(["flip", "overwrite", "number", "copy", "insert", "delete", "cut", "append"]))
    return kind, [
        draw(st.lists(st.tuples(place, st.integers(0, 7)), min_size=1, max_size=4)),
        draw(place),
        draw(place),
        draw(st.binary(min_size=1, max_size=64)),
        draw(st.sampled_from([0, 1, 2**31 - 1, 2**32, 2**63, 2**64 - 1, 48, 96])),
        draw(st.integers(1, 300)),
    ]


def edited(original: bytes, edit: tuple[str, list[Any]]) -> bytes:
    kind, (flips, here, there, some, number, length) = edit
    found, last = bytearray(original), len(original) - 1
    first, second = round(here * last), round(there * last)
    if kind == "flip":
        for place, bit in flips:
            found[round(place * last)] ^= 1 << bit
    elif kind == "overwrite":
        found[first : first + len(some)] = some
    elif kind == "number":
        found[first : first + 8] = struct.pack("<Q", number)
    elif kind == "copy":
        found[first : first + length] = original[second : second + length]
    elif kind == "insert":
        found[first:first] = some
    elif kind == "delete":
        del found[first : first + length]
    elif kind == "cut":
        del found[first:]
    else:
        found += some
    return bytes(found)


@given(edits())
@example(("flip", [[(1.0, 0)], 0.0, 0.0, b"a", 0, 1]))
@many
def test_a_damaged_file_is_refused_or_is_what_it_was(sound: Path, edit: tuple[str, list[Any]]) -> None:
    original = sound.read_bytes()
    path = sound.with_name("damaged.nc")
    found = edited(original, edit)
    path.write_bytes(found)
    if found in (original, original[:-SEAL_BYTES]):
        xr.testing.assert_identical(load(path), small())
    else:
        refused(path)


@given(st.sampled_from([0, 1]), edits())
@many
def test_damage_without_a_seal_never_does_harm(unsealed: list[Path], which: int, edit: tuple[str, list[Any]]) -> None:
    """Nobody can tell a changed number from a number; everything else is refused, also what HDF5 would loop on."""
    path = unsealed[which].with_name("damaged.nc")
    path.write_bytes(edited(unsealed[which].read_bytes(), edit))
    try:
        tree = load(path)
    except ResultError as error:
        two_lines(error, path)
    else:
        assert {name: set(tree[name].dataset.variables) for name in CONTENT} == {
            name: set(small()[name].dataset.variables) for name in CONTENT
        }


@pytest.mark.parametrize("length", [0, 8, 2**64 - 16, 2**64 - 1, 5000])
@pytest.mark.parametrize("number", [0, 1])
def test_a_heap_on_which_hdf5_would_loop_or_leave_its_memory(tmp_path: Path, number: int, length: int) -> None:
    """The first object of the first heap of texts claims a length."""
    path = tmp_path / "a.nc"
    save(small(), path)
    changed = bytearray(path.read_bytes())
    place = changed.index(b"GCOL") + 16
    changed[place : place + 16] = struct.pack("<HHIQ", number, 1, 0, length)
    path.write_bytes(changed)
    seal_again(path)
    said = refused(path)
    if (number, length) not in ((1, 0), (1, 8)):  # a text too short is none that HDF5 loops on
        assert "a heap of texts is damaged" in said


def test_a_heap_that_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"GCOL" + struct.pack("<B3xQ", 1, 4096) + bytes(1000))
    with Source(path) as source, pytest.raises(OSError, match="is cut"):
        source.readinto(memoryview(bytearray(512)))


# Structure

Change = Callable[[h5py.File], None]


def tamper(path: Path, original: Path, change: Change) -> None:
    """Change a file with HDF5 and seal it again."""
    path.write_bytes(original.read_bytes())
    with h5py.File(path, "r+") as file:
        change(file)
    seal_again(path)


def replace(
    file: h5py.File, name: str, *, data: Any = None, dims: list[str] | None = None, **options: Any
) -> h5py.Dataset:
    """Put another variable in the place of one, along the same dimensions unless others are named."""
    old = file[name]
    group, last = name.rsplit("/", 1)
    along = dims if dims is not None else [dim[0].name.rsplit("/", 1)[1] for dim in old.dims]
    shape = options.pop("shape", old.shape)
    del file[name]
    one = file[group].create_dataset(last, shape=shape, data=data, **options)
    for place, dim in enumerate(along):
        if dim:
            one.dims[place].attach_scale(file[f"{group}/{dim}"])
    return one


def group_with_scale(file: h5py.File, size: int, dtype: Any = "f8", **options: Any) -> h5py.Dataset:
    scale = file.create_group("more").create_dataset("x", shape=(size,), dtype=dtype, **options)
    scale.make_scale("x")
    return scale


def external(file: h5py.File) -> None:
    replace(file, "final/steps", dtype="f8", external=[("/etc/passwd", 0, 96)])


def virtual(file: h5py.File) -> None:
    shape = file["final/steps"].shape
    layout = h5py.VirtualLayout(shape, "f8")
    layout[...] = h5py.VirtualSource("/etc/passwd", "data", shape=shape)
    del file["final/steps"]
    file["final"].create_virtual_dataset("steps", layout)


def compound(file: h5py.File) -> None:
    replace(file, "final/steps", dtype=[("a", "f8"), ("b", "i8")])


def one_letter_many_times(file: h5py.File) -> None:
    """Every text of a variable is a reference to one long text: few bytes in the file, many in memory."""
    long = file["final"].create_dataset("long", shape=(), dtype=h5py.string_dtype(), data="a" * 40_000)
    start, count = file["final/reason"].id.get_offset(), file["final/reason"].size
    source = long.id.get_offset()
    file.flush()
    handle = os.open(file.filename, os.O_RDWR)
    os.pwrite(handle, os.pread(handle, 16, source) * count, start)
    os.close(handle)


def two_scales(file: h5py.File) -> None:
    file["final/again"] = np.zeros(2)
    file["final/again"].make_scale("again")
    file["final/steps"].dims[0].attach_scale(file["final/again"])


def deep(file: h5py.File) -> None:
    file.create_group("/".join("abcdefghijklmnop"))


def text_in_the_header(file: h5py.File) -> None:
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_layout(h5py.h5d.COMPACT)
    kind, space = h5py.h5t.py_create(h5py.string_dtype(), logical=True), h5py.h5s.create(h5py.h5s.SCALAR)
    h5py.h5d.create(file["checks"].id, b"more", kind, space, plan)


def unusual_name(file: h5py.File) -> None:
    file["final/\x1b[2J"] = h5py.SoftLink("/")


HOSTILE: dict[str, tuple[Change, str]] = {
    "soft link": (
        lambda file: file["final"].__setitem__("a", h5py.SoftLink("/trajectory")),
        "'final/a' leads elsewhere",
    ),
    "dangling link": (lambda file: file["final"].__setitem__("a", h5py.SoftLink("/none")), "'final/a' leads elsewhere"),
    "external link": (
        lambda file: file.__setitem__("a", h5py.ExternalLink("/etc/passwd", "/")),
        "'/a' leads elsewhere",
    ),
    "second name": (lambda file: file["final"].__setitem__("a", file["final/loss"]), "has more than one name"),
    "cycle to the root": (lambda file: file["final"].__setitem__("a", file["/"]), "has more than one name"),
    "cycle to itself": (lambda file: file["final"].__setitem__("a", file["final"]), "has more than one name"),
    "data elsewhere": (external, "the data of 'final/steps' lie elsewhere"),
    "virtual data": (virtual, "the data of 'final/steps' lie elsewhere"),
    "float32": (
        lambda file: replace(file, "final/loss", dtype="f4"),
        "'final/loss' is neither float64, int64 nor text",
    ),
    "int32": (lambda file: replace(file, "final/steps", dtype="i4"), "is neither float64, int64 nor text"),
    "unsigned": (lambda file: replace(file, "final/steps", dtype="u8"), "is neither float64, int64 nor text"),
    "bool": (lambda file: replace(file, "final/steps", dtype="?"), "is neither float64, int64 nor text"),
    "complex": (lambda file: replace(file, "final/loss", dtype="c16"), "is neither float64, int64 nor text"),
    "long double": (lambda file: replace(file, "final/loss", dtype="f16"), "is neither float64, int64 nor text"),
    "bytes": (lambda file: replace(file, "final/outcome", dtype="S9"), "is neither float64, int64 nor text"),
    "opaque": (lambda file: replace(file, "final/loss", dtype="V8"), "is neither float64, int64 nor text"),
    "compound": (compound, "is neither float64, int64 nor text"),
    "references": (
        lambda file: replace(file, "final/loss", dtype=h5py.ref_dtype),
        "is neither float64, int64 nor text",
    ),
    "lists": (
        lambda file: replace(file, "final/loss", dtype=h5py.vlen_dtype("f8")),
        "is neither float64, int64 nor text",
    ),
    "named type": (lambda file: file.__setitem__("final/a", np.dtype("f8")), "'final/a' is neither group nor variable"),
    "no extent": (
        lambda file: file["final"].create_dataset("a", data=h5py.Empty("f8")),
        "variable 'final/a' has no extent",
    ),
    "many dimensions": (lambda file: file["final"].create_dataset("a", shape=(1,) * 20, dtype="f8"), "has no extent"),
    "growing": (
        lambda file: replace(file, "final/steps", dtype="i8", maxshape=(None, None, None)),
        "variable 'final/steps' has no fixed size",
    ),
    "huge dimension": (lambda file: group_with_scale(file, 2**41), "dimension 'more/x' has no sound length"),
    "huge index": (lambda file: group_with_scale(file, 2**30), "dimension 'more/x' is too long"),
    "index of two dimensions": (
        lambda file: file.create_dataset("a", shape=(2, 3), dtype="f8").make_scale("a"),
        "dimension 'a' has no sound length",
    ),
    "huge piece": (
        lambda file: group_with_scale(file, 2**24, chunks=(2**24,), maxshape=(2**24,)),
        "variable 'more/x' is stored in pieces too large",
    ),
    "strange filter": (
        lambda file: replace(file, "final/steps", dtype="f8", compression="lzf"),
        "variable 'final/steps' is stored by an unknown filter",
    ),
    "lossy filter": (
        lambda file: replace(file, "final/steps", dtype="i8", scaleoffset=4),
        "variable 'final/steps' is stored by an unknown filter",
    ),
    "compressed text": (
        lambda file: replace(file, "final/outcome", dtype=h5py.string_dtype(), compression="gzip"),
        "text 'final/outcome' is stored in an unusual way",
    ),
    "text in the header": (text_in_the_header, "text 'checks/more' is stored in an unusual way"),
    "text filled with text": (
        lambda file: replace(file, "final/outcome", dtype=h5py.string_dtype(), fillvalue="a" * 9999),
        "text 'final/outcome' is stored in an unusual way",
    ),
    "one text many times": (one_letter_many_times, "texts share their letters"),
    "no dimensions": (
        lambda file: replace(file, "final/steps", dtype="i8", dims=[]),
        "variable 'final/steps' lacks dimensions",
    ),
    "half its dimensions": (
        lambda file: replace(file, "final/steps", dtype="i8", dims=["schedule", "", "seed"]),
        "variable 'final/steps' lacks dimensions",
    ),
    "two dimensions at once": (two_scales, "variable 'final/steps' lacks dimensions"),
    "other lengths": (
        lambda file: replace(file, "final/steps", dtype="i8", shape=(2, 2, 9)),
        "variable 'final/steps' is not as long as its dimensions",
    ),
    "a dimension twice": (
        lambda file: replace(file, "final/steps", dtype="i8", shape=(3, 2, 3), dims=["seed", "rank", "seed"]),
        "variable 'final/steps' has a dimension twice",
    ),
    "dimensions of another group": (
        lambda file: (
            file["final"].create_dataset("a", shape=(3,), dtype="f8").dims[0].attach_scale(file["theory/seed"])
        ),
        "variable 'final/a' is not as long as its dimensions",
    ),
    "dimension list of numbers": (
        lambda file: (
            file["final"].create_dataset("a", shape=(3,), dtype="f8").attrs.create("DIMENSION_LIST", [1.0, 2.0])
        ),
        "variable 'final/a' lacks dimensions",
    ),
    "too deep": (deep, "'a/b/c/d/e/f/g/h/i' lies too deep"),
    "unusual name": (unusual_name, "'final' holds a name of unusual signs"),
    "broken line in a name": (lambda file: file.create_group("a\nb"), "'' holds a name of unusual signs"),
    "long name": (lambda file: file.create_group("a" * 300), "'' holds a name of unusual signs"),
    "many attributes": (
        lambda file: [file["final"].attrs.create(f"a{i}", i) for i in range(250)],  # type: ignore[func-returns-value]
        "'final' has too many attributes",
    ),
    "attribute of two dimensions": (
        lambda file: file["final"].attrs.create("a", np.zeros((2, 2))),
        "attribute 'a' of 'final' is unusual",
    ),
    "attribute of references": (
        lambda file: file["final"].attrs.create("a", file["theory"].ref),
        "attribute 'a' of 'final' is neither text nor number",
    ),
    "attribute of parts": (
        lambda file: file["final"].attrs.create("a", np.zeros(1, dtype=[("a", "f8")])),
        "attribute 'a' of 'final' is neither text nor number",
    ),
    "logical attribute": (
        lambda file: file["final"].attrs.create("a", True),
        "attribute 'a' of 'final' is neither text nor number",
    ),
    "attribute that is no text": (
        lambda file: file["final"].attrs.create("a", np.bytes_(b"\xff\xfe")),
        "is not a readable netCDF-4 result: 'utf-8' codec can't decode",
    ),
    "unusual attribute": (
        lambda file: file["final"].attrs.create("a\x1b[2J", 1),
        "of 'final' is unusual",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_no_result_holds_is_refused(tmp_path: Path, sound: Path, name: str) -> None:
    change, says = HOSTILE[name]
    tamper(tmp_path / "a.nc", sound, change)
    assert says in refused(tmp_path / "a.nc")
    with pytest.raises(ResultError), open_result(tmp_path / "a.nc"):
        raise AssertionError("not reached")


@pytest.mark.parametrize(
    ("limit", "value", "says"),
    [
        ("OBJECTS", 100, "it has too many variables"),
        ("ATTRIBUTE_BYTES", 100, "its attributes are too long"),
        ("ATTRIBUTE_BYTES", 10_000, "its attributes are too long"),
        ("ATTRIBUTES", 3, "has too many attributes"),
        ("ENTRIES", 2, "is unusual"),
        ("DEPTH", 0, "lies too deep"),
        ("INDEX_BYTES", 20, "is too long"),
    ],
)
def test_there_is_an_end_to_everything(
    sound: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, says: str
) -> None:
    load(sound)
    monkeypatch.setattr(structure, limit, value)
    assert says in refused(sound)


ATTRIBUTES: dict[str, list[tuple[Any, str]]] = {
    "digest": [(3, "'digest' is no text"), (["a", "b"], "'digest' is no text"), (0.5, "'digest' is no text")],
    "format": [("2", "has result format '2'"), (2.5, "has result format 2.5"), ([2, 2], "has result format [2, 2]")],
    "coefficient": [
        ("x", "'coefficient' is no number"), ([1.0, 2.0], "'coefficient' is no number"),
        (np.nan, "'coefficient' is no number"), ("", "'coefficient' is no number"),
    ],
    "rows": [(np.inf, "'rows' is no number")],
    "resolved_scenario": [
        ("", "is no JSON"), ("{", "is no JSON"), ("[" * 100_000, "is no JSON"), ("[]", "is no scenario"),
        ("{}", "is no scenario"), ("3", "is no scenario"), (3, "is no text"),
        (json.dumps({"name": "a", "objective": 3}), "is no scenario"),
    ],
    "sweep": [
        ("", "is no JSON"), ("{}", "no list of axes"), ("[1]", "no list of axes"), ("null", "no list of axes"),
        ('[{"path": "a", "name": "b"}]', "no list of axes"), ('[{"path": "a", "name": 3, "values": []}]', "no list of"),
        ('[{"path": "a", "name": "b", "values": [1]}]', "lacks the variable trajectory/b"),
        ('[{"path": "a", "name": "time", "values": [1]}]', "no list of axes"), (3, "is no text"),
        (json.dumps([{"path": "a", "name": "b", "values": [1]}] * 2), "no list of axes"),
    ],
    "points": [
        ("[]", "does not fit"), ("[[1, 2], [3, 4]]", "does not fit"), ("[[1]]", "does not fit"), ("{}", "does not fit"),
        ('[["a", "b"]]', "does not fit"), ("[" * 100_000, "is no JSON"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_attributes_of_another_kind_are_refused(tmp_path: Path, sound: Path, name: str) -> None:
    for value, says in ATTRIBUTES[name]:
        tamper(tmp_path / "a.nc", sound, lambda file, value=value: file.attrs.create(name, value))  # type: ignore[misc]
        assert says in refused(tmp_path / "a.nc"), value


def changed(tree: xr.DataTree, group: str, change: Callable[[xr.Dataset], xr.Dataset]) -> xr.DataTree:
    tree[group] = xr.DataTree(change(tree[group].to_dataset()))
    return tree


UNFIT: dict[str, tuple[str, Callable[[xr.Dataset], xr.Dataset], str]] = {
    "other ranks": ("theory", lambda one: one.isel(rank=[0]), "theory/rank has 1 entries where 2 are wanted"),
    "other times": ("baseline", lambda one: one.isel(time=[0, 1]), "baseline/time has 2 entries where 4 are wanted"),
    "other order": ("theory", lambda one: one.isel(rank=[1, 0]), "theory/rank differs from that of another group"),
    "other seeds": ("final", lambda one: one.assign_coords(seed=[0, 1, 7]), "final/seed differs from that of another"),
    "a rank twice": ("trajectory", lambda one: one.assign_coords(rank=[4, 4]), "trajectory/rank has an entry twice"),
    "other dimensions": (
        "trajectory",
        lambda one: one.assign(loss=one["loss"].transpose("rank", "schedule", "seed", "time")),
        "the variable trajectory/loss lies along rank, schedule, seed, time",
    ),
    "fewer dimensions": (
        "final",
        lambda one: one.assign(loss=one["loss"].isel(seed=0, drop=True)),
        "the variable final/loss lies along schedule, rank",
    ),
    "no dimensions": (
        "checks",
        lambda one: one.assign(observed=one["observed"].isel(check=0)),
        "the variable checks/observed lies along nothing",
    ),
    "words for numbers": (
        "final",
        lambda one: one.assign(loss=one["outcome"].copy()),
        "the variable final/loss is of the wrong kind",
    ),
    "numbers for words": (
        "final",
        lambda one: one.assign(outcome=one["loss"].copy()),
        "the variable final/outcome is of the wrong kind",
    ),
    "counts for numbers": (
        "trajectory",
        lambda one: one.assign(loss=one["loss"].fillna(0).astype(int)),
        "the variable trajectory/loss is of the wrong kind",
    ),
    "numbers for counts": (
        "final",
        lambda one: one.assign(steps=one["steps"].astype(float)),
        "the variable final/steps is of the wrong kind",
    ),
    "ranks in words": (
        "theory",
        lambda one: one.assign_coords(rank=("rank", np.array(["1", "4"], dtype=object))),
        "the variable theory/rank is of the wrong kind",
    ),
    "no coordinate": ("theory", lambda one: one.drop_vars("rank"), "it lacks the variable theory/rank"),
    "no labels": ("trajectory", lambda one: one.drop_vars("kind"), "it lacks the variable trajectory/kind"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_parts_that_do_not_fit_are_refused(tmp_path: Path, name: str) -> None:
    group, change, says = UNFIT[name]
    save(changed(small(), group, change), tmp_path / "a.nc")
    assert says in refused(tmp_path / "a.nc")


SWEPT: dict[str, tuple[Callable[[xr.DataTree], xr.DataTree], str]] = {
    "an axis too long": (
        lambda tree: changed(tree, "final", lambda one: one.isel(std=[0])),
        "final/std has 1 entries where 2 are wanted",
    ),
    "axes behind": (
        lambda tree: changed(tree, "final", lambda one: one.assign(loss=one["loss"].transpose("schedule", ...))),
        "the variable final/loss lies along schedule, std, init, rank, seed",
    ),
    "an axis without its values": (
        lambda tree: changed(tree, "trajectory", lambda one: one.drop_vars("std")),
        "it lacks the variable trajectory/std",
    ),
    "other values": (
        lambda tree: changed(tree, "theory", lambda one: one.assign_coords(init=["a", "b"])),
        "theory/init differs from that of another group",
    ),
}


@pytest.mark.parametrize("name", SWEPT)
def test_sweeps_whose_axes_do_not_fit_are_refused(tmp_path: Path, name: str) -> None:
    change, says = SWEPT[name]
    save(small(SWEEP), tmp_path / "a.nc")
    load(tmp_path / "a.nc")
    save(change(small(SWEEP)), tmp_path / "a.nc")
    assert says in refused(tmp_path / "a.nc")


def test_what_a_sweep_does_not_change_need_not_lie_along_it(tmp_path: Path) -> None:
    tree = changed(small(SWEEP), "theory", lambda one: one.assign(parameters=one["parameters"][0, 0, :, 0]))
    save(tree, tmp_path / "a.nc")
    xr.testing.assert_identical(load(tmp_path / "a.nc"), tree)


def test_factors_are_looked_at_too(tmp_path: Path) -> None:
    tree = small()
    names = {"schedule": 2, "seed": 3, "time": 2, "factor": 1, "column": 5, "row": 6}
    A = xr.Variable(("schedule", "seed", "time", "factor", "column"), np.zeros((2, 3, 2, 1, 5)))
    B = xr.Variable(("schedule", "seed", "time", "row", "factor"), np.zeros((2, 3, 2, 6, 1)))
    tree["factors/rank_1"] = xr.DataTree(xr.Dataset({"A": A, "B": B}))
    save(tree, tmp_path / "a.nc")
    assert dict(load(tmp_path / "a.nc")["factors/rank_1"].sizes) == names
    tree["factors/rank_1"] = xr.DataTree(xr.Dataset({"A": A}))
    save(tree, tmp_path / "a.nc")
    assert "it lacks the variable factors/rank_1/B" in refused(tmp_path / "a.nc")
    tree["factors/rank_1"] = xr.DataTree(xr.Dataset({"A": A, "B": A}))
    save(tree, tmp_path / "a.nc")
    assert "the variable factors/rank_1/B lies along" in refused(tmp_path / "a.nc")


# Structure at random


KINDS: list[Any] = ["f4", "f8", "i4", "i8", "?", "c16", "S3", "V4", h5py.string_dtype(), h5py.ref_dtype]
VALUES: list[Any] = [
    0,
    -1,
    2**63 - 1,
    0.5,
    np.nan,
    "",
    "a",
    "\x1b[2J",
    ["a", "b"],
    [1, 2],
    [],
    True,
    b"\xff",
    "x" * 999,
]


@st.composite
def changes(draw: st.DrawFn) -> list[tuple[str, float, float, int, int]]:
    kinds = ["delete", "drop attribute", "set attribute", "replace", "link", "rename", "group", "detach"]
    one = st.tuples(
        st.sampled_from(kinds), st.floats(0.0, 1.0), st.floats(0.0, 1.0),
        st.integers(0, len(KINDS) - 1), st.integers(0, len(VALUES) - 1),
    )  # fmt: skip
    return draw(st.lists(one, min_size=1, max_size=3))


def apply(file: h5py.File, change: tuple[str, float, float, int, int], replaced: set[str]) -> None:
    """One change somewhere in the file; what h5py itself refuses does not happen."""
    kind, here, there, dtype, value = change
    names: list[str] = []
    file.visit(names.append)
    name = names[round(here * (len(names) - 1))]
    other = names[round(there * (len(names) - 1))]
    item = file[name]
    if kind == "delete":
        del file[name]
    elif kind == "drop attribute" and len(item.attrs) > 0:
        del item.attrs[list(item.attrs)[round(there * (len(item.attrs) - 1))]]
    elif kind == "set attribute":
        keys = [*item.attrs, "units", "coordinates", "CLASS", "NAME", "_FillValue", "scale_factor"]
        item.attrs[keys[round(there * (len(keys) - 1))]] = VALUES[value]
    elif kind == "replace" and isinstance(item, h5py.Dataset) and item.dtype != np.dtype(KINDS[dtype]):
        if name in replaced:  # twice may lead back to the same kind, and to a sound file of other numbers
            return
        replaced.add(name)
        replace(file, name, dtype=KINDS[dtype])
    elif kind == "link":
        file[f"{name.split('/')[0]}/link"] = [file[other], h5py.SoftLink(f"/{other}")][value % 2]
    elif kind == "rename":
        file.move(name, f"{name}x")
    elif kind == "group":
        file.create_group(f"{name.split('/')[0]}/group").attrs["a"] = VALUES[value]
    elif kind == "detach" and isinstance(item, h5py.Dataset) and item.ndim > 0 and len(item.dims[0]) > 0:
        item.dims[0].detach_scale(item.dims[0][0])


@given(changes())
@many
def test_a_file_changed_by_hand_is_refused_or_holds_the_same_numbers(
    sound: Path, several: list[tuple[str, float, float, int, int]]
) -> None:
    path = sound.with_name("changed.nc")

    def change(file: h5py.File) -> None:
        replaced: set[str] = set()
        for one in several:
            try:
                apply(file, one, replaced)
            except (KeyError, TypeError, ValueError, OSError, RuntimeError):
                continue

    tamper(path, sound, change)
    try:
        tree = load(path)
    except ResultError as error:
        two_lines(error, path)
        return
    original = small()
    for group, names in CONTENT.items():
        for name in names:
            np.testing.assert_array_equal(tree[group][name].values, original[group][name].values)
    for name in content.ATTRIBUTES:
        assert type(tree.attrs[name]) is type(original.attrs[name])
