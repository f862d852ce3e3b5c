"""What the tests of evaluations are made of: problems, replies, checkpoints."""

import json
import pickle
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from sfpo_rllib.checkpoints import states
from sfpo_rllib.checkpoints.algorithm import _MODULE
from sfpo_rllib.checkpoints.manifest import METADATA, announcement, write_manifest
from sfpo_rllib.evals.replies import Reply


def write_problems(path: Path, answers: list[str]) -> Path:
    """A file of problems, called P0, P1 and so on."""
    rows = [{"problem": f"P{i}.", "answer": answer} for i, answer in enumerate(answers)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def make_reply(problem: int, sample: int = 0, **given: Any) -> Reply:
    """A reply to a task called "t", wrong unless it says otherwise."""
    values: dict[str, Any] = {
        "task": "t",
        "prompt": f"P{problem}",
        "reply": "2",
        "dialogue": None,
        "gold": "1",
        "answer": "2",
        "verdict": "wrong",
        "success": 0.0,
        "reward": 0.0,
        "num_tokens": 3,
        "truncated": False,
    }
    return Reply(problem=problem, sample=sample, **(values | given))


class Trap:
    """Unpickled, it leaves a file."""

    def __init__(self, flag: Path) -> None:
        self.flag = flag

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (self.flag,)


def write_checkpoint(folder: Path, model: Path, *, scale: float, flag: Path) -> Path:
    """A checkpoint of a model whose weights are so many times as large; its pickle is a trap."""
    lm = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    tied = set(lm.all_tied_weights_keys)
    weights = {
        name: (scale * tensor).numpy()
        for name, tensor in lm.state_dict().items()
        if name not in tied
    }
    (folder / _MODULE).mkdir(parents=True)
    states.write(folder / _MODULE, "module_state", weights)
    (folder / METADATA).write_text(json.dumps(announcement()))
    (folder / "class_and_ctor_args.pkl").write_bytes(pickle.dumps(Trap(flag)))
    write_manifest(folder)
    return folder


def write_run(folder: Path, settings: dict[str, Any]) -> Path:
    """The folder of a run, as far as its record goes."""
    folder.mkdir(parents=True, exist_ok=True)
    record = {"identity": {"algorithm": "SFPO", "settings": settings, "model": None}}
    (folder / "run.json").write_text(json.dumps(record))
    return folder
