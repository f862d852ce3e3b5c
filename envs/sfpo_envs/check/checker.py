"""The checks, in the order in which they are made."""

from __future__ import annotations

import contextlib
import inspect
import logging
import random
import re
import statistics
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Text

from sfpo_envs.check.call_limit import CallLimit
from sfpo_envs.check.findings import Findings, short
from sfpo_envs.check.garbage import GARBAGE
from sfpo_envs.check.making import maker
from sfpo_envs.check.player import BrokenEnv, Player, Step, TextEnv
from sfpo_envs.check.replies import known_replies
from sfpo_envs.spaces import ChatMessages, texts

_SLOW_STEP = 10  # times the budget: one step that takes so long is named
_PROBLEM_SECONDS = 1.0  # spent on the problems of an epoch, or of a split, at most


def check_text_env(
    env: str | TextEnv | Callable[..., TextEnv],
    *,
    config: dict[str, Any] | None = None,
    num_seeds: int = 16,
    reward_range: tuple[float, float] | None = None,
    max_turns: int = 64,
    max_problems: int = 1000,
    reset_budget_s: float = 0.5,
    step_budget_s: float = 1.0,
    call_limit_s: float = 60.0,
) -> Findings:
    """Check that an environment can be trained on.

    Args:
        env: A gymnasium id, a class or another callable that makes it, or an environment. Of the
            last, copies are checked; whether training and test problems are apart is not.
        config: Keyword arguments for the id or callable.
        num_seeds: How many problems are looked at, besides those of a whole epoch.
        reward_range: Lowest and highest reward allowed; by default the environment's attribute
            ``reward_range``, or else from -1 to 1.
        max_turns: An episode must be over after so many replies.
        max_problems: Epochs of up to so many problems are gone through whole, if that takes no
            more than seconds.
        reset_budget_s: A median reset that takes longer is a warning.
        step_budget_s: A median step that takes longer is a warning.
        call_limit_s: A reset or step that takes longer hangs: it is interrupted, and the checks
            end there. Only in the main thread.

    Returns:
        What was found; empty if all is well. ``check_text_env(...).raise_if_errors()`` is for
        tests.
    """
    findings = Findings()
    with CallLimit(call_limit_s) as limit:
        player = Player(findings, reward_range, max_turns, limit)
        checker = _Checker(maker(env, config or {}), player, num_seeds, max_problems)
        try:
            checker.run(takes_options=not isinstance(env, gymnasium.Env))
        except KeyboardInterrupt:
            if limit.expired is None:  # it is the user's
                raise
            findings.error(
                "hang",
                f"{limit.expired} has not returned after {limit.seconds:g} s",
                "end its loops, and give up on what it waits for after a time",
            )
            return findings
    checker.check_speed(reset_budget_s, step_budget_s)
    return findings


class _Checker:
    """Runs the checks on fresh environments."""

    def __init__(
        self, make: Callable[..., TextEnv], player: Player, num_seeds: int, max_problems: int
    ) -> None:
        self._make_it = make
        self._player = player
        self._findings = player.findings
        self._seeds = range(num_seeds)
        self._max_problems = max_problems

    def _make(self, **options: Any) -> TextEnv:
        with self._player.limit.of("making it"):
            return self._make_it(**options)

    def run(self, takes_options: bool) -> None:
        """Run all checks that do not need the others' results."""
        try:
            env = self._make()
        except (Exception, SystemExit) as error:
            change = "correct the id or the config, or pass an id or a class in place of an object"
            self._findings.error("make", f"it could not be made: {error!r}", change)
            return
        if not (self._check_kind(env) and self._check_spaces(env)):
            return
        checks = [
            self._check_first_episode,
            self._check_determinism,
            self._check_groups,
            self._check_variety,
            self._check_garbage,
            self._check_after_the_end,
            self._check_epoch,
        ]
        if takes_options:
            checks.append(self._check_splits)
        for check in checks:
            try:
                check()
            except BrokenEnv:  # reported; without a first episode there is nothing more to see
                if check == self._check_first_episode:
                    return
        if len(self._player.says_success) == 2:
            self._findings.warn(
                "info",
                "the final info has is_success after some episodes only",
                "put it into each: accuracy is its mean over those that have it",
            )

    def check_speed(self, reset_budget_s: float, step_budget_s: float) -> None:
        """Compare the times that all checks took with what is allowed."""
        step_seconds = [seconds for seconds, _ in self._player.step_seconds]
        measured = (
            ("reset", self._player.reset_seconds, reset_budget_s),
            ("step", step_seconds, step_budget_s),
        )
        for what, seconds, budget in measured:
            if seconds and (median := statistics.median(seconds)) > budget:
                self._findings.warn(
                    "time",
                    f"a {what} takes {median:.3g} s in the median, more than {budget:g} s",
                    "prepare problems once and keep them; engines wait while an environment works",
                )
        slowest, reply = max(self._player.step_seconds, default=(0.0, ""))
        if slowest > _SLOW_STEP * step_budget_s:
            self._findings.warn(
                "time",
                f"step({short(reply)}) took {slowest:.3g} s",
                "cap the length of what is parsed, and give up on it after a time",
            )

    def _check_kind(self, env: Any) -> bool:
        if isinstance(env, gymnasium.Env):
            return True
        seen = f"it is a {type(env).__name__}, not a gymnasium.Env"
        change = "subclass gymnasium.Env: reset(seed=...), step(reply), two spaces"
        self._findings.error("kind", seen, change)
        return False

    def _check_spaces(self, env: TextEnv) -> bool:
        observation_space = getattr(env, "observation_space", None)
        action_space = getattr(env, "action_space", None)
        is_text = True
        if not isinstance(observation_space, Text | ChatMessages):
            is_text = False
            seen = f"observation_space is {short(observation_space)}, not text"
            change = "make it sfpo_envs.UnicodeText(max_length) or sfpo_envs.ChatMessages(...)"
            self._findings.error("spaces", seen, change)
        change = "make it sfpo_envs.UnicodeText(max_length), which admits any text"
        if not isinstance(action_space, Text):
            seen = f"action_space is {short(action_space)}, not text"
            self._findings.error("spaces", seen, change)
            return False
        for reply in GARBAGE.values():
            if len(reply) <= action_space.max_length and reply not in action_space:
                seen = f"action_space does not admit {short(reply)}"
                self._findings.error("spaces", seen, change)
                break
        return is_text

    def _check_first_episode(self) -> None:
        env = self._make()
        self._player.play(env, 0, "1")
        self._player.reset(env, None)

    def _check_determinism(self) -> None:
        first, second = self._make(), self._make()
        before = _global_random()
        shown = [self._player.reset(first, seed) for seed in self._seeds]
        for seed, expected in zip(self._seeds, shown, strict=True):
            if (observation := self._player.reset(second, seed)) != expected:
                self._findings.error(
                    "determinism",
                    f"seed {seed} shows {short(expected)} in one fresh environment and "
                    f"{short(observation)} in another",
                    "draw everything from self.np_random, after super().reset(seed=seed)",
                )
        for reply in self._replies(first, 0):
            if self._player.play(first, 0, reply) != self._player.play(second, 0, reply):
                self._findings.error(
                    "determinism",
                    f"two episodes of seed 0 differ, though every reply was {short(reply)}",
                    "let problem and replies alone decide, or draw from self.np_random",
                )
        if before != _global_random():
            self._findings.warn(
                "determinism",
                "the global random generator of Python or numpy has moved",
                "draw from self.np_random: the global one is everybody's",
            )
        for seed in reversed(self._seeds):
            if (observation := self._player.reset(first, seed)) != shown[seed]:
                self._findings.error(
                    "determinism",
                    f"seed {seed} shows {short(shown[seed])} first, and {short(observation)} after "
                    "other episodes",
                    "set everything anew in reset(); nothing may be left of earlier episodes",
                )

    def _check_groups(self) -> None:
        """Play episodes of one seed and of others at once, and compare with each alone."""
        player = self._player
        env = self._make()
        plan = [(seed, r) for seed in self._seeds[:2] for r in self._replies(env, seed)]
        alone = [player.play(self._make(), seed, reply) for seed, reply in plan]
        envs = [self._make() for _ in plan]
        problems: dict[int, Any] = {}
        for env, (seed, _) in zip(envs, plan, strict=True):
            observation = player.reset(env, seed)
            if problems.setdefault(seed, observation) != observation:
                self._findings.error(
                    "group",
                    f"environments of one group, seed {seed}, show {short(problems[seed])} and "
                    f"{short(observation)}",
                    "let the seed alone decide the problem",
                )
        together: list[list[Step]] = [[] for _ in plan]
        for turn in range(max(map(len, alone))):
            for env, (_, reply), steps in zip(envs, plan, together, strict=True):
                if turn == 0 or not steps[-1].over:
                    steps.append(player.step(env, reply))
        for (seed, reply), expected, steps in zip(plan, alone, together, strict=True):
            if steps != expected:
                self._findings.error(
                    "group",
                    f"{short(reply)} to seed {seed} earns {_rewards(expected)} alone, and "
                    f"{_rewards(steps)} beside other environments",
                    "keep an episode's state in the instance: no globals or class attributes",
                )

    def _check_variety(self) -> None:
        env = self._make()
        shown = {repr(self._player.reset(env, seed)) for seed in self._seeds}
        if len(self._seeds) > 1 and len(shown) == 1 and _num_problems(env) != 1:
            self._findings.warn(
                "variety",
                f"all of {len(self._seeds)} seeds show {short(self._player.reset(env, 0))}",
                "let the seed decide the problem: use self.np_random after "
                "super().reset(seed=seed). All is well if what differs is hidden, as in games, or "
                "if there is but one problem (num_problems = 1)",
            )

    def _check_garbage(self) -> None:
        env = self._make()
        for seed, (name, reply) in enumerate(GARBAGE.items()):
            try:
                with _unlogged():  # that such a reply is none is no news
                    last = self._player.play(env, seed, reply)[-1]
            except BrokenEnv:
                env = self._make()
                continue
            if last.is_success:
                self._findings.warn(
                    "garbage",
                    f"the reply {short(reply)} ({name}) to seed {seed} is a success",
                    "make sure that only right answers are",
                )

    def _check_after_the_end(self) -> None:
        env = self._make()
        self._player.play(env, 0, "1")
        try:
            with self._player.limit.of("a step after the end"):
                _, reward, terminated, truncated, _ = env.step("1")
        except Exception:
            return
        if reward or not (terminated or truncated):
            self._findings.error(
                "end",
                f"a step after the end earns {reward!r}, terminated={terminated!r}",
                "raise there, or repeat the end with a reward of 0",
            )

    def _check_epoch(self) -> None:
        """Check that seeds visit every problem of the set once an epoch."""
        env = self._make()
        size = _num_problems(env)
        if size is None:
            return
        shown = self._shown(env, range(min(size, self._max_problems)))
        if shown.total() == size:
            later = self._shown(env, range(size, 2 * size))
            if later.total() == size and later != shown:
                self._findings.error(
                    "epoch",
                    f"seeds 0 to {size - 1} and {size} to {2 * size - 1} do not show the same "
                    f"{size} problems: {(shown - later).total()} differ",
                    "map seeds to problems one to one in each epoch, as SingleTurnEnv does",
                )
        again = [problem for problem, times in shown.items() if times > 1]
        if again:
            self._findings.warn(
                "epoch",
                f"{len(again)} of {len(shown)} problems come again before the epoch of "
                f"{size} is over, {short(again[0])} for one",
                "take duplicates out of the data; visit problems in a permuted order",
            )

    def _check_splits(self) -> None:
        """Check that training and test problems are apart, where there are such."""
        constructor = type(self._make().unwrapped).__init__
        if "split" not in inspect.signature(constructor).parameters:
            return
        shown = []
        for split in ("train", "test"):
            try:
                env = self._make(split=split)
            except Exception:  # such as a file that has but one part
                return
            size = _num_problems(env) or self._max_problems
            shown.append(self._shown(env, range(min(size, self._max_problems))))
        if common := shown[0].keys() & shown[1].keys():
            self._findings.error(
                "split",
                f"{len(common)} of {len(shown[1])} test problems are training problems too, "
                f"{short(min(common))} for one",
                "let a problem's text, not its seed, decide its split",
            )

    def _replies(self, env: TextEnv, seed: int) -> list[str]:
        """Return replies to try: right ones if the environment knows them, and what it shows."""
        known = known_replies(env, seed)
        words = re.findall(r"\w+", " ".join(texts(self._player.reset(env, seed))))
        return [*known, *words[-2:], "", "1", "yes", "yes", "\\boxed{1}"]

    def _shown(self, env: TextEnv, seeds: range) -> Counter[str]:
        """Return the problems of seeds, of as many as there is time for."""
        deadline = time.perf_counter() + _PROBLEM_SECONDS
        shown: Counter[str] = Counter()
        for seed in seeds:
            if time.perf_counter() > deadline:
                break
            shown[repr(self._player.reset(env, seed))] += 1
        return shown


@contextlib.contextmanager
def _unlogged() -> Iterator[None]:
    """What an environment logs and warns of meanwhile goes nowhere."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _num_problems(env: TextEnv) -> int | None:
    size = getattr(env.unwrapped, "num_problems", None)
    return size if isinstance(size, int) else None


def _global_random() -> tuple[Any, ...]:
    state = np.random.get_state(legacy=False)
    return random.getstate(), state["state"]["key"].tobytes(), state["state"]["pos"]


def _rewards(steps: list[Step]) -> list[float]:
    return [step.reward for step in steps]
