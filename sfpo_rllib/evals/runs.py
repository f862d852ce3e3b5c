"""What the folder of a run says of it, in JSON: settings, model, the accuracy it measured."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfpo_rllib.algorithms.sfpo import SFPOConfig
from sfpo_rllib.evals.tasks import Task
from sfpo_rllib.reporting import HELD_OUT, PROGRESS, flatten, highest, read_rows, row_of
from sfpo_rllib.run_loop.folder import RECORD

TUNE_SETTINGS, TUNE_RESULTS = "params.json", "result.json"
# What its evaluations depend on. Others, of any class of config, are no matter here.
_OF_EVALUATION = (
    "chat_template_kwargs",
    "env",
    "env_config",
    "evaluation_config",
    "evaluation_duration",
    "explore",
    "group_size",
    "prompt_format",
    "sampling",
)


@dataclass(frozen=True)
class RunNotes:
    """A run, as its folder describes it.

    Attributes:
        folder: Where it is.
        settings: Those that are not their defaults, or all of them.
    """

    folder: Path
    settings: Mapping[str, Any]

    @property
    def model_config(self) -> Mapping[str, Any]:
        """What it says of the model."""
        return self.settings.get("model_config") or {}

    def own_evaluation(self) -> tuple[Task, dict[str, Any]]:
        """The task and the settings that the run evaluates itself with.

        Raises:
            ValueError: If the folder does not say them as text.
        """
        given = {k: self.settings[k] for k in _OF_EVALUATION if self.settings.get(k) is not None}
        evaluation_config = given.pop("evaluation_config", None)
        try:
            config = SFPOConfig().update_from_dict(given)
            config.evaluation(evaluation_config=_known(evaluation_config or {}))
            own = config.get_evaluation_config_object()
            num_problems = -(-own.evaluation_duration // own.group_size)
        except Exception as error:
            raise ValueError(
                f"model={self.folder}: its run does not say in text how it evaluates ({error}); "
                "say what to evaluate on with --tasks"
            ) from error
        settings = {
            "samples": own.group_size,
            "sampling": {"temperature": 1.0, **own.sampling},
            "prompt_format": own.prompt_format,
            "chat_template_kwargs": own.chat_template_kwargs,
        }
        return Task("own", own.env, own.env_config, num_problems), settings

    def prompting(self) -> dict[str, Any]:
        """How it turns observations into prompts, as far as it says."""
        names = ("prompt_format", "chat_template_kwargs")
        return {name: self.settings[name] for name in names if self.settings.get(name)}

    def reported(self, iteration: int) -> float | None:
        """The held-out accuracy that a run of `run()` measured at an iteration."""
        if not (self.folder / RECORD).is_file():
            return None
        for row in progress(self.folder):
            if row.get("iteration") == iteration and HELD_OUT in row:
                return row[HELD_OUT]
        return None


def _known(given: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in given.items() if key in _OF_EVALUATION}


def notes_of(folder: Path) -> RunNotes | None:
    """What a run's folder says, or that of a trial of Tune's; None if it is neither.

    Raises:
        ValueError: If it cannot be read.
    """
    for name, place in ((RECORD, ("identity", "settings")), (TUNE_SETTINGS, ())):
        path = folder / name
        if not path.is_file():
            continue
        try:
            content = json.loads(path.read_text())
            for key in place:
                content = content[key]
            return RunNotes(folder, {key.lstrip("_"): value for key, value in content.items()})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}: cannot be read as a run's ({error!r})") from error
    return None


def progress(folder: Path) -> list[dict[str, float]]:
    """A row an iteration, by the columns of `run()`, of its folder or a trial's of Tune's."""
    if (folder / TUNE_RESULTS).is_file():
        return _tune_rows(folder / TUNE_RESULTS)
    return read_rows(folder / PROGRESS)


def _tune_rows(path: Path) -> list[dict[str, float]]:
    rows: dict[int, dict[str, float]] = {}
    for line in path.read_text().splitlines():
        try:
            values = dict(flatten({k: v for k, v in json.loads(line).items() if k != "config"}))
        except ValueError:  # cut by a kill
            continue
        # One that went on from a checkpoint makes the iterations after it anew.
        rows[int(values["training_iteration"])] = row_of(values)
    return [rows[iteration] for iteration in sorted(rows)]


def best_measured(run: Path, among: Sequence[int] | None = None) -> tuple[int, float] | None:
    """At which iteration a run's held-out accuracy was highest, and how high it was.

    Args:
        run: Its folder.
        among: Only these iterations; None: all, whether or not there is a checkpoint of them.

    Returns:
        None if it was measured at none of them, or it is a trial of Tune's, which numbers its
        checkpoints otherwise.
    """
    if not (run / RECORD).is_file():
        return None
    return highest(progress(run), HELD_OUT, among)
