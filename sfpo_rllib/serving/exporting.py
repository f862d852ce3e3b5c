"""The model of a checkpoint as a transformers folder, without an algorithm being built."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sfpo_rllib.checkpoints import newest_valid, read_config, read_weights
from sfpo_rllib.checkpoints.manifest import MANIFEST, METADATA
from sfpo_rllib.local_paths import local_path
from sfpo_rllib.rl_modules.export import PretrainedExport, staged
from sfpo_rllib.rl_modules.loading import load_model
from sfpo_rllib.rl_modules.lora import merged_weights
from sfpo_rllib.rl_modules.model_settings import MODEL_CONFIG_KEYS
from sfpo_rllib.run_loop.folder import RECORD, holds_run

_MODEL_FILES = ("config.json", "adapter_config.json")


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        folder: Where to.
        checkpoint: Where from.
        base_model: Of an adapter that is not merged; else None.
    """

    folder: Path
    checkpoint: Path
    base_model: str | None


def is_model(folder: Path) -> bool:
    """Whether it is a folder of transformers or peft, and not that of a run or a checkpoint."""
    trained = (folder / METADATA).is_file() or holds_run(folder)
    return not trained and any((folder / name).is_file() for name in _MODEL_FILES)


def checkpoint_in(source: str | Path) -> Path:
    """A checkpoint as it is; of a folder of checkpoints the newest one that is whole.

    Raises:
        ValueError: If it is neither.
    """
    source = Path(source).expanduser()
    if not source.is_dir():
        what = "is a file" if source.exists() else "there is no such folder"
        raise ValueError(f"{source}: must be a checkpoint or the folder of a run; {what}")
    if (source / METADATA).exists() or (source / MANIFEST).exists():
        return source
    if is_model(source):
        raise ValueError(f"{source}: is a model's folder already; vLLM and transformers load it")
    found = newest_valid(source)
    if found is None:
        raise ValueError(f"{source}: has no checkpoint_* that is whole, and is none itself")
    return found


def _target(given: str | Path) -> Path:
    """A folder that a model may be written to."""
    folder = local_path("folder", given)
    holds = [name for name in (RECORD, METADATA, MANIFEST) if (folder / name).exists()]
    if holds or holds_run(folder):
        raise ValueError(
            f"folder={str(given)!r}: must be another one: it is that of a run or a checkpoint"
            f"{' (' + holds[0] + ')' if holds else ''}, which a model's files would hide"
        )
    return folder


def export_model(
    source: str | Path, folder: str | Path, *, merge: bool = False, model: str | None = None
) -> Exported:
    """Writes the trained model in the dtype that the engines run, with its tokenizer.

    The config is unpickled, as by `from_checkpoint`: take no checkpoint of somebody's whom you do
    not trust.

    Args:
        source: A checkpoint, or the folder of a run, whose newest one is taken.
        folder: Where to; made if it does not exist. Of one that does, files of the same names and
            other weights are replaced, once all are written.
        merge: An adapter is added to its model's weights, and the whole model written.
        model: Where the model that training began with lies now, if it has been moved.

    Raises:
        ValueError: If there is no checkpoint, it is damaged, the model cannot be found, or the
            folder is that of a run or a checkpoint.
        OSError: If the folder cannot be written.
    """
    folder = _target(folder)
    checkpoint = checkpoint_in(source)
    arrays = read_weights(checkpoint)
    settings: dict[str, Any] = {**MODEL_CONFIG_KEYS, **read_config(checkpoint).model_config}
    settings["model"] = model or settings["model"]
    weights = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
    lora = settings["lora"]
    if lora is not None and merge:
        settings = {**settings, "lora": None}
        weights = merged_weights(load_model(settings, None), weights, lora)
    export = PretrainedExport(settings)
    with staged(folder) as stage:
        export.write(stage, weights)
    is_adapter = settings["lora"] is not None
    return Exported(folder, checkpoint, str(settings["model"]) if is_adapter else None)
