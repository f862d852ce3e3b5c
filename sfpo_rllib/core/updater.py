"""An update rule at work over many batches: its trigger, its history, its state."""

import logging
import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic

import torch

from sfpo_rllib.core.anchor import versions
from sfpo_rllib.core.entropy_trigger import EntropyTrigger
from sfpo_rllib.core.update_rules import Batch, PassResult, Single, UpdateContext, UpdateRule
from sfpo_rllib.core.update_rules.group_history import GroupHistory, Groups

logger = logging.getLogger(__name__)


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
        replay = rule.group_replay
        self._groups: GroupHistory[Any] | None = None if replay is None else GroupHistory(replay)

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
        groups: Groups[Batch] | None = None,
    ) -> tuple[list[PassResult], dict[str, float]]:
        """Updates the parameters on a new batch, and keeps it if the rule wants a history.

        Args:
            batch: The new batch.
            run_pass: Runs one pass over a batch, `run_pass(batch)`; with the keywords of `RunPass`
                where the rule asks for mini-batches of its own.
            parameters: What is trained.
            optimizers: Theirs.
            groups: For rules that replay single groups.

        Returns:
            What the passes returned, and the rule's metrics with `active`: 1 if the update was
            more than the plain algorithm's one pass, 0 if it was that, whatever the rule.
        """
        new, parameters = batch, list(parameters)
        as_left, moves = versions(parameters), False  # by the last pass; by the rule, outside them

        def run(batch: Batch | None = None, **cut: Any) -> PassResult:
            nonlocal as_left, moves
            moves = moves or versions(parameters) != as_left
            result = run_pass(new if batch is None else batch, **cut)
            as_left = versions(parameters)
            return result

        ctx: UpdateContext[Batch, PassResult] = UpdateContext(
            parameters=parameters,
            optimizers=optimizers,
            run_pass=run,
            recent=self._recent_for(batch, groups),
            metrics=dict.fromkeys(self.rule.metric_names, 0.0),
            snapshot_device=self.snapshot_device,
        )
        results = self.active_rule.update(ctx)
        moves = moves or versions(parameters) != as_left
        if self.fired:
            self.recent = []  # for good
        elif self._groups is None:
            self._recent.append(batch)
        elif groups is not None:
            self._groups.add(groups.split(batch))
            ctx.metrics["num_kept_groups"] = float(len(self._groups.kept))
        return results, {"active": float(moves or len(results) > 1), **ctx.metrics}

    def _recent_for(self, batch: Batch, groups: Groups[Batch] | None) -> tuple[Batch, ...]:
        """The earlier batches of an update, or draws of groups that stand for them."""
        if self._groups is None:
            return tuple(self._recent)
        if groups is None:
            raise ValueError(f"update_rule={self.rule!r}: this learner knows of no groups")
        if self.fired or not self._groups.num_batches:
            return ()
        draws = [self._groups.draw(groups.count, nth) for nth in range(self.rule.history)]
        return tuple(groups.join(drawn, batch) for drawn in draws)

    def observe(self, entropy: float) -> float:
        """Tells the trigger the entropy after an update.

        One that is not finite tells it nothing: it is NaN where a model masks logits by -inf, or
        where no action counts, and no sign of trouble.

        Returns:
            The z-score, NaN if there is none.
        """
        if self.trigger is None or not math.isfinite(entropy):
            return math.nan
        was_fired = self.trigger.fired
        if self.trigger.update(entropy) and not was_fired:
            logger.warning(
                "The entropy trigger has fired, at z = %.2f: every batch gets one pass from now on "
                "instead of %r. entropy_z_threshold=None turns the trigger off.",
                self.trigger.z, self.rule,
            )  # fmt: skip
        return math.nan if self.trigger.z is None else self.trigger.z

    @property
    def recent(self) -> list[Any]:
        """The batches that are kept, oldest first. They are no part of `state_dict()`.

        By group, one state that has all of them.
        """
        return list(self._recent) if self._groups is None else [self._groups.state()]

    @recent.setter
    def recent(self, batches: Iterable[Any]) -> None:
        batches = list(batches)
        by_group = [batch for batch in batches if isinstance(batch, dict) and "kept" in batch]
        replay = self.rule.group_replay
        if replay is not None:
            self._groups = GroupHistory(replay)
            for state in by_group:
                self._groups.restore(state)
        elif not by_group:  # else another rule's, of which nothing can be made
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
