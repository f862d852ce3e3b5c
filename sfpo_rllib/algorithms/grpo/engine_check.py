"""Whether an engine computes the model as the learner does, asked when training begins.

Both must give a reply the same log-probs at equal weights, or the update is of another policy than
the one that sampled. Whatever the model's family, a few short replies show it.
"""

from typing import Any

import numpy as np
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.learner.learner import Learner
from ray.rllib.core.learner.learner_group import LearnerGroup
from ray.rllib.env.env_runner_group import EnvRunnerGroup

from sfpo_rllib.env_runners import GroupEnvRunner
from sfpo_rllib.env_runners.engines import ENGINES
from sfpo_rllib.remote import values_of
from sfpo_rllib.rl_modules.causal_lm import (
    ADVANTAGES,
    ATTENTION_MASK,
    BEHAVIOUR_LOGP,
    INPUT_IDS,
    LOGP,
    LOSS_MASK,
    forward_train,
)
from sfpo_rllib.rl_modules.model_settings import ModelSettings

# Mean |difference| of log-probs, in nats. What rounding makes of it is far below, a model computed
# otherwise far above.
TOLERANCES = {"float32": 0.01, "bfloat16": 0.5}

Replies = list[tuple[list[int], np.ndarray, np.ndarray]]  # prompt, reply, its log-probs


def check_engine(config: Any, runners: EnvRunnerGroup, learners: LearnerGroup) -> None:
    """Compares log-probs of a few replies, sampled by one of the runners, with the learner's.

    Args:
        config: The algorithm's.
        runners: They run the weights that the learner has.
        learners: They are left as they are.

    Raises:
        ValueError: If the engine fails on the model, or its log-probs are others.
        RuntimeError: If no runner answers.
    """
    replies = sample_all(config, runners)[0]
    if not replies:  # they are not the policy's
        return
    scored = values_of(learners.foreach_learner(_logp, batch=_batch(replies)))[0]
    differences = np.concatenate(
        [
            np.abs(scored[row, len(prompt) : len(prompt) + len(reply)] - logprobs)
            for row, (prompt, reply, logprobs) in enumerate(replies)
        ]
    )
    mean = float(differences.mean())
    # Also if it is not a number.
    if not mean <= TOLERANCES[config.model_config.get("dtype", "float32")]:
        raise ValueError(
            f"rollout_engine={config.rollout_engine!r}: must give the log-probs that the learner "
            f"finds at the same weights; on {_family(config)} they differ by {mean:.2g} nats in "
            f"the mean, {differences.max():.2g} at most: it computes the model otherwise; "
            f"{_other(config.rollout_engine)}"
        )


def sample_all(config: Any, runners: EnvRunnerGroup) -> list[Replies]:
    """The same few replies of each runner.

    Args:
        config: The algorithm's.
        runners: Of the algorithm.

    Raises:
        ValueError: If an engine did not start, or fails on the model.
        RuntimeError: If no runner answers.
    """
    answers = runners.foreach_env_runner(_replies, healthy_only=False)
    if not answers:
        raise RuntimeError("no env runner answers; its log says why it ended")
    for answer in answers:
        if isinstance(answer, str):
            mend = "mend engine_kwargs if it is about them, or " if config.engine_kwargs else ""
            raise ValueError(
                f"rollout_engine={config.rollout_engine!r}: fails on {_family(config)} with "
                f"engine_kwargs={config.engine_kwargs}: {answer}; "
                f"{mend}{_other(config.rollout_engine)}"
            )
    return answers


def _replies(runner: GroupEnvRunner) -> Replies | str:
    """Runs in a runner. An error comes back as text: RLlib would only log it."""
    try:
        return [
            (list(request.prompt_ids), completion.token_ids, completion.logprobs)
            for request, completion in runner.sample_probes()
        ]
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def _batch(replies: Replies) -> dict[str, np.ndarray]:
    """Columns of a token batch, padded on the right."""
    lengths = [(len(prompt), len(prompt) + len(reply)) for prompt, reply, _ in replies]
    shape = len(replies), max(end for _, end in lengths)
    ids, logp = np.zeros(shape, np.int64), np.zeros(shape, np.float32)
    tokens, counts = np.zeros(shape, np.int64), np.zeros(shape, bool)
    for row, (prompt, reply, logprobs) in enumerate(replies):
        start, end = lengths[row]
        ids[row, :end] = [*prompt, *reply]
        tokens[row, :end] = 1
        counts[row, start:end] = True
        logp[row, start:end] = logprobs
    return {
        INPUT_IDS: ids,
        ATTENTION_MASK: tokens,
        LOSS_MASK: counts,
        BEHAVIOUR_LOGP: logp,
        ADVANTAGES: np.zeros(len(replies), np.float32),
    }


@torch.no_grad()
def _logp(learner: Learner, batch: dict[str, np.ndarray]) -> np.ndarray:
    """Runs in a learner; in all of them, where a forward pass is collective."""
    module = learner.module[DEFAULT_MODULE_ID].unwrapped()
    device = next(module.parameters()).device
    columns = {name: torch.tensor(column, device=device) for name, column in batch.items()}
    logp: np.ndarray = forward_train(module, columns)[LOGP].cpu().numpy()
    return logp


def _family(config: Any) -> str:
    """The kind of model, for people."""
    return f"a {ModelSettings.of(config.model_config).pretrained_config().model_type!r} model"


def _other(engine: Any) -> str:
    """What to use instead."""
    names = " or ".join(repr(name) for name in ENGINES if name != engine)
    own = "" if engine in [*ENGINES] else ", or samples_policy=False if it is not to be the policy"
    return f"use rollout_engine={names}, if that one runs it, or another model{own}"
