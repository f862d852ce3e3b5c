"""One training run: a variant on a task, at a learning rate, from a seed."""

import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.pool import Job
from benchmarks.update_rules.tasks import TASKS
from benchmarks.update_rules.variants import Variant
from sfpo_rllib.algorithms.grpo import GRPO, GRPOConfig

GROUP_SIZE = 8
BATCH_SIZE = 128
WARM_UP_BATCHES = 10  # of the learning rate: Adam's first steps are as long as its later ones
EVAL_GROUP_SIZE = 4


@dataclass(frozen=True)
class Budget:
    """How long runs train, and how they are looked at.

    Attributes:
        num_batches: Rollout batches of `BATCH_SIZE`.
        eval_every: Batches between evaluations.
        eval_samples: Sampled replies of an evaluation, to held-out problems.
    """

    num_batches: int
    eval_every: int
    eval_samples: int


@dataclass(frozen=True)
class Run:
    """What makes a run: equal runs give equal curves."""

    task: str
    variant: str
    lr: float
    seed: int

    def job(self, variant: Variant, budget: Budget, models: Path) -> Job:
        """For the pool."""
        return Job(
            f"{self.task}-{self.variant}-{self.lr:g}-{self.seed}",
            {
                "run": asdict(self),
                "rule": variant.what,
                "trigger": variant.trigger,
                "budget": asdict(budget),
            },
            partial(train, self, variant, models / TASKS[self.task].start, budget),
        )


def make_config(run: Run, variant: Variant, model: Path, budget: Budget) -> GRPOConfig:
    """GRPO with the variant's rule, all in this process but a runner that samples ahead."""
    task = TASKS[run.task]
    lr: Any = [[0, run.lr / 10], [WARM_UP_BATCHES * BATCH_SIZE, run.lr]]
    return (
        GRPOConfig()
        .environment(task.env, env_config={**task.env_config, "split": "train"})
        .rl_module(model_config={"model": str(model), "packing": False})
        .env_runners(
            num_env_runners=int(variant.max_staleness > 0),
            max_staleness=variant.max_staleness,
            rollout_engine="transformers",
            sampling={"temperature": 1.0, "max_tokens": task.max_tokens},
        )
        .training(
            **{
                "update_rule": variant.rule,
                "entropy_z_threshold": 1.0 if variant.trigger else None,
                "lr": run.lr if variant.warm_up_steps else lr,
                "lr_warmup_steps": variant.warm_up_steps,
                "optimizer": variant.optimizer,
                "train_batch_size_per_learner": BATCH_SIZE,
                "minibatches_per_pass": variant.minibatches,
                "group_size": GROUP_SIZE,
                **variant.settings,
            }
        )
        .evaluation(
            evaluation_duration=budget.eval_samples,
            evaluation_config=GRPOConfig.overrides(
                env_config={**task.env_config, "split": "test"}, group_size=EVAL_GROUP_SIZE
            ),
        )
        .debugging(seed=run.seed, log_level="ERROR")
    )


def train(run: Run, variant: Variant, model: Path, budget: Budget) -> dict[str, Any]:
    """Trains and returns the curve.

    Returns:
        `curve`, a list a column: `rollouts`, `accuracy` (of the evaluation), `wall_s` and `cpu_s`
        (of training alone), `optimizer_steps` (a backward pass over the batch each, unless it is
        cut into mini-batches), `entropy`; `fired_at`, the batch after which the trigger switched
        the rule off, or None; `stages`: median seconds of `sample` and `learn` in a batch, the
        first ones left out.
    """
    algo = make_config(run, variant, model, budget).build_algo()
    try:
        return follow(algo, budget)
    finally:
        algo.stop()


def follow(algo: GRPO, budget: Budget, *, batch_size: int = BATCH_SIZE) -> dict[str, Any]:
    """Trains to the end of the budget, with evaluations that no clock counts.

    Args:
        algo: Does.
        budget: See `Budget`.
        batch_size: Completions of a rollout batch.

    Returns:
        See `train`.
    """
    wall = cpu = 0.0
    steps = 0
    entropy: float | None = None
    fired_at: int | None = None
    rows = []
    stages: dict[str, list[float]] = {"sample": [], "learn": []}
    for batch in range(budget.num_batches + 1):
        if batch:
            wall_start, cpu_start = time.perf_counter(), time.process_time()
            result = algo.train()
            if batch % budget.eval_every == 0:
                # What is sampled ahead comes to its end in the evaluation, for which nobody would
                # have waited; the next batch needs it first of all.
                algo.finish_rollouts()
            wall += time.perf_counter() - wall_start
            cpu += time.process_time() - cpu_start
            for name, seconds in stages.items():
                seconds.append(float(result["timers"][name]))
            learner = result["learners"]["default_policy"]["sfpo"]
            entropy = float(learner["entropy"])
            steps = int(learner["optimizer_steps_lifetime"])
            if fired_at is None and np.isfinite(learner["entropy_z"]) and not learner["active"]:
                fired_at = batch - 1
        if batch % budget.eval_every == 0:
            accuracy = float(algo.evaluate()["env_runners"]["accuracy"])
            rows.append((batch * batch_size, accuracy, wall, cpu, steps, entropy))
    names = ("rollouts", "accuracy", "wall_s", "cpu_s", "optimizer_steps", "entropy")
    curve = {
        name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)
    }
    medians = {name: float(np.median(seconds[2:] or seconds)) for name, seconds in stages.items()}
    return {"curve": curve, "fired_at": fired_at, "stages": medians}
