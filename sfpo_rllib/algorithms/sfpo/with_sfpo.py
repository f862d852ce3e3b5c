"""SFPO on any RLlib algorithm that trains with a TorchLearner."""

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from sfpo_rllib.algorithms.with_update_rule import with_update_rule
from sfpo_rllib.core.checks import raise_problems, renamed
from sfpo_rllib.core.slow_fast import slow_fast_problems
from sfpo_rllib.core.update_rules import SlowFast


def with_sfpo(
    config: AlgorithmConfig,
    *,
    fast_steps: int = 3,
    reposition_alpha: float = 0.8,
    entropy_window: int | None = None,
    entropy_z_threshold: float = 1.0,
    entropy_warmup: int = 0,
    entropy_patience: int = 1,
) -> AlgorithmConfig:
    """Returns a copy of `config` whose learner repositions before it corrects.

    "The batch" is what the learner takes one gradient step on, its mini-batch: each becomes
    `fast_steps` + 1 gradient steps. The settings live in the learner config
    (`config.learner_config_dict["sfpo"]`), where Tune can reach them.

    Args:
        config: Of an algorithm with a TorchLearner, e.g. PPOConfig. Left alone.
        fast_steps: K.
        reposition_alpha: alpha, in [0, 1].
        entropy_window: w of the entropy trigger. None: no trigger.
        entropy_z_threshold: z-score from which on SFPO is switched off for good.
        entropy_warmup: So many first batches cannot fire it.
        entropy_patience: So many z-scores in a row must reach the threshold.

    Returns:
        The new config. It can be changed further: its `validate()` looks at it again.

    Raises:
        ValueError: If a setting is out of range, or as `with_update_rule`.
    """
    problems = slow_fast_problems(fast_steps, reposition_alpha)
    raise_problems(renamed(problems, alpha="reposition_alpha"))
    return with_update_rule(
        config,
        SlowFast(fast_steps=fast_steps, alpha=reposition_alpha),
        entropy_window=entropy_window,
        entropy_z_threshold=entropy_z_threshold,
        entropy_warmup=entropy_warmup,
        entropy_patience=entropy_patience,
    )
