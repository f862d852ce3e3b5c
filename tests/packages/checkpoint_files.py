"""How the tests of checkpoints look at folders and states, and damage them."""

import resource
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_LEARNER_GROUP, DEFAULT_MODULE_ID
from safetensors.torch import load_file

# Where the weights are.
MODULE = Path(COMPONENT_LEARNER_GROUP, COMPONENT_LEARNER, "rl_module", DEFAULT_MODULE_ID)


def files_of(folder: Path) -> dict[str, bytes]:
    """Everything in a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def tensors_of(checkpoint: Path) -> dict[str, torch.Tensor]:
    """The weights in a checkpoint."""
    return load_file(checkpoint / MODULE / "module_state.safetensors")


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file may grow beyond that in the body, as on a disk that is full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def damaged_copies(source: Path, parent: Path) -> Iterator[tuple[str, str, Path]]:
    """Copies with one file each that is not what it was: its name, the damage, the copy."""
    copy = parent / "copy"
    content = files_of(source)
    for name, data in content.items():
        damages = {"missing": None, "empty": b"", "cut": data[: len(data) // 2]}
        for at in {0, len(data) // 2, len(data) - 1}:
            flipped = bytearray(data)
            flipped[at] ^= 1 << at % 8
            damages[f"bit in byte {at}"] = bytes(flipped)
        for damage, new in damages.items():
            if new == data:  # the half of nothing
                continue
            for path in sorted(copy.rglob("*"), reverse=True):
                path.unlink() if path.is_file() else path.rmdir()
            for other, same in content.items():
                (copy / other).parent.mkdir(parents=True, exist_ok=True)
                (copy / other).write_bytes(same)
            (copy / name).unlink() if new is None else (copy / name).write_bytes(new)
            yield name, damage, copy


def assert_same(one: Any, other: Any) -> None:
    """Equal, of equal types, down to the last leaf."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list | tuple | deque):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            assert_same(left, right)
    elif isinstance(one, np.ndarray | torch.Tensor):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert one.tolist() == other.tolist()
    else:
        assert one == other or one != one
