"""Sampling beside learning: engine and learner sleep, one staleness after another."""

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.rllib.utils.annotations import override
from transformers import AutoTokenizer

from benchmarks.pipeline.environments import AtOnce
from benchmarks.pipeline.runs import Contender, compare
from sfpo_rllib import GRPOConfig
from sfpo_rllib.core import UpdateContext, UpdateRule
from sfpo_rllib.env_runners.engines import Completion, RolloutEngine
from sfpo_rllib.rl_modules.char_llama import build_char_llama

ENV = "sfpo_envs:sfpo/Arithmetic-v0"
NUM_GROUPS, GROUP_SIZE = 8, 4


class SleepingEngine(AtOnce):
    """Takes so many seconds for a reply.

    It takes `slow_factor` times as long in the process that makes `slow_marker`, a folder.
    """

    samples_policy = False

    def __init__(
        self, model: str, seconds: float, slow_marker: str | None = None, slow_factor: float = 4.0
    ) -> None:
        super().__init__(AutoTokenizer.from_pretrained(model))
        self._seconds = seconds
        if slow_marker is not None:
            with contextlib.suppress(FileExistsError):
                Path(slow_marker).mkdir()
                self._seconds *= slow_factor

    @override(RolloutEngine)
    def step(self) -> list[Completion]:
        time.sleep(self._seconds * len(self._queue))
        return super().step()


@dataclass(frozen=True)
class Sleeping(UpdateRule):
    """One pass that takes `seconds` longer."""

    seconds: float

    @override(UpdateRule)
    def update(self, ctx: UpdateContext[Any, Any]) -> list[Any]:
        time.sleep(self.seconds)
        return [ctx.run_pass()]


def make_config(
    model: Path, *, sample_s: float, learn_s: float, max_staleness: int, num_env_runners: int = 1
) -> GRPOConfig:
    """A batch that one runner samples in `sample_s` and that is learnt from in `learn_s`."""
    seconds = sample_s / (NUM_GROUPS * GROUP_SIZE)
    return (
        GRPOConfig()
        .environment(ENV, env_config={"num_digits": 2})
        .rl_module(model_config={"model": str(model)})
        .env_runners(
            num_env_runners=num_env_runners,
            rollout_engine=SleepingEngine,
            engine_kwargs={"seconds": seconds},
            sampling={"max_tokens": 4},
            max_staleness=max_staleness,
        )
        .training(
            update_rule=Sleeping(learn_s),
            lr=1e-5,
            group_size=GROUP_SIZE,
            train_batch_size_per_learner=NUM_GROUPS * GROUP_SIZE,
            max_engine_logp_diff=None,  # it is not the policy that replies
        )
        .debugging(seed=0, log_level="ERROR")
    )


def build_model(folder: Path) -> Path:
    """Next to nothing to compute."""
    return build_char_llama(folder, alphabet="0123456789+=", hidden_size=32, num_layers=1)


def measure(folder: Path, *, smoke: bool) -> dict[str, Any]:
    """Seconds an iteration where sampling and learning take equally long.

    Args:
        folder: For the model.
        smoke: Whether to be quick about it.
    """
    model = build_model(folder / "model")
    seconds, rounds, iterations = (0.3, 2, 4) if smoke else (1.0, 5, 6)
    contenders = {
        f"S={s}": Contender(
            make_config(model, sample_s=seconds, learn_s=seconds, max_staleness=s),
            in_advance=s + 1,
        )
        for s in (0, 1, 2)
    }
    return {
        "sample_s": seconds,
        "learn_s": seconds,
        **compare(contenders, rounds=rounds, iterations=iterations, against="S=0"),
    }


def measure_straggler(folder: Path, *, smoke: bool) -> dict[str, Any]:
    """Seconds an iteration with two equal runners, and with one of them four times slower.

    The jobs of the slow one are what is waited for: with jobs of the size that a batch has a
    runner of, as if each had its half at once, and with smaller ones.

    Args:
        folder: For the model.
        smoke: Whether to be quick about it.
    """
    model = build_model(folder / "model")
    seconds, rounds, iterations = (0.8, 2, 2) if smoke else (4.0, 5, 4)
    contenders = {}
    for name, slow, groups in (
        ("both fast", False, None),
        ("one slow, half a batch a job", True, NUM_GROUPS // 2),
        ("one slow", True, None),
        ("one slow, a group a job", True, 1),
    ):
        config = make_config(
            model, sample_s=seconds, learn_s=0.0, max_staleness=0, num_env_runners=2
        )
        config.env_runners(groups_per_job=groups)
        contenders[name] = Contender(config, in_advance=1, slow_runner=slow)
    # 1 and 1/4 batches of `sample_s` together; a quarter of the groups wait for the slow one.
    best = seconds / 1.25
    return {
        "sample_s": seconds,
        "best_possible_s": best,
        **compare(contenders, rounds=rounds, iterations=iterations, against="both fast"),
    }
