"""What an update rule is, and what it has to work with."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import torch

from sfpo_rllib.core.anchor import Anchor, anchored
from sfpo_rllib.core.checks import raise_problems

Batch = TypeVar("Batch")
PassResult = TypeVar("PassResult")
_Batch = TypeVar("_Batch", contravariant=True)
_PassResult = TypeVar("_PassResult", covariant=True)


class RunPass(Protocol[_Batch, _PassResult]):
    """One pass over a batch: one or more optimizer steps."""

    def __call__(
        self,
        batch: _Batch | None = None,
        *,
        num_minibatches: int | None = None,
        fraction: float = 1.0,
        turn: int = 0,
    ) -> _PassResult:
        """Runs a pass; learners other than GRPO's can do so in the config's mini-batches alone.

        Args:
            batch: Over this one, or over the new batch if None.
            num_minibatches: Optimizer steps of the pass, which go evenly into the sequences. None:
                as many as the config says.
            fraction: Share of the batch's groups that the pass is over, in (0, 1].
            turn: Which groups these are: as many as in the turn before, from where that ended on,
                round and round.
        """
        ...


@dataclass
class UpdateContext(Generic[Batch, PassResult]):
    """What a rule has to work with in one update.

    Attributes:
        parameters: What is trained; a rule may change them in place.
        optimizers: Theirs. Almost always one: see `optimizer`.
        run_pass: Runs one pass over the new batch, `run_pass()`, or over one of `recent`, in
            mini-batches of its own if asked to; see `RunPass`.
        recent: Earlier batches, oldest first, at most `rule.history` of them. Their ratios are to
            the policies that they were sampled from.
        metrics: For what the rule measures; ends up in the results.
        snapshot_device: Where copies of the parameters are to be held; None: where they are.
    """

    parameters: Sequence[torch.Tensor]
    optimizers: Sequence[torch.optim.Optimizer]
    run_pass: RunPass[Batch, PassResult]
    recent: Sequence[Batch] = ()
    metrics: dict[str, float] = field(default_factory=dict)
    snapshot_device: torch.device | str | None = None

    def anchored(self) -> AbstractContextManager[Anchor]:
        """Copies the parameters, as something to go back towards; see `anchored`."""
        return anchored(self.parameters, device=self.snapshot_device)

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimizer.

        Raises:
            ValueError: If there are several.
        """
        if len(self.optimizers) != 1:
            raise ValueError(f"optimizer: there are {len(self.optimizers)}, use `optimizers`")
        return self.optimizers[0]


class UpdateRule(ABC):
    """What is done with one batch of rollouts.

    Attributes:
        history: How many earlier batches it wants in `ctx.recent`. They are held in memory and
            saved in checkpoints.
        first_pass_at_start: Whether its first pass is over the new batch, from the parameters as
            they were given. That pass then yields the ratio's denominators at no cost; for a rule
            that begins otherwise they are computed beforehand.
        metric_names: What it puts into `ctx.metrics`; 0 in updates that do not set it.
        parameter_copies: How many copies of the parameters it holds in an update, at most.
    """

    history: int = 0
    first_pass_at_start: ClassVar[bool] = True
    metric_names: ClassVar[tuple[str, ...]] = ()
    parameter_copies: ClassVar[int] = 0

    def __post_init__(self) -> None:  # of those that are dataclasses
        raise_problems(self.problems())

    def problems(self) -> list[str]:
        """What is wrong with its settings, each as `field=value: what would be right`."""
        return []

    @property
    def pass_settings(self) -> Mapping[str, Any]:
        """Its settings, by name, that ask for passes in other mini-batches than the config's."""
        return {}

    @abstractmethod
    def update(self, ctx: UpdateContext[Batch, PassResult]) -> list[PassResult]:
        """Updates the parameters by passes over the new batch.

        Returns:
            What the passes returned, in order. The last one, over the new batch, is what the
            entropy trigger looks at.
        """

    def state_dict(self) -> dict[str, Any]:
        """What the rule carries from update to update; ours carry nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027 (most have no state)
        """Goes on from `state_dict()`."""
