"""Training by id alone, from small warm-started models, on tasks of the package."""

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch

pytest.importorskip("ray")
pytest.importorskip("reasoning_gym")

from probes import sfpo_results
from ray.rllib.core import DEFAULT_MODULE_ID
from sfpo_envs import SingleTurnEnv
from transformers import AutoTokenizer

from sfpo_rllib import SFPO, SFPOConfig
from sfpo_rllib.algorithms.grpo.grpo_torch_learner import GRPOTorchLearner
from sfpo_rllib.rl_modules.causal_lm import ATTENTION_MASK, INPUT_IDS, LOSS_MASK
from sfpo_rllib.rl_modules.char_llama import EOS, build_char_llama
from tuned_examples.warm_start import supervised_warm_start

DIGITS = "0123456789"
MISTAKES = 0.5  # share of the demonstrations that have a wrong digit, which training unlearns
NUM_PROBLEMS = 60

Examples = list[tuple[str, str]]
Running = Callable[[SFPO], SFPO]


def replies(env: SingleTurnEnv) -> Iterator[tuple[str, str]]:
    """Each prompt with the reply known to be right."""
    return ((problem.prompt, problem.answer) for problem in env.problems())


def dialogues(env: SingleTurnEnv) -> Iterator[tuple[str, str]]:
    """What to write in each turn: hand the whole problem to the calculator, then copy its value."""
    for prompt, answer in replies(env):
        call = f"[{prompt.removesuffix('?')}]"
        yield prompt, call
        yield f"{prompt}{call}{EOS}>{answer}?", f"={answer}"


@dataclass(frozen=True)
class Task:
    """An environment, and how a model that half masters it comes to be."""

    env: str
    env_config: dict[str, Any]
    alphabet: str
    max_tokens: int
    warm_start_accuracy: float = 0.3  # of a turn
    demonstrate: Callable[[SingleTurnEnv], Iterator[tuple[str, str]]] = field(default=replies)

    def make_env(self) -> SingleTurnEnv:
        env = gym.make(self.env, **self.env_config).unwrapped
        assert isinstance(env, SingleTurnEnv)
        return env


TASKS = {
    "reasoning_gym": Task(
        env="sfpo_envs:sfpo/ReasoningGym-v0",
        env_config={
            "tasks": {"chain_sum": {"max_terms": 2, "min_digits": 1, "max_digits": 1}},
            "question_pattern": r": (.*) =",
            "prompt_template": "{question}=",
            "size": NUM_PROBLEMS,
        },
        alphabet=f"{DIGITS}+-= ",
        max_tokens=4,
    ),
    "countdown": Task(
        env="sfpo_envs:sfpo/Countdown-v0",
        env_config={
            "num_numbers": 2,
            "max_number": 9,
            "min_target": 2,
            "operators": "+-",
            "prompt_template": "bare",
            "size": NUM_PROBLEMS,
        },
        alphabet=f"{DIGITS}+-= ?",
        max_tokens=5,
    ),
    "calculator": Task(
        env="sfpo_envs:sfpo/Calculator-v0",
        env_config={
            "num_operands": 2,
            "num_digits": 1,
            "operations_per_call": 1,
            "max_turns": 3,
            "style": "char",
            "size": NUM_PROBLEMS,
        },
        alphabet=f"{DIGITS}+-*/[]=?>!",
        max_tokens=7,
        warm_start_accuracy=0.45,
        demonstrate=dialogues,
    ),
}


@pytest.fixture(scope="module")
def warm_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`warm_model(name)`: the folder of a model that does a task right now and then."""
    folders: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in folders:
            folders[name] = build_warm_model(TASKS[name], tmp_path_factory.mktemp(name))
        return folders[name]

    return make


def build_warm_model(task: Task, folder: Path) -> Path:
    right = list(task.demonstrate(task.make_env()))
    build_char_llama(folder, alphabet=task.alphabet, hidden_size=64, num_layers=2)
    state = supervised_warm_start(
        folder,
        with_mistakes(8 * right),
        check_on=right,
        target_accuracy=task.warm_start_accuracy,
        lr=3e-3,
    )
    assert state.accuracy >= task.warm_start_accuracy
    return folder


def with_mistakes(examples: Examples) -> Examples:
    rng = random.Random(0)

    def wrong(reply: str) -> str:
        place = rng.choice([i for i, symbol in enumerate(reply) if symbol in DIGITS])
        return reply[:place] + rng.choice(DIGITS.replace(reply[place], "")) + reply[place + 1 :]

    return [
        (prompt, wrong(reply) if rng.random() < MISTAKES else reply) for prompt, reply in examples
    ]


def make_config(task: Task, model: Path) -> SFPOConfig:
    return (
        SFPOConfig()
        .environment(task.env, env_config=task.env_config)
        .rl_module(model_config={"model": str(model)})
        .env_runners(
            num_env_runners=0,
            rollout_engine="transformers",
            sampling={"max_tokens": task.max_tokens},
        )
        .training(lr=6e-4, train_batch_size_per_learner=128, group_size=8, entropy_z_threshold=None)
        .evaluation(
            evaluation_duration=8 * NUM_PROBLEMS,
            evaluation_config=SFPOConfig.overrides(group_size=8),
        )
        .debugging(seed=0)
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_accuracy_rises_by_training(
    name: str, warm_model: Callable[[str], Path], running: Running
) -> None:
    algo = running(make_config(TASKS[name], warm_model(name)).build_algo())
    before = algo.evaluate()["env_runners"]
    results = [algo.train() for _ in range(12)]
    after = algo.evaluate()["env_runners"]

    assert 0.1 < before["accuracy"] < 0.5
    assert after["accuracy"] > before["accuracy"] + 0.1
    assert max(sfpo_results(result)["engine_logp_diff"] for result in results) < 1e-5


def test_the_learner_masks_what_the_calculator_says(
    warm_model: Callable[[str], Path], running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, model = TASKS["calculator"], warm_model("calculator")
    batches: list[dict[str, torch.Tensor]] = []
    update = GRPOTorchLearner._update

    def spied_update(learner: GRPOTorchLearner, batch: dict[str, Any], **kwargs: Any) -> Any:
        batches.append(dict(batch[DEFAULT_MODULE_ID]))
        return update(learner, batch, **kwargs)

    monkeypatch.setattr(GRPOTorchLearner, "_update", spied_update)
    running(make_config(task, model).build_algo()).train()

    [batch] = batches
    tokenizer, env = AutoTokenizer.from_pretrained(model), task.make_env()
    seeds = {env.problem(seed).prompt: seed for seed in range(NUM_PROBLEMS)}
    num_results = 0
    rows = list(zip(batch[INPUT_IDS], batch[LOSS_MASK], batch[ATTENTION_MASK], strict=True))
    assert len(rows) == 128
    for ids, loss_mask, attention_mask in rows:
        present = attention_mask.bool()
        assert not loss_mask[~present].any()
        parts = [
            (is_sampled, [token for _, token in part])
            for is_sampled, part in groupby(
                zip(loss_mask[present].tolist(), ids[present].tolist(), strict=True),
                key=lambda pair: bool(pair[0]),
            )
        ]
        # The environment plays the episode again: what it says is what is masked, and no more.
        end, said = "", env.reset(seed=seeds[tokenizer.decode(parts[0][1])])[0]
        for is_sampled, part in parts:
            if is_sampled:
                said, *_ = env.step(tokenizer.decode(part, skip_special_tokens=True))
                end = "" if part[-1] == tokenizer.eos_token_id else EOS  # of a reply that was cut
                num_results += re.fullmatch(r">-?\d+\?", said) is not None
            else:
                assert tokenizer.decode(part) == end + said
        assert is_sampled and not said
    assert num_results > 32
