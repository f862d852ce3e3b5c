"""Problems of equal rewards are skipped, the more the longer that goes on, and come back."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

pytest.importorskip("ray")

from probes import assert_equal_weights, train
from sfpo_envs import Problem, SingleTurnEnv

from sfpo_rllib import SFPO, Curriculum, SFPOConfig
from sfpo_rllib.env_runners.digest import EpisodeDigest
from sfpo_rllib.env_runners.problem_ids import ProblemIds, identity_problems
from sfpo_rllib.env_runners.remote_group import RemoteGroup
from sfpo_rllib.env_runners.stream import ProblemChooser
from sfpo_rllib.env_runners.summary import equal_reward_kind


def chooser(**settings: Any) -> ProblemChooser:
    """Problems are seeds; a group is its kind."""
    return ProblemChooser(Curriculum(**settings), lambda seed: seed, lambda group: group)  # type: ignore


def learn(chooser: ProblemChooser, *kinds: str | None, seed: int = 7) -> None:
    for kind in kinds:
        chooser.learn([(seed, kind)])  # type: ignore[list-item]


@pytest.mark.parametrize("kind", ["solved", "hopeless"])
def test_the_chance_falls_with_each_equal_group_down_to_the_least(kind: str) -> None:
    one = chooser(step=0.0, exploration=0.5, least_chance=0.1)
    chances = [one.chance(7)]
    for _ in range(5):
        learn(one, kind)
        chances.append(one.chance(7))
    assert chances == [1.0, 0.5, 0.25, 0.125, 0.1, 0.1]
    assert one.chance(8) == one.chance(None) == 1.0


def test_unequal_rewards_or_the_other_kind_begin_the_count_anew() -> None:
    one = chooser(step=0.0, exploration=0.5)
    learn(one, "solved", "solved", "hopeless")
    assert one.chance(7) == 0.5
    learn(one, None)
    assert one.chance(7) == 1.0


def test_a_problem_is_skipped_as_often_as_its_chance_says_and_comes_back() -> None:
    one = ProblemChooser(Curriculum(step=0.0), lambda seed: 0, lambda group: group)  # type: ignore
    learn(one, "hopeless", "hopeless")
    skipped = [one.skips(3, seed) for seed in range(4000)]
    assert sum(skipped) / 4000 == pytest.approx(0.75, abs=0.03)
    assert one.counts == {"hopeless": sum(skipped)}
    assert skipped == [one.skips(3, seed) for seed in range(4000)]  # the seed alone draws
    assert skipped != [one.skips(4, seed) for seed in range(4000)]


def test_each_exploration_moves_towards_its_own_target_and_stays_in_bounds() -> None:
    one = chooser(solved_target=0.5, hopeless_target=0.0, exploration=0.5, step=0.3)
    batch: Any = list(enumerate(["solved", "hopeless", None, None]))
    one.learn(batch)
    assert one.shares == {"solved": 0.25, "hopeless": 0.25}
    assert one.exploration == {"solved": 0.8, "hopeless": 0.2}
    for _ in range(3):
        one.learn(batch)
    assert one.exploration == {"solved": 1.0, "hopeless": 0.05}


def test_what_it_has_learned_can_be_kept_and_undone() -> None:
    one, other = chooser(), chooser()
    learn(one, "solved", "solved")
    go_back = one.snapshot()
    state = one.get_state()
    learn(one, None)
    assert one.chance(7) == 1.0
    go_back()
    other.set_state(state)
    assert one.chance(7) == other.chance(7) < 1.0
    assert other.get_state() == one.get_state() == state
    other.set_state(None)  # of a checkpoint without
    assert other.get_state() == chooser().get_state()


@pytest.mark.parametrize(
    ("rewards", "successes", "kind"),
    [
        ([1.0, 1.0], [1.0, 1.0], "solved"),
        ([0.1, 0.1], [0.0, 0.0], "hopeless"),  # for its format
        ([1.0, 0.0], [1.0, 0.0], None),
        ([1.0, 1.0], None, "solved"),
        ([-1.0, -1.0], None, "hopeless"),
        ([0.0, 0.0], None, "hopeless"),
    ],
)
def test_solved_is_what_the_environment_says_or_else_a_positive_reward(
    rewards: list[float], successes: list[float] | None, kind: str | None
) -> None:
    digests = [
        EpisodeDigest(r, 1, 1, 1, 0, False, s, s is not None)
        for r, s in zip(rewards, successes or [None] * 2, strict=True)
    ]
    assert equal_reward_kind(RemoteGroup(None, digests)) == kind  # type: ignore[arg-type]


def test_a_reply_that_was_cut_is_no_verdict_where_the_environment_gives_none() -> None:
    digests = [
        EpisodeDigest(1.0, 1, 1, 1, 0, is_cut, 0.0 if is_cut else None, False)
        for is_cut in (True, False)
    ]
    assert equal_reward_kind(RemoteGroup(None, digests)) == "solved"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "settings",
    [
        {"solved_target": 1.5},
        {"hopeless_target": "0.1"},
        {"exploration": -0.1},
        {"step": None},
        {"least_chance": 0.0},
        {"exploration": 0.01},
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        Curriculum(**settings)


# Which problem a seed shows.


class FewEnv(SingleTurnEnv):
    """Six problems, of which the even ones reward nothing."""

    def __init__(self, size: int = 6) -> None:
        super().__init__()
        self.num_problems = size  # type: ignore[misc]

    num_problems = 6  # type: ignore[assignment]

    def _problem_at(self, index: int) -> Problem:
        return Problem(f"{index}+1=", str(index))

    def _grade(self, reply: str, answer: str) -> tuple[float, dict[str, Any]]:
        return float(int(answer) % 2 and sum(map(ord, reply)) % 2), {}


def test_equal_ids_are_equal_problems_in_every_epoch() -> None:
    env, ids = FewEnv(), ProblemIds(FewEnv, {})
    for seed in range(30):
        assert env.problem(seed).prompt == f"{ids(seed)}+1="
    assert not list(identity_problems(env, [env.problem(seed).prompt for seed in range(8)]))


NUMBERS = itertools.count()


class OwnEnv(gym.Env):
    """Has whatever `problem_id` it is given."""

    def __init__(self, problem_id: Callable[[int], Any] | None = None) -> None:
        if problem_id is not None:
            self.problem_id = problem_id


@pytest.mark.parametrize(
    ("problem_id", "words"),
    [
        (None, r"has no problem_id\(seed\).*def problem_id"),
        (lambda seed: None, "no problem that comes twice"),
        (lambda seed: 0.5, "must be an int or a str"),
        (lambda seed: 0, "equal ids must be one problem"),
        (lambda seed: 1 // 0, r"problem_id\(0\) raised ZeroDivisionError"),
        (lambda seed: next(NUMBERS), "seed alone must decide"),
    ],
)
def test_an_environment_that_cannot_tell_its_problems_apart_is_named(
    problem_id: Callable[[int], Any] | None, words: str
) -> None:
    found = list(identity_problems(OwnEnv(problem_id), [str(seed) for seed in range(8)]))
    with pytest.raises(ValueError, match=words):
        raise ValueError(*found)


def test_one_line_gives_an_own_environment_an_identity_also_under_wrappers() -> None:
    env = gym.wrappers.OrderEnforcing(OwnEnv(lambda seed: f"problem {seed % 3}"))
    assert not list(identity_problems(env, [str(seed % 3) for seed in range(8)]))


@pytest.mark.parametrize("num_digits", [2, 5])
def test_the_config_refuses_an_environment_whose_problems_never_come_twice(
    make_config: Callable[..., SFPOConfig], num_digits: int
) -> None:
    config = make_config(env_config={"num_digits": num_digits})
    config.training(curriculum=Curriculum())
    if num_digits == 2:
        config.validate()
    else:
        with pytest.raises(ValueError, match="no problem that comes twice"):
            config.validate()
    with pytest.raises(ValueError, match="curriculum=True: must be a Curriculum or None"):
        config.training(curriculum=True).validate()


def test_a_run_that_is_resumed_skips_what_the_whole_one_skips(
    make_config: Callable[..., SFPOConfig], running: Callable[[Any], SFPO], tmp_path: Path
) -> None:
    def build() -> SFPO:
        config = make_config(env=FewEnv).training(lr=1e-2, curriculum=Curriculum())
        return running(config.build_algo())

    whole, first, second = build(), build(), build()
    problems, results = train(whole, 8)
    train(first, 4)
    second.restore_from_path(first.save_to_path(tmp_path))
    problems_after, results_after = train(second, 4)
    assert problems_after == problems[4:]
    assert_equal_weights(second.get_module_weights(), whole.get_module_weights())
    numbers, numbers_after = (
        [result["env_runners"]["curriculum"] for result in those]
        for those in (results, results_after)
    )
    assert numbers_after == numbers[4:]
    skipped = sum(n["num_problems_skipped"]["hopeless"] for n in numbers)
    used = [seed for batch in problems for seed in batch]
    assert skipped > 0 and used[-1] - used[0] + 1 - len(used) == skipped + sum(
        n["num_problems_skipped"]["solved"] for n in numbers
    )
    env = FewEnv()
    even = [int(env.problem(seed).answer) % 2 == 0 for seed in used]
    assert sum(even) < len(used) / 2  # of each epoch they are half
