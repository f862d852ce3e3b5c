"""Single groups taken out of rollout batches, and batches made of such groups."""

from collections.abc import Callable, Iterator, Sequence

import torch

from sfpo_rllib.algorithms.grpo.minibatches import (
    PLACE,
    ROW,
    START_ENTROPY,
    Batch,
    Minibatches,
)
from sfpo_rllib.algorithms.grpo.recut import Recut, stacked, uncut
from sfpo_rllib.rl_modules.causal_lm import ADVANTAGES, ATTENTION_MASK, LOSS_MASK


class GroupBatches:
    """A learner's; see `core.update_rules.group_history.Groups`."""

    def __init__(
        self,
        micro_batches: Callable[[Batch, torch.Tensor], list[Batch]],
        *,
        batch_size: int,
        group_size: int,
        minibatch_size: int,
    ) -> None:
        """Sets how batches are cut.

        Args:
            micro_batches: Makes the micro-batches of a mini-batch of columns and rows; all
                learners call it as often.
            batch_size: Sequences of a batch, per learner.
            group_size: Of them that are of one group.
            minibatch_size: Of them that are of one optimizer step.
        """
        self.count = batch_size // group_size
        self._micro_batches = micro_batches
        self._batch_size = batch_size
        self._group_size = group_size
        self._recut = Recut(-(-batch_size // minibatch_size))

    def split(self, batch: Minibatches) -> Iterator[tuple[Batch, float]]:
        """The groups of a batch, of the members that count, each with its mean |advantage|."""
        if not batch:
            return
        columns = {name: column[:-1] for name, column in uncut(batch).items()}
        columns.pop(START_ENTROPY, None)  # for a recording of this batch, and nothing else
        numbers = columns[ROW] // self._group_size
        for number in numbers.unique():
            rows = (numbers == number).nonzero().flatten()
            width = int(columns[ATTENTION_MASK][rows].sum(dim=1).max())
            group = {
                name: (column[:, :width] if column.ndim > 1 else column)[rows]
                for name, column in columns.items()
            }
            yield group, float(group[ADVANTAGES].abs().mean())

    def join(self, groups: Sequence[Batch], like: Minibatches) -> Minibatches:
        """A batch of groups in as many mini-batches as any, of whole groups where they go in.

        It has the columns that all of them have: groups that were kept under other settings, by
        an earlier session of a run, may lack some.

        Args:
            groups: As many as a batch has, fewer or none.
            like: A batch of today's.
        """
        if not like:
            return []
        # One more sequence, in which nothing counts: for a mini-batch that has no other.
        spare = {name: column[:1] for name, column in like[0][0].items()}
        spare = {**spare, LOSS_MASK: torch.zeros_like(spare[LOSS_MASK])}
        parts = [*(self._placed(group, number) for number, group in enumerate(groups)), spare]
        names = [name for name in spare if all(name in part for part in parts)]
        columns = stacked(parts, names)
        rows = self._recut.rows(columns, batch_size=self._batch_size, group_size=self._group_size)
        return list(filter(None, (self._micro_batches(columns, part) for part in rows)))

    def _placed(self, group: Batch, number: int) -> Batch:
        """A group with the rows that it has as the n-th of a batch, from 0."""
        rows = number * self._group_size + group[ROW] % self._group_size
        return {**group, ROW: rows, PLACE: rows}
