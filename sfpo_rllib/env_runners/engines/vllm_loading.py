"""Weights into vLLM's model. What is here runs in vLLM's workers.

A worker in another process, one of several of a tensor-parallel engine, reads them from a file in
shared memory: each takes its share of every tensor, and the file is there once.
"""

import contextlib
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

Weights = Iterable[tuple[str, torch.Tensor]]
Load = Callable[[Any, Weights], None]

SHARED_MEMORY = "/dev/shm"  # a folder in memory, where there is one


def load_in_place(worker: Any, weights: Weights) -> None:
    """Loads into the parameters as they are."""
    model = worker.model_runner.get_model()
    _check_all_loaded(model, model.load_weights(iter(weights)))


def reload_packed(worker: Any, weights: Weights) -> None:
    """On a CPU weights are packed for the kernels, which must be done anew.

    `reload_weights` does so, with two exceptions, both silent: experts, which are packed only when
    their kernel is made, and an output layer that shares the parameter of the embedding.
    """
    model = worker.model_runner.get_model()
    methods: list[Any] = [getattr(module, "quant_method", None) for module in model.modules()]
    experts = [method for method in methods if hasattr(method, "moe_kernel")]
    for method in experts:
        method.moe_kernel = None
    loaded: set[str] | None = None

    def load_weights(items: Weights) -> set[str] | None:
        nonlocal loaded
        loaded = type(model).load_weights(model, items)
        return loaded

    model.load_weights = load_weights  # reload_weights only logs what it returns
    try:
        worker.model_runner.reload_weights(weights_iterator=iter(weights))
    finally:
        del model.load_weights
    if any(method.moe_kernel is None for method in experts):
        raise RuntimeError("vLLM passed over the weights of experts")
    for module in _sharing_a_weight(model):
        module.quant_method.process_weights_after_loading(module)
    _check_all_loaded(model, loaded)


@contextlib.contextmanager
def in_shared_memory(weights: Mapping[str, torch.Tensor]) -> Iterator[str]:
    """A file of weights, there in the body."""
    place = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="sfpo_weights_", dir=place) as folder:
        path = Path(folder) / "weights.safetensors"
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, path)
        yield str(path)


def load_file(worker: Any, path: str, load: Load) -> None:
    """Loads from a file, a tensor at a time."""

    def read() -> Iterator[tuple[str, torch.Tensor]]:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118, it is no dict
                yield name, file.get_tensor(name)

    load(worker, read())


def _sharing_a_weight(model: torch.nn.Module) -> list[Any]:
    """Embeddings and output layers whose weight is one parameter."""
    from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding

    layers = [m for m in model.modules() if isinstance(m, VocabParallelEmbedding)]
    count = Counter(id(layer.weight) for layer in layers)
    return [layer for layer in layers if count[id(layer.weight)] > 1]


def _check_all_loaded(model: torch.nn.Module, loaded: set[str] | None) -> None:
    """Raises if vLLM says that it passed over a parameter.

    Raises:
        RuntimeError: If it did.
    """
    if loaded is None:  # models that do not keep track
        return
    missing = sorted({name for name, _ in model.named_parameters()} - loaded)
    if missing:
        raise RuntimeError(f"vLLM did not load {len(missing)} parameters, e.g. {missing[:3]}")
