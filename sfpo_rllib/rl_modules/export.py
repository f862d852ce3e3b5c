"""A trained model as a folder that transformers, peft and vLLM load.

All that can fail about it but the disk is done when training begins, on a model without weights.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import save_torch_state_dict
from transformers import AutoTokenizer, GenerationConfig, PreTrainedModel
from transformers.utils import GENERATION_CONFIG_NAME, cached_file
from transformers.utils import logging as transformers_logging

from sfpo_rllib.local_paths import local_path
from sfpo_rllib.rl_modules.lora import write_adapter
from sfpo_rllib.rl_modules.model_settings import ModelSettings
from sfpo_rllib.rl_modules.weights import DTYPES, checkpoint_format, skeleton

# What a folder may hold of weights saved before.
_WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "pytorch_model*", "adapter_config.json")
_SHARD_SIZE = "50GB"  # transformers' own


class PretrainedExport:
    """What a saved model has besides weights, ready before there are any to save.

    Nothing of it is read again from where the model came from.
    """

    def __init__(self, model_config: Mapping[str, Any]) -> None:
        """Writes the files into memory.

        Args:
            model_config: See `ModelSettings`.

        Raises:
            ValueError: If transformers cannot save them.
        """
        self._name: str = model_config["model"]
        settings = ModelSettings.of(model_config)
        self._source = settings.source
        self._lora = settings.lora
        self._dtype = DTYPES[settings.dtype]
        self._skeleton: PreTrainedModel | None = None
        try:
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                self._write_files(folder)
                self._files = {
                    path.relative_to(folder): path.read_bytes()
                    for path in folder.rglob("*")
                    if path.is_file()
                }
        except Exception as error:  # of any type: configs and tokenizers may bring their own code
            raise ValueError(
                f"model_config['model']={self._name!r}: must be a model that can be saved after "
                f"training, and its configuration or tokenizer cannot: "
                f"{type(error).__name__}: {error}"
            ) from error

    def _write_files(self, folder: Path) -> None:
        AutoTokenizer.from_pretrained(self._name, **self._source).save_pretrained(folder)
        if self._lora is not None:
            return
        model = skeleton(self._name, dtype=self._dtype, **self._source)
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config  # what is trained and saved is not
        derived, model.generation_config = model.generation_config, GenerationConfig()
        with _no_progress_bars():
            model.save_pretrained(folder, state_dict={})
        # As it is: transformers refuses to save what it takes for a mistake.
        try:
            revision = self._source["revision"]
            given = cached_file(self._name, GENERATION_CONFIG_NAME, revision=revision)
        except OSError:  # not every model has one
            derived.to_json_file(folder / GENERATION_CONFIG_NAME)
        else:
            shutil.copyfile(given, folder / GENERATION_CONFIG_NAME)
        self._skeleton = model

    def write(self, folder: Path, weights: Mapping[str, torch.Tensor]) -> None:
        """Writes everything.

        Args:
            folder: Where to; it must exist.
            weights: On the CPU; the model's under transformers' names, tied ones under one or all
                of them, or the adapter's under the names of peft's files.
        """
        for path, content in self._files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        if self._lora is not None:
            revision = self._source["revision"]
            write_adapter(folder, weights, self._lora, base_model=self._name, revision=revision)
            return
        assert self._skeleton is not None
        tensors = checkpoint_format(self._skeleton, weights, self._dtype)
        save_torch_state_dict(
            {name: _on_its_own(tensor) for name, tensor in tensors.items()},
            folder,
            max_shard_size=_SHARD_SIZE,
            metadata={"format": "pt"},
        )


def export_problems(model_config: Mapping[str, Any]) -> Iterator[str]:
    """Why a model that can be loaded could not be saved after training. Loads no weights."""
    if model_config.get("dtype", "float32") not in DTYPES:  # reported as such
        return
    try:
        PretrainedExport(model_config)
    except ValueError as error:
        yield str(error)


@contextlib.contextmanager
def staged(folder: str | Path) -> Iterator[Path]:
    """A folder to write into, whose files are moved to another one if all goes well.

    A folder that does not exist appears at once and whole. In one that does, files of the same
    name are replaced, other weights removed, and all else is left as it is.

    Args:
        folder: Where the files are to be in the end.

    Yields:
        The folder to write into.

    Raises:
        ValueError: If `folder` is a file, or no path on this machine.
        OSError: If it cannot be made or written to.
    """
    folder = local_path("folder", folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"folder={str(folder)!r}: must be a folder, or nothing yet; it is a file")
    is_new = not folder.exists()
    place = folder.parent if is_new else folder  # on the same device
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place, prefix=".saving_") as name:
        stage = Path(name) / "files"  # its permissions are the usual ones
        stage.mkdir()
        yield stage
        if is_new:
            stage.rename(folder)
            return
        files = [path.relative_to(stage) for path in stage.rglob("*") if path.is_file()]
        for path in files:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            os.replace(stage / path, folder / path)
        for pattern in _WEIGHTS:
            for path in folder.glob(pattern):
                if path.relative_to(folder) not in files:
                    path.unlink()


def _on_its_own(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor, copied if it is a part of another one, which safetensors refuses."""
    return tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()


@contextlib.contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Without transformers' bars, of which there would be an empty one."""
    were_on = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if were_on:
            transformers_logging.enable_progress_bar()
