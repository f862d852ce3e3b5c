"""What a run writes down: its own files, and what its trackers are told."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ray.tune import Callback

from sfpo_rllib.algorithms.grpo import GRPO
from sfpo_rllib.reporting import RunReport
from sfpo_rllib.run_loop.folder import RunFolder
from sfpo_rllib.run_loop.identity import plain_settings
from sfpo_rllib.tracking import RunAsTrial, Trackers


class Journal(RunReport):
    """A report whose trackers are told the same."""

    def __init__(self, place: RunFolder, algo: GRPO, trackers: Sequence[Callback]) -> None:
        """Opens the files, and says to the trackers that the run begins or goes on.

        Args:
            place: Of the run.
            algo: As it is at the beginning, or restored.
            trackers: Callbacks of Ray Tune's.
        """
        trial = RunAsTrial(
            folder=place.path,
            trial_id=place.record.id,
            algorithm=place.record.identity.algorithm,
            config=plain_settings(algo.config) if trackers else {},
        )
        self._trackers = Trackers(trackers, trial, iteration=algo.iteration)
        super().__init__(place.path, after=algo.iteration)

    def add(self, result: Mapping[str, Any]) -> None:
        """See `RunReport.add`."""
        super().add(result)
        self._trackers.add(result)

    def add_to_last(self, result: Mapping[str, Any]) -> None:
        """See `RunReport.add_to_last`."""
        super().add_to_last(result)
        self._trackers.add(result)

    def saved(self, checkpoint: Path) -> None:
        """Says that a checkpoint is there."""
        self._trackers.saved(checkpoint)

    def end(self, *, failed: bool) -> None:
        """Says to the trackers that the run is over, for now."""
        self._trackers.close(failed=failed)
