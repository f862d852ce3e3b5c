"""The tasks: an environment, a character model and its warm start.

Both models start from demonstrations of which most have a mistake, so that they know more than
they show: sampled accuracy near 0.25, and headroom that rewards alone can uncover. That is the
situation of a pretrained language model before reinforcement learning.
"""

import functools
import random
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import sfpo_envs  # noqa: F401  (registers the environments)
from sfpo_envs import SingleTurnEnv
from sfpo_envs.single_turn import Problem

from sfpo_rllib.rl_modules.char_llama import build_char_llama
from tuned_examples.warm_start import supervised_warm_start

LETTERS = "abcdefghijklmnopqrstuvwxyz"
DIGITS = "0123456789"
NUM_TEST = 512


@dataclass(frozen=True)
class Task:
    """What is learned, from which start.

    Attributes:
        name: Its name in results.
        env: Gymnasium id.
        env_config: Its settings, without the split.
        model: The task whose model it starts from, if not from one of its own.
        alphabet: Characters of prompts and replies.
        symbols: The characters that a mistake in a demonstration may be.
        max_tokens: Longest reply, EOS included.
        max_length: Context of its model.
    """

    name: str
    env: str
    alphabet: str
    symbols: str
    max_tokens: int
    max_length: int = 32
    env_config: dict[str, Any] = field(default_factory=dict)
    model: str | None = None

    @property
    def start(self) -> str:
        """The task whose model it starts from."""
        return self.model or self.name

    def problems(self, split: str) -> Iterator[Problem]:
        """The problems of a split."""
        env = gym.make(self.env, disable_env_checker=True, split=split, **self.env_config)
        assert isinstance(env.unwrapped, SingleTurnEnv)
        return env.unwrapped.problems()


class SpellBackwardEnv(SingleTurnEnv):
    """reasoning-gym's `spell_backward` for a character model: `word>` is answered by `drow`.

    The instruction, the same for every word, is left out. Reward 1 for exactly the word reversed.
    """

    def __init__(self, split: str = "train", min_length: int = 4, max_length: int = 6) -> None:
        """Draws the words, which takes a few seconds once a process.

        Args:
            split: "train" or "test".
            min_length: Shortest word, in letters.
            max_length: Longest word.
        """
        super().__init__()
        words = _words(min_length, max_length)
        self._words = words[:NUM_TEST] if split == "test" else words[NUM_TEST:]

    @property
    def num_problems(self) -> int:
        """Words of this split."""
        return len(self._words)

    def _problem_at(self, index: int) -> Problem:
        word, answer = self._words[index]
        return Problem(f"{word}>", answer)

    def _grade(self, reply: str, answer: str) -> tuple[float, dict[str, Any]]:
        return float(reply == answer), {"is_success": reply == answer}


@functools.cache
def _words(min_length: int, max_length: int) -> list[tuple[str, str]]:
    """Distinct lower-case words with their answers, in reasoning-gym's order."""
    import reasoning_gym

    entries = reasoning_gym.create_dataset(
        "spell_backward", size=20_000, seed=0, min_word_len=min_length, max_word_len=max_length
    )
    answers = {}
    for entry in entries:
        word = entry["question"].rsplit(" ", 1)[1]
        if set(word) <= set(LETTERS):
            answers[word] = entry["answer"]
    return list(answers.items())


gym.register("benchmark/SpellBackward-v0", f"{__name__}:SpellBackwardEnv")


def _column_addition(num_columns: int) -> Task:
    """Replies of 12 characters a column."""
    return Task(
        name=f"column_addition_{num_columns}",
        env="benchmarks.time_to_accuracy.column_addition:benchmark/ColumnAddition-v0",
        env_config={"num_columns": num_columns},
        alphabet=f"{DIGITS}abcdefgh+=;>",
        symbols=DIGITS,
        max_tokens=12 * num_columns + 8,
        max_length=128,
    )


TASKS = {
    task.name: task
    for task in (
        Task(
            name="arithmetic",
            env="sfpo_envs:sfpo/Arithmetic-v0",
            env_config={"num_digits": 2},
            alphabet=f"{DIGITS}+=",
            symbols=DIGITS,
            max_tokens=6,
        ),
        Task(
            name="few_sums",  # 320 to learn from, so that they come again and again
            env="sfpo_envs:sfpo/Arithmetic-v0",
            env_config={"num_digits": 2, "num_test": 10_000 - 320},
            alphabet=f"{DIGITS}+=",
            symbols=DIGITS,
            max_tokens=6,
            model="arithmetic",
        ),
        Task(
            name="spell_backward",
            env="benchmarks.update_rules.tasks:benchmark/SpellBackward-v0",
            alphabet=f"{LETTERS}>",
            symbols=LETTERS,
            max_tokens=8,
        ),
        _column_addition(6),
        _column_addition(2),
    )
}

START_ACCURACY = 0.26
MISTAKES = 0.6  # share of the demonstrations that are wrong
NUM_CHECKED = 1024


def warm_start(tasks: Iterable[str], folder: Path, executor: Executor) -> None:
    """Makes the model that all runs of a task start from, `folder`/task, where there is none."""
    starts = dict.fromkeys(TASKS[name].start for name in tasks)
    missing = [TASKS[name] for name in starts if not (folder / name).exists()]
    for future in [executor.submit(make_model, task, folder) for task in missing]:
        future.result()


def make_model(task: Task, folder: Path) -> None:
    """Builds the character model and teaches it up to `START_ACCURACY`.

    Raises:
        RuntimeError: If it does not get there.
    """
    unfinished = folder / f"{task.name}.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    build_char_llama(
        unfinished,
        alphabet=task.alphabet,
        hidden_size=96,
        num_layers=2,
        max_length=task.max_length,
        seed=0,
    )
    right = [(problem.prompt, problem.answer) for problem in task.problems("train")]
    # Several times over, so that a problem comes with different mistakes.
    demonstrations = with_mistakes(4 * right, symbols=task.symbols, share=MISTAKES, seed=0)
    state = supervised_warm_start(
        unfinished,
        demonstrations,
        check_on=right[:NUM_CHECKED],
        target_accuracy=START_ACCURACY,
        max_steps=20_000,
        seed=0,
    )
    if state.accuracy < START_ACCURACY:
        raise RuntimeError(f"{task.name}: the warm start ended at accuracy {state.accuracy:.3f}")
    unfinished.rename(folder / task.name)


def with_mistakes(
    examples: list[tuple[str, str]], *, symbols: str, share: float, seed: int
) -> list[tuple[str, str]]:
    """The examples, with one symbol of the reply changed in about `share` of them."""
    rng = random.Random(seed)

    def wrong(reply: str) -> str:
        place = rng.randrange(len(reply))
        symbol = rng.choice([s for s in symbols if s != reply[place]])
        return reply[:place] + symbol + reply[place + 1 :]

    return [(prompt, wrong(reply) if rng.random() < share else reply) for prompt, reply in examples]
