"""A rollout batch that is in mini-batches already, cut into others."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from sfpo_rllib.algorithms.grpo.minibatches import PLACE, ROW, Batch, Minibatches
from sfpo_rllib.rl_modules.causal_lm import INPUT_IDS, LOSS_MASK


@dataclass(frozen=True)
class Recut:
    """How a pass goes through a batch.

    Attributes:
        num_minibatches: Optimizer steps.
        fraction: Share of the groups, in (0, 1].
        turn: Which of them: see `core.update_rules.RunPass`.
    """

    num_minibatches: int
    fraction: float = 1.0
    turn: int = 0

    def rows(self, columns: Batch, *, batch_size: int, group_size: int) -> list[torch.Tensor]:
        """Which sequences each mini-batch has; one that would have none has the last.

        That depends on where a sequence stands in the whole batch, so that learners agree on the
        number of mini-batches whatever they have left out.

        Args:
            columns: Of the sequences, and of a last one in which nothing counts.
            batch_size: Sequences of the whole batch, per learner.
            group_size: Of them that are of one group, one after the other.
        """
        if self.fraction < 1.0:
            groups = batch_size // group_size
            size = groups_of_a_turn(groups, self.fraction)
            row = columns[ROW][:-1]
            group, member = row // group_size, row % group_size
            nth = (group - self.turn * size) % groups
            # Dealt out: each mini-batch has members of all groups, or of as many as it can.
            parts = (nth * group_size + member) % self.num_minibatches
            parts[nth >= size] = -1
        else:
            parts = columns[PLACE][:-1] // max(batch_size // self.num_minibatches, 1)
            parts.clamp_(max=self.num_minibatches - 1)
        rows = ((parts == part).nonzero().flatten() for part in range(self.num_minibatches))
        return [part if len(part) else part.new_tensor([-1]) for part in rows]


def groups_of_a_turn(num_groups: int, fraction: float) -> int:
    """Of so many groups how many a pass over a fraction of them has, at least one."""
    return max(round(fraction * num_groups), 1)


def stacked(parts: Sequence[Batch], names: Iterable[str]) -> Batch:
    """Columns of the sequences of all parts, padded on the right."""
    width = max(part[INPUT_IDS].shape[1] for part in parts)

    def padded(column: torch.Tensor) -> torch.Tensor:
        if column.ndim == 1:
            return column
        return torch.nn.functional.pad(column, (0, width - column.shape[1]))

    return {name: torch.cat([padded(part[name]) for part in parts]) for name in names}


def uncut(minibatches: Minibatches) -> Batch:
    """All columns of the sequences of a batch that count somewhere, padded on the right.

    They stand in the order that the batch was shuffled into. The last row is another one, in which
    nothing counts: for a mini-batch that has none of them.
    """
    micros = list(itertools.chain.from_iterable(minibatches))
    columns = stacked(micros, micros[0])
    order = columns[PLACE].argsort()
    counted = order[columns[LOSS_MASK][order].any(dim=1)]
    rows = torch.cat([counted, counted.new_zeros(1)])
    columns = {name: values[rows] for name, values in columns.items()}
    columns[LOSS_MASK][-1] = False
    return columns
