"""Checkpoints as folders: replaced at once or not at all, checked file by file, found anywhere."""

import errno
import json
import logging
import os
import subprocess
import sys
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.fs
import pytest
import torch

pytest.importorskip("ray")

from checkpoint_files import assert_same, damaged_copies, files_of, largest_file
from checkpoint_probe import load, save, tree
from fsspec.implementations.memory import MemoryFileSystem
from ray.tune import Checkpoint

from sfpo_rllib.checkpoints import CheckpointError, newest_valid, states, verify
from sfpo_rllib.checkpoints.components import _pack, _unpack
from sfpo_rllib.checkpoints.manifest import MANIFEST, METADATA
from sfpo_rllib.checkpoints.places import resolve
from sfpo_rllib.checkpoints.replace import new_checkpoint

# Saving.


def test_a_save_killed_anywhere_leaves_one_of_the_two_whole(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "checkpoint_probe", str(tmp_path)]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=240)
    results = json.loads(output.stdout.splitlines()[-1])
    assert len(results["exchange"]["found"]) > 30
    for result in results.values():
        found = result["found"]
        assert found == sorted(found), "first the one that was there, then the new one"
        assert set(found) == {1.0, 2.0}
        assert result["left"] == ["checkpoint"], "what the killed ones left is swept up"


def test_a_disk_that_is_full_in_the_middle_of_any_file_leaves_the_former_one(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "checkpoint"
    save(1.0, folder)
    before = files_of(folder)
    middles = {len(content) // 2 for content in before.values()}
    assert len(middles) > 3
    for middle in middles:
        with (
            pytest.raises(CheckpointError, match=r"could not be saved.*File too large"),
            largest_file(middle),
        ):
            save(2.0, folder)
        assert files_of(folder) == before
        assert os.listdir(tmp_path) == ["checkpoint"]
    save(2.0, folder)
    assert load(folder) == [2.0] * 2


def test_a_disk_that_is_full_at_any_file_leaves_the_former_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it is full at last, when files are synced."""
    folder = tmp_path / "checkpoint"
    save(1.0, folder)
    before = files_of(folder)
    fsync = os.fsync
    for at in range(len(before)):
        left = [at]

        def full(descriptor: int, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(CheckpointError, match="No space left on device"):
            save(2.0, folder)
        assert files_of(folder) == before
        assert os.listdir(tmp_path) == ["checkpoint"]


@pytest.mark.parametrize("error", [RuntimeError("no weights"), KeyboardInterrupt()])
def test_what_interrupts_a_save_leaves_the_former_one(error: BaseException, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    save(1.0, folder)
    before = files_of(folder)
    expected = CheckpointError if isinstance(error, Exception) else KeyboardInterrupt
    with pytest.raises(expected), new_checkpoint(*resolve(folder)) as new:
        (new / "half").write_text("x")
        raise error
    assert files_of(folder) == before
    assert os.listdir(tmp_path) == ["checkpoint"]


def test_all_is_on_the_disk_before_it_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = []
    fsync, rename = os.fsync, os.rename

    def record_fsync(descriptor: int) -> None:
        events.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    def record_rename(one: Any, other: Any, **kwargs: Any) -> None:
        events.append("rename")
        rename(one, other, **kwargs)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "rename", record_rename)
    folder = tmp_path / "checkpoint"
    save(1.0, folder)
    at = events.index("rename")
    folders = {path for path in folder.rglob("*") if path.is_dir()} | {folder}
    assert len(set(events[:at])) == len(files_of(folder)) + len(folders)
    assert events[at + 1 :] == [str(tmp_path)], "and then that it has"


def test_a_folder_that_is_no_checkpoint_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    (tmp_path / "file").write_text("x")
    for target, reason in [(tmp_path, "'file' in it"), (tmp_path / "file", "it is a file")]:
        with pytest.raises(CheckpointError, match=reason):
            save(1.0, target)
    assert sorted(os.listdir(tmp_path)) == ["file", "thesis.tex"]


def test_files_of_others_in_a_checkpoint_stay(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    folder.mkdir(mode=0o750)  # an empty one is taken as it is
    save(1.0, folder)
    (folder / "plots").mkdir()
    (folder / "plots" / "a b.png").write_bytes(b"x")
    save(2.0, folder)
    assert load(folder) == [2.0] * 2
    assert (folder / "plots" / "a b.png").read_bytes() == b"x"
    assert folder.stat().st_mode & 0o777 == 0o750


# Loading.


def test_any_damage_to_any_file_is_found_and_the_file_named(tmp_path: Path) -> None:
    save(1.0, tmp_path / "checkpoint")
    damages = 0
    for name, damage, copy in damaged_copies(tmp_path / "checkpoint", tmp_path):
        with pytest.raises(CheckpointError) as error:
            verify(copy)
        assert str(copy) in str(error.value), (name, damage)
        # What the manifest says of a file may be what is damaged.
        assert name == MANIFEST or f"{copy}/{name}: " in str(error.value), (name, damage)
        damages += 1
    assert damages > 50


def test_without_a_manifest_only_an_old_checkpoint_loads_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "checkpoint"
    save(1.0, folder)
    (folder / MANIFEST).unlink()
    with pytest.raises(CheckpointError, match=f"{MANIFEST}: is missing; .* not saved to its end"):
        verify(folder)
    (folder / METADATA).write_text("{}")  # as RLlib writes it
    with pytest.raises(CheckpointError, match=r"class_and_ctor_args|algorithm_state.pkl"):
        verify(folder)
    module = folder / "learner_group" / "learner" / "rl_module" / "default_policy"
    module.mkdir(parents=True)
    for path in (folder / "algorithm_state", module.parents[1] / "state", module / "module_state"):
        path.with_suffix(".pkl").write_bytes(b"x")
    with caplog.at_level(logging.WARNING, logger="sfpo_rllib"):
        verify(folder)
    assert len(caplog.messages) == 1
    assert "older" in caplog.text


def test_the_newest_checkpoint_that_verifies_is_found_and_the_others_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert newest_valid(tmp_path / "nothing") is None
    for number in ("000002", "9", "10"):
        save(float(number), tmp_path / f"checkpoint_{number}")
    (tmp_path / "checkpoint_11").mkdir()
    (tmp_path / "checkpoint_final").mkdir()
    (tmp_path / "checkpoint_12").write_text("x")
    with caplog.at_level(logging.WARNING, logger="sfpo_rllib"):
        assert newest_valid(tmp_path) == tmp_path / "checkpoint_10"
        array = tmp_path / "checkpoint_10" / "one" / "state.safetensors"
        array.write_bytes(b"x" + array.read_bytes()[1:])
        assert newest_valid(str(tmp_path)) == tmp_path / "checkpoint_9"
    assert f"{array}: does not have the SHA-256" in caplog.text
    assert "checkpoint_12" in caplog.text and "checkpoint_11" in caplog.text
    assert "checkpoint_final" not in caplog.text
    # Killed between two renames, where folders cannot be exchanged.
    (tmp_path / "checkpoint_9").rename(tmp_path / ".checkpoint_9.former")
    assert newest_valid(tmp_path) == tmp_path / "checkpoint_9"


# Places.

PLACES = {
    "spaces and Unicode": lambda folder: (folder / "ein Läufer 模型" / "c # 1%20", None),
    "a URI": lambda folder: (f"file://{folder}/plain", None),
    "a URI that is encoded": lambda folder: (f"file://{folder}/a%20b", None),
    "relative": lambda folder: ("runs/checkpoint_1", None),
    "the working directory's": lambda folder: ("./checkpoint", None),
    "pyarrow, local": lambda folder: (str(folder / "c"), pyarrow.fs.LocalFileSystem()),
    "pyarrow, below": lambda folder: (
        "x/c",
        pyarrow.fs.SubTreeFileSystem(str(folder), pyarrow.fs.LocalFileSystem()),
    ),
    "fsspec": lambda folder: ("bucket/c", MemoryFileSystem()),
    "fsspec in pyarrow": lambda folder: (
        "/bucket/d",
        pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(MemoryFileSystem())),
    ),
    "Tune's": lambda folder: (Checkpoint.from_directory(str(folder / "t")), None),
}


@pytest.mark.parametrize("place", PLACES)
def test_checkpoints_are_saved_replaced_and_loaded_anywhere(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path, filesystem = PLACES[place](tmp_path)
    for value in (1.0, 2.0):
        with new_checkpoint(*resolve(path, filesystem)) as new:
            tree(value).save_to_path(new)
        verify(path, filesystem)
        loaded = tree(0.0)
        loaded.restore_from_path(path, filesystem=filesystem)
        assert loaded.values() == [value] * 2
    where, folder = resolve(path, filesystem)
    (state,) = (
        info
        for info in where.get_file_info(pyarrow.fs.FileSelector(folder))
        if info.base_name == "state.msgpack"
    )
    with where.open_output_stream(state.path) as stream:
        stream.write(b"x" * state.size)
    with pytest.raises(CheckpointError, match=r"state\.msgpack: does not have the SHA-256"):
        verify(path, filesystem)


class Failing(pyarrow.fs.FSSpecHandler):
    """A file system on which the nth file cannot be opened to be written, or the nth move fails."""

    left = 10**6
    moves_left = 10**6

    def open_output_stream(self, path: str, metadata: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            raise OSError(errno.ECONNRESET, "Connection reset by peer")
        return super().open_output_stream(path, metadata)

    def move(self, source: str, target: str) -> None:
        self.moves_left -= 1
        if self.moves_left == -1:
            raise NotImplementedError("folders cannot be moved")
        super().move(source, target)


def test_an_upload_cut_at_any_file_leaves_the_former_checkpoint() -> None:
    handler = Failing(MemoryFileSystem())
    filesystem = pyarrow.fs.PyFileSystem(handler)

    def save_there(value: float, folder: str) -> None:
        with new_checkpoint(filesystem, folder) as new:
            tree(value).save_to_path(new)

    save_there(1.0, "/cut/checkpoint")
    num_files = 10**6 - handler.left
    assert num_files == 9
    for at in range(num_files):
        handler.left = at
        with pytest.raises(CheckpointError, match="Connection reset"):
            save_there(2.0, "/cut/checkpoint")
        handler.left = at
        with pytest.raises(CheckpointError, match="Connection reset"):
            save_there(2.0, "/cut/new")
        loaded = tree(0.0)
        verify("/cut/checkpoint", filesystem)
        loaded.restore_from_path("/cut/checkpoint", filesystem=filesystem)
        assert loaded.values() == [1.0] * 2
        names = [i.base_name for i in filesystem.get_file_info(pyarrow.fs.FileSelector("/cut"))]
        assert names == ["checkpoint"]


@pytest.mark.parametrize("at", [0, 1])
def test_where_folders_cannot_be_moved_a_former_checkpoint_is_kept(at: int) -> None:
    handler = Failing(MemoryFileSystem())
    filesystem = pyarrow.fs.PyFileSystem(handler)
    with new_checkpoint(filesystem, f"/moved_{at}/checkpoint") as new:
        tree(1.0).save_to_path(new)
    handler.moves_left = at
    with (
        pytest.raises(CheckpointError, match="folders cannot be moved"),
        new_checkpoint(filesystem, f"/moved_{at}/checkpoint") as new,
    ):
        tree(2.0).save_to_path(new)
    loaded = tree(0.0)
    verify(f"/moved_{at}/checkpoint", filesystem)
    loaded.restore_from_path(f"/moved_{at}/checkpoint", filesystem=filesystem)
    assert loaded.values() == [1.0] * 2
    selector = pyarrow.fs.FileSelector(f"/moved_{at}")
    assert [info.base_name for info in filesystem.get_file_info(selector)] == ["checkpoint"]


def test_files_travel_between_nodes_as_they_are(tmp_path: Path) -> None:
    save(1.0, tmp_path / "one")
    _unpack(_pack(tmp_path / "one"), tmp_path / "other")
    assert files_of(tmp_path / "one") == files_of(tmp_path / "other")


# States.


SHARED = torch.arange(12.0).reshape(3, 4)
STATE = {
    "plain": [1, -1.5, float("inf"), float("nan"), None, True, "ä\ud800", 2**63, -(2**200), ""],
    "containers": {"tuple": (1, (2,)), "set": {1, 2}, "frozen": frozenset("a"), "empty": [{}, ()]},
    "keys": {0: {"k": np.float32(0.1)}, True: np.bool_(True), 1.5: np.int8(3)},
    "deque": deque([1.0, 2.0], maxlen=3),
    "looks like ours": {"$kind": "array", "value": "x"},
    "arrays": [
        np.zeros((2, 0)),
        np.array(3.0),
        np.frombuffer(b"abcd", np.uint8),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(4)[::-1],
        np.ones(2, np.float16),
    ],
    "tensors": [SHARED, SHARED[:, 1:], SHARED, torch.tensor(7), torch.ones(2).bfloat16()],
    "a/b": np.ones(1),
    "a": {"b": np.ones(2)},
}


def test_a_state_is_read_as_it_was_written_without_a_pickle(tmp_path: Path) -> None:
    states.write(tmp_path, "state", STATE)
    assert sorted(os.listdir(tmp_path)) == ["state.msgpack", "state.safetensors"]
    read = states.read(tmp_path, "state", unpickle=False)
    assert_same(STATE, read)
    assert read["deque"].maxlen == 3
    for array in read["arrays"]:
        array[...] = 1  # its own memory, not the file's
    assert_same(STATE, states.read(tmp_path, "state"))


def test_what_only_a_pickle_can_hold_is_in_a_pickle_that_may_be_refused(tmp_path: Path) -> None:
    state = {"mine": slice(1, 2), "texts": np.array(["a"]), "weights": np.ones(2), 3: {None: 1}}
    states.write(tmp_path, "state", state)
    assert_same(state, states.read(tmp_path, "state"))
    with pytest.raises(CheckpointError, match=r"state_objects\.pkl: .* can run code"):
        states.read(tmp_path, "state", unpickle=False)


@pytest.mark.parametrize(
    "tree",
    [
        b"",
        b"\xc1",
        b"\x91" * 100_000,
        {"$kind": "no such"},
        {"$kind": "array"},
        {"$kind": "array", "value": "no such"},
        {"$kind": "array", "value": ["x"]},
        {"$kind": "number", "dtype": "object", "value": 1},
        {"$kind": "set", "value": [[1]]},
        {"$kind": "int", "value": "x"},
        {"$kind": "deque", "value": 3, "maxlen": None},
        {"$kind": ["tuple"], "value": []},
    ],
    ids=lambda tree: str(tree)[:30],
)
@pytest.mark.parametrize("with_tensors", [True, False])
def test_a_strangers_state_is_read_or_refused(
    tree: Any, with_tensors: bool, tmp_path: Path
) -> None:
    msgpack = pytest.importorskip("msgpack")
    states.write(tmp_path, "state", {"x": np.ones(1)} if with_tensors else {})
    content = tree if isinstance(tree, bytes) else msgpack.packb(tree)
    (tmp_path / "state.msgpack").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"state\.\w+: (cannot be read|is missing)"):
        states.read(tmp_path, "state", unpickle=False)
    (tmp_path / "state.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"state\.\w+: cannot be read"):
        states.read(tmp_path, "state", unpickle=False)
