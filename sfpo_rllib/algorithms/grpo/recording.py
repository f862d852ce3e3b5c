"""An algorithm that keeps and shows some of its rollouts, in the folder of its run."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from pyarrow.fs import LocalFileSystem
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, TIMERS

from sfpo_rllib.algorithms.grpo.recording_learner import take_groups
from sfpo_rllib.env_runners.stream import Group
from sfpo_rllib.recordings import Recorder


class Recording(Algorithm):
    """Records after the update, when what the learner computed of the batch is known."""

    evaluation_config: Any
    learner_group: Any
    # What `iteration` was in the last training step: evaluations in the same `train()` follow it.
    _trained_in: int | None = None

    @cached_property
    def _recorder(self) -> Recorder:
        return Recorder(self.config, self._run_folder)

    @property
    def _run_folder(self) -> Path:
        """Of a trial of Tune's where its results are, if that is on this machine."""
        storage = self._storage
        if storage is not None and isinstance(storage.storage_filesystem, LocalFileSystem):
            return Path(storage.trial_fs_path)
        return Path(self.logdir)

    def record_rollouts_in(self, folder: str | Path, *, after: int | None = None) -> None:
        """Has rollouts that are recorded from now on, and replies, go to another folder.

        Args:
            folder: Made when something is written.
            after: What is recorded there of later iterations is deleted. None: it stays until
                an iteration as early is recorded.
        """
        self._recorder.move_to(Path(folder), after=after)

    def _record_training(self, groups: Sequence[Group], shares: Sequence[Sequence[int]]) -> None:
        """Records what is due of a batch that was learned from.

        Args:
            groups: The batch.
            shares: The indices of the groups that each learner had, in order.
        """
        self._trained_in, iteration = self.iteration, self.iteration + 1
        recorder = self._recorder
        if not recorder.is_due(iteration):
            return
        with self.metrics.log_time((TIMERS, "record_rollouts"), reduce="mean", window=1):
            recorder.training(
                iteration,
                groups,
                lambda count: take_groups(
                    self.learner_group, shares, count, group_size=self.config.group_size
                ),
            )
        self._log_failed()

    def _record_evaluation(self, groups: Sequence[Group]) -> None:
        """Records what is due of an evaluation."""
        iteration = self.iteration + (self.iteration == self._trained_in)
        self._recorder.evaluation(iteration, groups, self.evaluation_config)
        self._log_failed()

    def _log_failed(self) -> None:
        if self._recorder.is_on:
            self.metrics.log_value(
                (ENV_RUNNER_RESULTS, "num_groups_not_recorded_lifetime"),
                self._recorder.num_failed,
                reduce="mean",
                window=1,
            )

    def _close_recording(self) -> None:
        if "_recorder" in vars(self):
            self._recorder.close()
