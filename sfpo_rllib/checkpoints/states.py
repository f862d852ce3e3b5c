"""States as files: a tree in msgpack, its arrays and tensors beside it in safetensors.

What neither can hold, a function or an object of a user's class, goes into a pickle beside them.
Our own states have nothing of that kind.
"""

import pickle
import shutil
from collections import deque
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import torch
from ray import cloudpickle
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from sfpo_rllib.checkpoints.manifest import CheckpointError

_KIND, _VALUE = "$kind", "value"
_ANY_TEXT = "surrogatepass"  # msgpack's name for texts that are no Unicode
_CONTAINERS: dict[type, str] = {tuple: "tuple", set: "set", frozenset: "frozenset"}
# What numpy, torch and safetensors have alike.
_DTYPES = {
    *("bool", "uint8", "int8", "int16", "int32", "int64"),
    *("float16", "float32", "float64"),
}


def write(folder: Path, name: str, state: Any) -> None:
    """Writes a state as `name.msgpack`, and the files beside it that it needs.

    Args:
        folder: Where to.
        name: Of the files, without suffix.
        state: Nested dicts, lists, tuples, sets and deques of numbers, texts, arrays and tensors.
            Tensors are in host memory when they are read again.
    """
    split = _Split()
    tree = folder / f"{name}.msgpack"
    tree.write_bytes(msgpack.packb(split.encode(state, ()), unicode_errors=_ANY_TEXT))
    if split.tensors:
        tensors = folder / f"{name}.safetensors"
        save_file(split.tensors, tensors, metadata={"format": "pt"})
        shutil.copymode(tree, tensors)  # save_file keeps others from reading it
    if split.objects:
        with open(folder / f"{name}_objects.pkl", "wb") as file:
            cloudpickle.dump(split.objects, file)


def is_written(folder: Path, name: str) -> bool:
    """Whether there is a state that `write` has written."""
    return (folder / f"{name}.msgpack").exists()


def read(folder: Path, name: str, *, unpickle: bool = True) -> Any:
    """The state that `write` has written.

    Args:
        folder: Where it is.
        name: Of the files, without suffix.
        unpickle: Whether objects may be unpickled, which can run any code.

    Raises:
        CheckpointError: If a file is missing or damaged, or there are objects and they may not be
            unpickled.
    """
    path = folder / f"{name}.msgpack"
    try:
        content = path.read_bytes()
        tree = msgpack.unpackb(content, strict_map_key=False, unicode_errors=_ANY_TEXT)
    except Exception as error:  # a stranger's file raises anything
        raise CheckpointError(f"{path}: cannot be read ({error!r})") from error
    tensors = folder / f"{name}.safetensors"
    objects = folder / f"{name}_objects.pkl"
    return _Joined(path, tensors, objects, unpickle=unpickle).decode(tree)


def read_pickle(path: Path) -> Any:
    """The content of a pickle.

    Raises:
        CheckpointError: If it is missing or damaged.
    """
    try:
        with open(path, "rb") as file:
            return pickle.load(file)
    except Exception as error:  # a damaged pickle raises anything
        raise CheckpointError(f"{path}: cannot be read ({error!r})") from error


class _Split:
    """Takes arrays, tensors and objects out of a tree."""

    def __init__(self) -> None:
        self.tensors: dict[str, torch.Tensor] = {}
        self.objects: list[Any] = []
        self._addresses: set[int] = set()

    def encode(self, value: Any, path: tuple[str, ...]) -> Any:
        """What msgpack can hold of a branch.

        Args:
            value: The branch.
            path: To it, which names its tensors.
        """
        kind = type(value)  # and no class derived from it, which would not come back
        if value is None or kind in (bool, float, str):
            return value
        if kind is int:
            return value if value.bit_length() < 64 else {_KIND: "int", _VALUE: str(value)}
        if kind is list:
            return self._encode_all(value, path)
        if kind is dict and all(type(key) in (bool, int, float, str) for key in value):
            tree = {key: self.encode(v, (*path, str(key))) for key, v in value.items()}
            return {_KIND: "dict", _VALUE: tree} if _KIND in tree else tree
        if kind in _CONTAINERS:
            return {_KIND: _CONTAINERS[kind], _VALUE: self._encode_all(value, path)}
        if kind is deque:
            items = self._encode_all(value, path)
            return {_KIND: "deque", _VALUE: items, "maxlen": value.maxlen}
        if isinstance(value, np.generic) and value.dtype.name in _DTYPES:
            return {_KIND: "number", _VALUE: value.item(), "dtype": value.dtype.name}
        if kind is np.ndarray and value.dtype.name in _DTYPES and value.dtype.isnative:
            usable = value.flags.c_contiguous and value.flags.writeable
            tensor = torch.from_numpy(value if usable else value.copy())
            return {_KIND: "array", _VALUE: self._keep(tensor, path)}
        if kind is torch.Tensor and value.layout == torch.strided and not value.requires_grad:
            return {_KIND: "tensor", _VALUE: self._keep(value.cpu(), path)}
        self.objects.append(value)
        return {_KIND: "object", _VALUE: len(self.objects) - 1}

    def _encode_all(self, values: Any, path: tuple[str, ...]) -> list[Any]:
        return [self.encode(value, (*path, str(i))) for i, value in enumerate(values)]

    def _keep(self, tensor: torch.Tensor, path: tuple[str, ...]) -> str:
        name = "/".join(path) or "value"
        while name in self.tensors:
            name += "'"
        tensor = tensor.contiguous()
        whole = tensor.untyped_storage().nbytes() == tensor.nbytes
        if not whole or tensor.data_ptr() in self._addresses:  # safetensors refuses shared memory
            tensor = tensor.clone()
        self._addresses.add(tensor.data_ptr())
        self.tensors[name] = tensor
        return name


class _Joined:
    """Puts a tree together again."""

    def __init__(self, tree: Path, tensors: Path, objects: Path, *, unpickle: bool) -> None:
        self._tree, self._tensors, self._objects = tree, tensors, objects
        self._unpickle = unpickle
        self._unpickled: list[Any] | None = None

    def decode(self, tree: Any) -> Any:
        """The branch that `_Split.encode` has encoded."""
        try:
            if not self._tensors.exists():
                return self._decode(tree, None)
            with safe_open(self._tensors, framework="pt") as file:
                return self._decode(tree, file)
        except (SafetensorError, OSError, RecursionError) as error:
            raise CheckpointError(f"{self._tensors}: cannot be read ({error})") from error

    def _decode(self, tree: Any, file: Any) -> Any:
        if isinstance(tree, list):
            return [self._decode(branch, file) for branch in tree]
        if not isinstance(tree, dict):
            return tree
        if _KIND not in tree:
            return {key: self._decode(branch, file) for key, branch in tree.items()}
        try:
            return self._special(tree, file)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(f"{self._tree}: cannot be read ({error!r})") from error

    def _special(self, tree: dict[str, Any], file: Any) -> Any:
        kind, value = tree[_KIND], tree[_VALUE]
        if kind == "dict":
            return {key: self._decode(branch, file) for key, branch in value.items()}
        if kind == "int":
            return int(value)
        if kind == "deque":
            return deque(self._decode(value, file), maxlen=tree["maxlen"])
        if kind == "number":
            return np.dtype({name: name for name in _DTYPES}[tree["dtype"]]).type(value)
        if kind in ("array", "tensor"):
            if file is None:
                raise CheckpointError(f"{self._tensors}: is missing")
            # A copy: the file is mapped, and may be replaced.
            tensor = file.get_tensor(value).clone()
            return tensor.numpy() if kind == "array" else tensor
        if kind == "object":
            return self._object(value)
        containers = {name: container for container, name in _CONTAINERS.items()}
        return containers[kind](self._decode(value, file))

    def _object(self, index: int) -> Any:
        if not self._unpickle:
            raise CheckpointError(
                f"{self._objects}: holds a part of the state as a pickle, which is not opened as "
                "it can run code"
            )
        if self._unpickled is None:
            self._unpickled = read_pickle(self._objects)
        return self._unpickled[index]
