"""What a learner does to a rollout batch before passes: mini-batches of micro-batches."""

import itertools

import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.utils.annotations import override

from sfpo_rllib.algorithms.grpo.longest_episode import LongestEpisode
from sfpo_rllib.algorithms.grpo.minibatches import (
    PLACE,
    ROW,
    Batch,
    Minibatches,
    add_reference_logp,
    cut,
)
from sfpo_rllib.algorithms.grpo.recut import Recut, uncut
from sfpo_rllib.core.objective import Objective
from sfpo_rllib.rl_modules.causal_lm import INPUT_IDS, LOSS_MASK, REFERENCE_LOGP


class PartitionLearner(TorchLearner):
    """Cuts batches, such that all learners have the same mini-batches.

    They share the counts by which a loss is normalised. A mini-batch of which no learner has a
    token that counts is left out by all.
    """

    _objective: Objective

    @override(TorchLearner)
    def build(self) -> None:
        # Set before super().build(), which may already restore a state.
        self._partition_rng = torch.Generator().manual_seed(self.config.seed or 0)
        self._longest_episode = LongestEpisode(self.config)
        super().build()

    def _partition(self, rollouts: Batch) -> Minibatches:
        """Cuts the batch into mini-batches and these into micro-batches.

        The cut is drawn once a batch, so that all passes over it see the same mini-batches. Those
        in which no token counts, with any learner, are left out.
        """
        ids = rollouts[INPUT_IDS]
        order = torch.randperm(len(ids), generator=self._partition_rng).to(ids.device)
        rollouts = {**rollouts, ROW: torch.arange(len(ids), device=ids.device)}
        rollouts[PLACE] = order.argsort()
        parts = order.split(self.config.effective_minibatch_size)
        return list(filter(None, (self._micro_batches(rollouts, rows) for rows in parts)))

    def _recut(self, num_minibatches: int | None, fraction: float, turn: int) -> Recut | None:
        """How a pass goes through a batch; None: as the config has cut it. See `RunPass`."""
        size = self.config.train_batch_size_per_learner
        as_it_is = -(-size // self.config.effective_minibatch_size)
        recut = Recut(num_minibatches or as_it_is, fraction, turn)
        return None if recut == Recut(as_it_is, turn=turn) else recut

    def _cut_again(self, minibatches: Minibatches, recut: Recut) -> Minibatches:
        """A batch, not without a token that counts, in other mini-batches."""
        columns = uncut(minibatches)
        parts = recut.rows(
            columns,
            batch_size=self.config.train_batch_size_per_learner,
            group_size=self.config.group_size,
        )
        return list(filter(None, (self._micro_batches(columns, rows) for rows in parts)))

    def _micro_batches(self, rollouts: Batch, rows: torch.Tensor) -> list[Batch]:
        """Micro-batches of a mini-batch, of sequences that count somewhere."""
        mask = rollouts[LOSS_MASK][rows]
        counts = torch.stack([mask.sum(), mask.any(dim=1).sum()]).double()
        self._all_reduce(counts)
        if not counts[0]:
            return []
        module = self.module[DEFAULT_MODULE_ID].unwrapped()
        return cut(
            rollouts,
            rows,
            num_tokens=float(counts[0]),
            num_sequences=float(counts[1]),
            aggregation=self._objective.loss.aggregation,
            longest_episode=self._longest_episode.tokens,
            max_tokens=self.config.max_tokens_per_micro_batch,
            packed=getattr(module, "packing", self.config.model_config.get("packing") is True),
            shares_prompts=getattr(module, "shares_prompts", False),
        )

    @property
    def _world_size(self) -> int:
        # Not torch.distributed's: an engine in this process may have initialised a group of one.
        return max(self.config.num_learners, 1)

    @property
    def _distributed(self) -> bool:
        return self._world_size > 1

    def _require_reference(self, minibatches: Minibatches) -> None:
        """Adds the reference's log-probs, where a `kl_coeff` asks for them and there are none.

        A batch that is kept may be from before there was a `kl_coeff`. That may be so with some
        of the learners only, and all must do it together.
        """
        if not (self.config.kl_coeff and minibatches):
            return
        micros = list(itertools.chain.from_iterable(minibatches))
        lacking = micros[0][LOSS_MASK].new_tensor(
            sum(REFERENCE_LOGP not in micro for micro in micros), dtype=torch.float64
        )
        self._all_reduce(lacking)
        if lacking:
            add_reference_logp(self.module[DEFAULT_MODULE_ID].unwrapped(), minibatches)

    def _all_reduce(self, tensor: torch.Tensor) -> None:
        """Sums over learners, in place."""
        if self._distributed:
            torch.distributed.all_reduce(tensor)
