"""The driver's part: fetches the groups that are kept or shown, and no others."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from ray.exceptions import RayError
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from sfpo_rllib.core.checks import of_attributes
from sfpo_rllib.core.registry import name_of
from sfpo_rllib.env_runners.prompts import load_tokenizer
from sfpo_rllib.recordings.rows import LearnerNumbers, row_of
from sfpo_rllib.recordings.settings import ReportingSettings
from sfpo_rllib.recordings.shown import NUM_SHOWN, ReplyDisplay, chosen
from sfpo_rllib.recordings.store import EVALUATION, TRAINING, RolloutStore
from sfpo_rllib.recordings.token_texts import TokenTexts
from sfpo_rllib.rl_modules.model_settings import ModelSettings

logger = logging.getLogger(__name__)

Group = Sequence[SingleAgentEpisode]
OfLearner = Callable[[int], Sequence[Sequence[LearnerNumbers | None]]]


class Recorder:
    """Keeps the first groups of each batch and evaluation, and shows a few replies.

    Training does not depend on it: what cannot be written is logged, and counted.

    Attributes:
        num_failed: Groups that should have been kept, and are not.
    """

    def __init__(self, config: AlgorithmConfig, run: Path) -> None:
        """Writes nothing yet.

        Args:
            config: The algorithm's.
            run: The folder that files go to.
        """
        self._config = config
        self._settings = of_attributes(ReportingSettings, config)
        self.num_failed = 0
        self.move_to(run)

    def move_to(self, run: Path, *, after: int | None = None) -> None:
        """Writes to another folder from now on.

        Args:
            run: The folder.
            after: What is there of later iterations is deleted. None: nothing is.
        """
        self._store = RolloutStore(run, max_bytes=self._settings.record_rollouts_mb * 1e6)
        self._display = ReplyDisplay(run)
        if after is not None and self._settings.record_rollouts:
            self._store.cut(after)

    @property
    def is_on(self) -> bool:
        """Whether anything is kept."""
        return self._settings.record_rollouts > 0

    def is_due(self, iteration: int) -> bool:
        """Whether anything is kept or shown of an iteration's training."""
        return self.is_on or self._is_shown(iteration)

    def _is_shown(self, iteration: int) -> bool:
        every = self._settings.show_replies_every
        return every > 0 and iteration % every == 0

    def training(self, iteration: int, groups: Sequence[Group], of_learner: OfLearner) -> None:
        """Keeps and shows what is due of a batch that was learned from.

        Args:
            iteration: That is being done.
            groups: The batch.
            of_learner: What the learner has computed of the first so many groups.
        """
        kept = groups[: self._settings.record_rollouts]
        numbers = of_learner(len(kept)) if kept else []
        with self._guarded(len(kept)):
            if kept:
                self._write(TRAINING, iteration, kept, numbers, self._config)
            if self._is_shown(iteration):
                self._show(iteration, groups)

    def evaluation(self, iteration: int, groups: Sequence[Group], config: AlgorithmConfig) -> None:
        """Keeps what is due of an evaluation, if anything is kept.

        Args:
            iteration: After which it is done.
            groups: In the order of their seeds.
            config: The evaluation's.
        """
        if kept := groups[: self._settings.record_rollouts]:
            nothing = [[None] * len(group) for group in kept]
            with self._guarded(len(kept)):
                self._write(EVALUATION, iteration, kept, nothing, config)

    def close(self) -> None:
        """Closes files."""
        self._display.close()

    @contextmanager
    def _guarded(self, num_groups: int) -> Iterator[None]:
        """Logs and counts, in the body, what the disk or a lost machine does to a recording."""
        try:
            yield
        except (OSError, RayError) as error:
            logger.warning("%d groups are not recorded: %r", num_groups, error)
            self.num_failed += num_groups

    @cached_property
    def _texts(self) -> TokenTexts:
        given = self._config.model_config
        tokenizer, _ = load_tokenizer(given["model"], **ModelSettings.of(given).source)
        return TokenTexts(tokenizer)

    def _write(
        self,
        stage: str,
        iteration: int,
        groups: Sequence[Group],
        numbers: Sequence[Sequence[LearnerNumbers | None]],
        config: AlgorithmConfig,
    ) -> None:
        rows = [
            row_of(episode, self._texts, learner)
            for group, of_group in zip(groups, numbers, strict=True)
            for episode, learner in zip(list(group), of_group, strict=True)
        ]
        self._store.write(stage, iteration, rows, about(config))

    def _show(self, iteration: int, groups: Sequence[Group]) -> None:
        wanted = chosen(groups[:NUM_SHOWN])
        rows = [row_of(list(groups[group])[member], self._texts) for group, member in wanted]
        self._display.show(iteration, rows)


def about(config: AlgorithmConfig) -> dict[str, Any]:
    """What those who read a recording need to know of its run."""
    algo_class = config.algo_class
    return {
        "algorithm": getattr(algo_class, "__name__", str(algo_class)),
        "model": config.model_config.get("model"),
        "env": config.env if isinstance(config.env, str) else None,
        "env_name": name_of(config.env),
        "env_config": dict(config.env_config),
        "group_size": config.group_size,
    }
