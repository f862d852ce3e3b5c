"""An update rule at work over many batches: its trigger, its history, its state."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic

import torch

from sfpo_rllib.core.entropy_trigger import EntropyTrigger
from sfpo_rllib.core.update_rules import Batch, PassResult, Single, UpdateContext, UpdateRule


class Updater(Generic[Batch, PassResult]):
    """Applies a rule to one batch after another, and the single pass once its trigger has fired.

    Attributes:
        rule: The rule.
        trigger: Its trigger, if any. Asked before an update, told the entropy after it.
        snapshot_device: Where the rule's copies of the parameters are held.
    """

    def __init__(
        self,
        rule: UpdateRule,
        trigger: EntropyTrigger | None = None,
        *,
        snapshot_device: torch.device | str | None = None,
    ) -> None:
        self.rule = rule
        self.trigger = trigger
        self.snapshot_device = snapshot_device
        self._recent: deque[Batch] = deque(maxlen=rule.history)

    @property
    def fired(self) -> bool:
        """Whether the trigger has switched the rule off."""
        return self.trigger is not None and self.trigger.fired

    @property
    def active_rule(self) -> UpdateRule:
        """The rule of the next update."""
        return Single() if self.fired else self.rule

    def update(
        self,
        batch: Batch,
        run_pass: Callable[..., PassResult],
        *,
        parameters: Iterable[torch.Tensor],
        optimizers: Sequence[torch.optim.Optimizer],
    ) -> tuple[list[PassResult], dict[str, float]]:
        """Updates the parameters on a new batch, and keeps it if the rule wants a history.

        Args:
            batch: The new batch.
            run_pass: Runs one pass over a batch, `run_pass(batch)`; with the keywords of `RunPass`
                where the rule asks for mini-batches of its own.
            parameters: What is trained.
            optimizers: Theirs.

        Returns:
            What the passes returned, and the rule's metrics with `active`: 1 if the update took
            more than the plain algorithm's one pass.
        """
        new = batch

        def run(batch: Batch | None = None, **cut: Any) -> PassResult:
            return run_pass(new if batch is None else batch, **cut)

        ctx: UpdateContext[Batch, PassResult] = UpdateContext(
            parameters=list(parameters),
            optimizers=optimizers,
            run_pass=run,
            recent=tuple(self._recent),
            metrics=dict.fromkeys(self.rule.metric_names, 0.0),
            snapshot_device=self.snapshot_device,
        )
        results = self.active_rule.update(ctx)
        if self.fired:
            self._recent.clear()  # for good
        else:
            self._recent.append(batch)
        return results, {"active": float(len(results) > 1), **ctx.metrics}

    def observe(self, entropy: float) -> float:
        """Tells the trigger the entropy after an update.

        One that is not finite tells it nothing: it is NaN where a model masks logits by -inf, or
        where no action counts, and no sign of trouble.

        Returns:
            The z-score, NaN if there is none.
        """
        if self.trigger is None or not math.isfinite(entropy):
            return math.nan
        self.trigger.update(entropy)
        return math.nan if self.trigger.z is None else self.trigger.z

    @property
    def recent(self) -> list[Batch]:
        """The batches that are kept, oldest first. They are no part of `state_dict()`."""
        return list(self._recent)

    @recent.setter
    def recent(self, batches: Iterable[Batch]) -> None:
        self._recent = deque(batches, maxlen=self.rule.history)

    def state_dict(self) -> dict[str, Any]:
        """The rule's state and the trigger's."""
        trigger = {} if self.trigger is None else {"trigger": self.trigger.state_dict()}
        return {"rule": self.rule.state_dict(), **trigger}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from `state_dict()`. What the state does not have stays as it is."""
        if state.get("rule"):
            self.rule.load_state_dict(state["rule"])
        if self.trigger is not None and "trigger" in state:
            self.trigger.load_state_dict(state["trigger"])
