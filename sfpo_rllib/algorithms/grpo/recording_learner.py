"""What a learner tells of single episodes, where rollouts are recorded."""

import itertools
from collections.abc import Sequence

import numpy as np
from ray.rllib.core.learner.torch.torch_learner import TorchLearner

from sfpo_rllib.algorithms.grpo.learner_group import GRPOLearnerGroup
from sfpo_rllib.algorithms.grpo.minibatches import (
    ROW,
    START_ENTROPY,
    START_LOGP,
    Batch,
    Minibatches,
)
from sfpo_rllib.recordings.rows import LearnerNumbers
from sfpo_rllib.rl_modules.causal_lm import ADVANTAGES, ATTENTION_MASK, LOSS_MASK


class RecordingLearner(TorchLearner):
    """Holds a batch after its update until it was asked about it, if rollouts are recorded."""

    _held: Sequence[Batch] = ()

    @property
    def is_recorded(self) -> bool:
        """Whether rollouts are recorded."""
        return self.config.record_rollouts > 0

    def hold_rows(self, minibatches: Minibatches) -> None:
        """Holds what was computed of a batch; a rule that keeps the batch keeps no entropies."""
        if not self.is_recorded:
            return
        names = (ROW, LOSS_MASK, ATTENTION_MASK, ADVANTAGES, START_LOGP, START_ENTROPY)
        micros = list(itertools.chain.from_iterable(minibatches))
        self._held = [{n: micro[n] for n in names if n in micro} for micro in micros]
        for micro in micros:
            micro.pop(START_ENTROPY, None)

    def take_rows(self, rows: Sequence[int]) -> list[LearnerNumbers | None]:
        """What was computed of some rows of the last batch, which is then let go of.

        Returns:
            Of each row its numbers; None where no token counts, as in a group that is dropped.
        """
        held, self._held = self._held, ()
        found: dict[int, LearnerNumbers] = {}
        for micro in held:
            counted = micro[LOSS_MASK].any(dim=1).tolist()  # one that does not fills up a share
            for place, row in enumerate(micro[ROW].tolist()):
                if counted[place] and row in rows:
                    found[row] = _numbers(micro, place)
        return [found.get(row) for row in rows]


def _numbers(micro: Batch, place: int) -> LearnerNumbers:
    length = int(micro[ATTENTION_MASK][place].sum())
    mask = micro[LOSS_MASK][place, :length].cpu().numpy()

    def of_tokens(name: str) -> np.ndarray | None:
        if name not in micro:  # the batch was refused before
            return None
        values = micro[name][place, :length].float().cpu().numpy()
        return np.where(mask, values, np.float32(np.nan))

    return LearnerNumbers(
        advantage=float(micro[ADVANTAGES][place]),
        logprobs=of_tokens(START_LOGP),
        entropies=of_tokens(START_ENTROPY),
    )


def take_groups(
    learners: GRPOLearnerGroup, shares: Sequence[Sequence[int]], count: int, *, group_size: int
) -> list[list[LearnerNumbers | None]]:
    """What the learners computed of the first groups of the last batch.

    Args:
        learners: Have just updated on it.
        shares: The indices of the groups that each learner had, in order.
        count: Of the groups that are asked about.
        group_size: Episodes of a group.
    """
    found: dict[int, list[LearnerNumbers | None]] = {}
    for learner, share in enumerate(shares):
        wanted = [(place, group) for place, group in enumerate(share) if group < count]
        rows = [place * group_size + m for place, _ in wanted for m in range(group_size)]
        numbers = learners.ask_one(lambda one, rows: one.take_rows(rows), learner, rows=rows)
        for i, (_, group) in enumerate(wanted):
            found[group] = numbers[i * group_size : (i + 1) * group_size]
    return [found[group] for group in range(count)]
