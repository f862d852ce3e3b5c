"""What is evaluated: a model's folder or hub id, a checkpoint, or the checkpoints of a run.

Of a checkpoint the weights are read and nothing is unpickled, so that it may be a stranger's. Which
model they belong to is what the run's own JSON says, or the user.
"""

import hashlib
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from sfpo_rllib.checkpoints import CheckpointError, read_weights, verify
from sfpo_rllib.checkpoints.manifest import MANIFEST, METADATA, all_valid
from sfpo_rllib.core.checks import nearest
from sfpo_rllib.evals.runs import RunNotes, best_measured, notes_of
from sfpo_rllib.run_loop.folder import holds_run, iteration_of, numbered
from sfpo_rllib.run_loop.identity import fingerprint

logger = logging.getLogger(__name__)

CHOICES = ("newest", "best", "all")  # of a run's checkpoints
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_CONFIG, _ADAPTER = "config.json", "adapter_config.json"
# Of an adapter's file what is no argument of the adapter's: peft's notes, and where it is from.
_NOTES = (
    "auto_mapping",
    "base_model_name_or_path",
    "inference_mode",
    "peft_type",
    "peft_version",
    "revision",
    "task_type",
)


@dataclass(frozen=True)
class Evaluated:
    """A model, and which weights it has.

    Attributes:
        name: In tables, and of its folder.
        model: Folder or hub id that engine and tokenizer are loaded from.
        source: The `model_config` of a run, as far as it says how to load the model.
        checkpoint: Has the weights; None: the model's own.
        adapter: Folder of an adapter that has the weights.
        notes: Of the run that the checkpoint is of.
    """

    name: str
    model: str
    source: Mapping[str, Any]
    checkpoint: Path | None = None
    adapter: Path | None = None
    notes: RunNotes | None = None

    @property
    def dtype(self) -> str:
        """What it is computed in: as the run did, else as suits the machine."""
        default = "bfloat16" if torch.cuda.is_available() else "float32"
        return str(self.source.get("dtype", "float32" if self.notes else default))

    @property
    def lora(self) -> dict[str, Any] | None:
        """Arguments of `peft.LoraConfig`, if the weights are an adapter's."""
        if self.adapter is not None:
            given = json.loads((self.adapter / _ADAPTER).read_text())
            return {k: v for k, v in given.items() if k not in _NOTES and v is not None}
        lora: dict[str, Any] | None = self.source.get("lora")
        return lora

    def weights(self) -> dict[str, torch.Tensor] | None:
        """What the engine is to load beside the model; None: nothing.

        Raises:
            CheckpointError: If the checkpoint is damaged, or its weights are a pickle.
        """
        if self.adapter is not None:
            return dict(load_file(self.adapter / "adapter_model.safetensors"))
        if self.checkpoint is None:
            return None
        return {k: torch.from_numpy(v) for k, v in read_weights(self.checkpoint).items()}

    def identity(self) -> dict[str, Any]:
        """Whose replies they are, for a file: a digest of folders, wherever they lie."""
        where, digest = self.model, fingerprint(self.model)
        if self.adapter is not None:
            where, digest = str(self.adapter), fingerprint(str(self.adapter))
        elif self.checkpoint is not None:
            manifest = (self.checkpoint / MANIFEST).read_bytes()
            where, digest = str(self.checkpoint), hashlib.sha256(manifest).hexdigest()
        return {"path": where, "revision": self.source.get("revision"), "digest": digest}

    def loads_like(self, other: "Evaluated | None") -> bool:
        """Whether an engine of the other one can run it when it is given its weights."""
        return other is not None and (self.model, self.source, self.lora, self.dtype) == (
            (other.model, other.source, other.lora, other.dtype)
        )


def find_models(
    given: str | Path,
    *,
    base_model: str | None = None,
    checkpoint: str = "newest",
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> list[Evaluated]:
    """The models that a path or a hub id stands for.

    Args:
        given: A transformers folder, an adapter's, a checkpoint, the folder of a run or of a trial
            of Tune's, or the id of a hub.
        base_model: The model that a checkpoint belongs to, where no run says it or it has moved.
        checkpoint: Which of a run's: the "newest" that is whole, the "best" by the held-out
            accuracy that the run measured, or "all".
        revision: Of a hub id.
        trust_remote_code: As in transformers.

    Raises:
        ValueError: If it is none of these.
        CheckpointError: If all of a run's checkpoints are damaged.
    """
    if checkpoint not in CHOICES:
        raise ValueError(
            f"checkpoint={checkpoint}: must be one of {', '.join(CHOICES)}"
            f"{nearest(checkpoint, CHOICES)}"
        )
    text, path = str(given), Path(given).expanduser()
    own = {"revision": revision, "trust_remote_code": trust_remote_code}
    source = {key: value for key, value in own.items() if value}
    if path.is_dir():
        path = path.absolute()
        # A model may have been exported into the folder of a run, or into a checkpoint.
        is_model = not ((path / METADATA).is_file() or holds_run(path))
        if is_model and (path / _CONFIG).is_file():
            return [Evaluated(_label(path), str(path), source)]
        if is_model and (path / _ADAPTER).is_file():
            return [_adapter(path, base_model, source)]
        if (path / METADATA).is_file() or (path / MANIFEST).is_file():
            return [_of_checkpoint(path, notes_of(path.parent), base_model, source)]
        notes = notes_of(path)
        if notes is not None or numbered(path):
            chosen = _chosen(path, checkpoint)
            return [_of_checkpoint(each, notes, base_model, source) for each in chosen]
        raise ValueError(
            f"model={text}: must be a transformers folder (with a {_CONFIG}), a checkpoint or the "
            "folder of a run; this folder is none of them"
        )
    if path.exists():
        raise ValueError(f"model={text}: must be a folder or a hub id; it is a file")
    # Of a folder that is there `owner/name` is a path, with a mistake in it.
    if _HUB_ID.fullmatch(text) and not path.parent.is_dir():
        return [Evaluated(text, text, source)]
    raise ValueError(
        f"model={text}: there is no such folder, and a hub id would be owner/name{_neighbour(path)}"
    )


def _chosen(run: Path, choice: str) -> list[Path]:
    """Checkpoints of a run, in order."""
    valid = all_valid(run)
    newest = next(valid, None)
    if newest is None:
        kept = numbered(run)
        if kept:
            verify(kept[-1])  # raises, and says what is wrong with it
        raise CheckpointError(f"model={run}: this run has no checkpoint yet")
    if choice == "newest":
        return [newest]
    whole = [newest, *valid][::-1]
    if choice == "all":
        return whole
    best = best_measured(run, [iteration_of(path) for path in whole])
    if best is None:
        raise ValueError(
            f"checkpoint=best: the run in {run} does not say what held-out accuracy it had at its "
            "checkpoints; take newest or all"
        )
    ever = best_measured(run)
    if ever is not None and ever[1] > best[1]:
        logger.warning(
            "checkpoint=best: takes iteration %d, held-out accuracy %.3f. It was %.3f at "
            "iteration %d, of which there is no checkpoint; keep_best of run() spares the best",
            *best,
            *reversed(ever),
        )
    return [path for path in whole if iteration_of(path) == best[0]]


def _of_checkpoint(
    path: Path, notes: RunNotes | None, base_model: str | None, source: Mapping[str, Any]
) -> Evaluated:
    said = {} if notes is None else notes.model_config
    model = base_model or said.get("model")
    if model is None:
        raise ValueError(
            f"model={path}: which model its weights belong to stands in a pickle, which is not "
            "opened; say it with --base-model FOLDER_OR_HUB_ID"
        )
    if not (Path(model).is_dir() or _HUB_ID.fullmatch(model)):
        raise ValueError(
            f"model={path}: belongs to the model {model!r}, which is not there; say where it is "
            "with --base-model FOLDER_OR_HUB_ID"
        )
    # Without trust_remote_code: code of the hub's runs if this user says so, not if a file does.
    kept = {key: said[key] for key in ("dtype", "lora", "revision") if said.get(key)}
    return Evaluated(_label(path, 2), model, {**kept, **source}, checkpoint=path, notes=notes)


def _adapter(path: Path, base_model: str | None, source: Mapping[str, Any]) -> Evaluated:
    said = json.loads((path / _ADAPTER).read_text()).get("base_model_name_or_path")
    model = base_model or said
    if not model:
        raise ValueError(
            f"model={path}: is an adapter that does not say of which model; say it with "
            "--base-model FOLDER_OR_HUB_ID"
        )
    return Evaluated(_label(path), model, source, adapter=path)


def _label(path: Path, parts: int = 1) -> str:
    return "/".join(path.parts[-parts:])


def _neighbour(path: Path) -> str:
    if not path.parent.is_dir():
        return ""
    return nearest(path.name, [other.name for other in path.parent.iterdir() if other.is_dir()])
