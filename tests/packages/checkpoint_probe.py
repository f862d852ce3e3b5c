"""A checkpoint without ray, and a process that is killed at every place in the saving of it.

`python -m checkpoint_probe folder` saves a first checkpoint in the folder, then again and again a
second one over it, killed one step further on each time, and prints what it found: with folders
that are exchanged, and with folders that are renamed one after the other. These differ in their
last steps alone.
"""

import gc
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
from pyarrow.fs import LocalFileSystem
from ray.rllib.utils.checkpoints import Checkpointable

from sfpo_rllib.checkpoints import CheckpointError, SavedAsTensors, replace, verify
from sfpo_rllib.checkpoints.manifest import announcement
from sfpo_rllib.checkpoints.replace import new_checkpoint

CHANGES = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.chmod"}


class Part(SavedAsTensors):
    """A component with an array, and parts below it."""

    METADATA_FILE_NAME = "rllib_checkpoint.json"

    def __init__(self, value: float = 0.0, **parts: "Part") -> None:
        self.value = value
        self.parts = parts

    def get_state(
        self, components: Any = None, *, not_components: Any = None, **kwargs: Any
    ) -> Any:
        own = {"value": self.value, "array": np.full(1000, self.value)}
        return {**own, **{name: part.get_state() for name, part in self.parts.items()}}

    def set_state(self, state: Any) -> None:
        assert (state["array"] == state["value"]).all()
        self.value = state["value"]

    def get_ctor_args_and_kwargs(self) -> tuple[tuple, dict[str, Any]]:
        return (self.value,), {}

    def get_checkpointable_components(self) -> list[tuple[str, Checkpointable]]:
        return list(self.parts.items())

    def get_metadata(self) -> dict[str, Any]:
        return announcement()

    def values(self) -> list[float]:
        return [self.value, *(value for part in self.parts.values() for value in part.values())]


def tree(value: float) -> Part:
    """Two parts of the same value."""
    return Part(value, one=Part(value))


def save(value: float, folder: Path) -> None:
    with new_checkpoint(LocalFileSystem(), str(folder)) as new:
        tree(value).save_to_path(new)


def load(folder: Path) -> list[float]:
    verify(folder)
    loaded = tree(0.0)
    loaded.restore_from_path(folder)
    return loaded.values()


def killed_after(steps: int, folder: Path) -> bool:
    """Saves 2 over what is there, in a process that dies before its nth change on the disk."""
    pid = os.fork()
    if pid == 0:
        left = [steps]

        def count(event: str, arguments: tuple[Any, ...]) -> None:
            if event in CHANGES:
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        save(2.0, folder)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def killed_everywhere(parent: Path, first: int = 0) -> dict[str, Any]:
    """What was found after each kill from the first step on, and what is left in the end."""
    folder, found = parent / "checkpoint", []
    killed = True
    while killed:
        save(1.0, folder)
        (folder / "note.txt").write_text("mine")
        steps = first + len(found)
        killed = killed_after(steps, folder)
        try:
            values = load(folder)
        except CheckpointError as error:
            raise SystemExit(f"killed after {steps} steps: {error}") from error
        if len(set(values)) != 1 or not (folder / "note.txt").exists():
            raise SystemExit(f"killed after {steps} steps: a mixture, {values}")
        found.append(values[0])
    save(1.0, folder)  # sweeps up
    return {"found": found, "left": sorted(os.listdir(parent))}


def main(parent: Path) -> None:
    """Goes through all places, and again through those that differ."""
    gc.freeze()  # what forks look through they copy
    (parent / "exchange").mkdir()
    (parent / "rename").mkdir()
    results = {"exchange": killed_everywhere(parent / "exchange")}
    replace._exchange = lambda one, other: False
    same = results["exchange"]["found"].count(1.0) - 10
    results["rename"] = killed_everywhere(parent / "rename", first=same)
    print(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
