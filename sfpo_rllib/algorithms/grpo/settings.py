"""Settings of batches, updates and rollouts, with their defaults; each checks itself.

`GRPOConfig` has them flat, and says in its methods what they do.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sfpo_rllib.algorithms.grpo.recut import groups_of_a_turn
from sfpo_rllib.connectors.token_batch import TRUNCATED_REPLIES
from sfpo_rllib.core.checks import (
    Kind,
    integer,
    is_int,
    none,
    number,
    one_of,
    value_problems,
)
from sfpo_rllib.core.optimizers import BETAS, WEIGHT_DECAY, Optimizer, optimizer_problems
from sfpo_rllib.env_runners.engines import RolloutEngine
from sfpo_rllib.env_runners.prompts import PROMPT_FORMATS
from sfpo_rllib.env_runners.stream import Curriculum, StreamSettings
from sfpo_rllib.env_runners.weights import WeightSettings

EQUAL_REWARD_GROUPS = ("keep", "drop", "resample")
_CURRICULUM = Kind(lambda value: isinstance(value, Curriculum), "a Curriculum")
_SECONDS = number(above=0.0, unit=" (seconds)")


@dataclass(frozen=True)
class BatchSettings:
    """How many completions are sampled, and how they are cut."""

    group_size: int = 8
    train_batch_size_per_learner: int = 1024
    minibatch_size: int | None = None
    minibatches_per_pass: int | None = None
    max_tokens_per_micro_batch: int = 16_384
    equal_reward_groups: str = "keep"
    max_resampling_rounds: int = 3
    curriculum: Curriculum | None = None
    truncated_replies: str = "train"

    def problems(self, *, evaluation: bool = False) -> list[str]:
        """What is wrong with the values, each as `field=value: what would be right`.

        Args:
            evaluation: Nothing is trained on the groups.
        """
        if evaluation:
            return value_problems(self, {"group_size": integer(1, " in evaluation")})
        group, batch = self.group_size, self.train_batch_size_per_learner
        kinds = {
            "group_size": integer(2, ", a baseline needs other completions"),
            "train_batch_size_per_learner": integer(1, " (completions)"),
            "minibatch_size": integer(1) | none("the whole batch"),
            "minibatches_per_pass": integer(1) | none(),
            "max_tokens_per_micro_batch": integer(1),
            "equal_reward_groups": one_of(*EQUAL_REWARD_GROUPS),
            "max_resampling_rounds": integer(0),
            "curriculum": _CURRICULUM | none("no problem is skipped"),
            "truncated_replies": one_of(*TRUNCATED_REPLIES),
        }
        problems = value_problems(self, kinds)
        if not is_int(batch, 1):
            return problems
        if is_int(group, 2) and batch % group:
            problems.append(
                f"train_batch_size_per_learner={batch}: must be a multiple of group_size={group}, "
                f"e.g. {max(batch // group, 1) * group}"
            )
        size, parts = self.minibatch_size, self.minibatches_per_pass
        if size is not None and parts is not None:
            problems.append(
                f"minibatches_per_pass={parts!r}: must be None with minibatch_size={size!r}, as "
                "only one of the two can count"
            )
        for name, value in (("minibatch_size", size), ("minibatches_per_pass", parts)):
            if value is not None and is_int(value, 1) and batch % value:
                problems.append(
                    f"{name}={value}: must divide train_batch_size_per_learner={batch}, so "
                    "that all mini-batches are of one size"
                )
        return problems

    def pass_problems(self, given: Mapping[str, Any]) -> list[str]:
        """What is wrong with a rule's `pass_settings`, each right in itself, for these batches."""
        batch, problems = self.train_batch_size_per_learner, []
        fraction = given.get("fast_fraction", 1.0)
        of_fast = groups_of_a_turn(batch // self.group_size, fraction) * self.group_size
        for name, of_pass in (("fast_minibatches", of_fast), ("slow_minibatches", batch)):
            as_set = -(-batch // self.effective_minibatch_size)
            parts = given.get(name, as_set)
            if of_pass % parts and (name in given or of_pass < batch):
                inherited = "" if name in given else f"is {parts} here, and "
                left = f" that fast_fraction={fraction} leaves" if of_pass < batch else ""
                problems.append(
                    f"{name}={given.get(name)!r}: {inherited}must divide the {of_pass} "
                    f"completions{left} of train_batch_size_per_learner={batch}, so that all "
                    "mini-batches are of one size"
                )
        return problems

    def largest_minibatch_size(self, given: Mapping[str, Any]) -> int:
        """Most completions of an optimizer step with a rule's `pass_settings`, per learner."""
        counts = [v for name, v in given.items() if name != "fast_fraction"]
        sizes = (self.train_batch_size_per_learner // count for count in counts)
        return max([self.effective_minibatch_size, *sizes])

    @property
    def effective_minibatch_size(self) -> int:
        """Completions of one optimizer step, per learner, where the rule does not say otherwise."""
        if self.minibatch_size is not None:
            return self.minibatch_size
        return self.train_batch_size_per_learner // (self.minibatches_per_pass or 1)


@dataclass(frozen=True)
class UpdateSettings:
    """How optimizer steps are taken, and which are not."""

    snapshot_device: str | None = None
    max_engine_logp_diff: float | None = 0.5
    max_skipped_steps: int = 10
    grad_clip: float | None = 1.0
    optimizer: Optimizer = "adamw"
    optimizer_kwargs: dict[str, Any] = field(default_factory=dict)
    weight_decay: float = WEIGHT_DECAY
    adam_betas: tuple[float, float] = BETAS

    def problems(self) -> list[str]:
        """What is wrong with the values, each as `field=value: what would be right`."""
        kinds = {
            "snapshot_device": none() | one_of("cpu"),
            "max_engine_logp_diff": number(above=0.0, unit=" (nats a token)") | none(),
            "max_skipped_steps": integer(0),
            "grad_clip": number(above=0.0) | none(),
        }
        return [
            *value_problems(self, kinds),
            *optimizer_problems(
                self.optimizer,
                betas=self.adam_betas,
                weight_decay=self.weight_decay,
                settings=self.optimizer_kwargs,
            ),
        ]


@dataclass(frozen=True)
class RolloutSettings:
    """How replies are sampled.

    An engine checks its own, `SamplingSettings`, `StreamSettings` and `WeightSettings` theirs.
    """

    rollout_engine: str | type[RolloutEngine] = "vllm"
    prompt_format: str = "auto"
    chat_template_kwargs: dict[str, Any] = field(default_factory=dict)
    rollout_timeout_s: float = 1800.0
    env_timeout_s: float | None = None
    num_env_threads: int = 0
    weight_transport: str = WeightSettings.weight_transport
    sleep_while_learning: bool = WeightSettings.sleep_while_learning
    max_staleness: int = StreamSettings.max_staleness
    groups_per_job: int | None = StreamSettings.groups_per_job
    weight_sync: str = StreamSettings.weight_sync

    def problems(self) -> list[str]:
        """What is wrong with the values, each as `field=value: what would be right`."""
        kinds = {
            "prompt_format": one_of(*PROMPT_FORMATS),
            "rollout_timeout_s": _SECONDS,
            "env_timeout_s": _SECONDS | none(),
            "num_env_threads": integer(0),
        }
        return value_problems(self, kinds)
