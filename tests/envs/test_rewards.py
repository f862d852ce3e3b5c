"""What a grade is worth, and what a long reply costs."""

import itertools
import math
import pickle

import gymnasium
import pytest
from sfpo_envs import ArithmeticEnv, Grade, Verdict
from sfpo_envs.rewards import REWARDS, Overlong, OverlongPenalty, make_overlong, make_reward


def paid(reward, verdict, reply=""):
    return make_reward(reward)(Grade(verdict), reply)


@pytest.mark.parametrize(
    ("name", "correct", "wrong", "otherwise"),
    [("correct", 1.0, 0.0, 0.0), ("official_repo", 1.0, 0.1, 0.0), ("dapo", 1.0, -1.0, -1.0)],
)
def test_presets(name, correct, wrong, otherwise):
    for verdict in Verdict:
        expected = {Verdict.CORRECT: correct, Verdict.WRONG: wrong}.get(verdict, otherwise)
        assert paid(name, verdict) == expected


def test_verdicts_by_name_and_0_where_none_is_given():
    reward = {"correct": 2, "no_answer": -0.5}
    worth = {verdict: paid(reward, verdict) for verdict in Verdict}
    assert worth == dict.fromkeys(Verdict, 0.0) | {Verdict.CORRECT: 2.0, Verdict.NO_ANSWER: -0.5}


def test_a_function_of_grade_and_reply():
    def brief(grade, reply):
        return (grade.verdict is Verdict.CORRECT) / (1 + len(reply))

    assert paid(brief, Verdict.CORRECT, "abc") == 0.25
    assert paid(brief, Verdict.WRONG, "abc") == 0.0


def test_presets_survive_pickling_and_cannot_be_changed_by_accident():
    reward = pickle.loads(pickle.dumps(make_reward("official_repo")))
    assert reward(Grade(Verdict.WRONG), "") == 0.1
    with pytest.raises(TypeError):
        REWARDS["correct"] = {}


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        ("oficial_repo", r"reward='oficial_repo': did you mean 'official_repo'\? must be one of"),
        ({"corect": 1}, r"reward: 'corect' is no verdict; did you mean 'correct'\?"),
        ({"correct": "1"}, r"reward=\{'correct': '1'\}: must be a finite number"),
        ({"wrong": math.nan}, r"reward=\{'wrong': nan\}: must be a finite number"),
        (1.0, "reward=1.0: must be a name, a dict of verdicts and numbers, or a function"),
    ],
)
def test_rewards_that_are_none_are_named(reward, message):
    with pytest.raises(ValueError, match=message):
        make_reward(reward)


def test_the_punishment_grows_evenly_over_the_buffer_and_no_further():
    overlong = Overlong(max_length=100, buffer=20, factor=0.5)
    assert [overlong.penalty(length) for length in (0, 79, 80)] == [0, 0, 0]
    assert overlong.penalty(90) == -0.25
    assert overlong.penalty(100) == overlong.penalty(10**9) == -0.5
    course = [overlong.penalty(length) for length in range(80, 101)]
    steps = [a - b for a, b in itertools.pairwise(course)]
    assert steps == pytest.approx([0.025] * 20)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 9}, "overlong=.*: must be a dict with max_length and buffer"),
        ([9, 1], "overlong=.*: must be a dict with max_length and buffer"),
        ({"max_length": 9, "buffer": 1, "bufer": 1}, r"overlong: bufer=1: .*mean 'buffer'\?"),
        ({"max_length": 0, "buffer": 1}, "overlong: max_length=0: must be a positive number"),
        ({"max_length": 9, "buffer": 10}, "overlong: buffer=10: must be positive and at most"),
        ({"max_length": 9, "buffer": 1, "factor": -1}, "overlong: factor=-1: must be"),
        ({"max_length": 9, "buffer": 1, "count": "len"}, "overlong: count='len': must be"),
    ],
)
def test_options_of_the_punishment_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        make_overlong(options)


class Counting(gymnasium.Wrapper):
    """Counts words, as another wrapper counts tokens."""

    def step(self, action):
        *rest, info = self.env.step(action)
        return *rest, {**info, "num_words": len(action.split())}


@pytest.mark.parametrize(
    ("count", "length"),
    [({}, 7), ({"count": lambda reply: 3 * len(reply)}, 21), ({"count_key": "num_words"}, 2)],
)
def test_the_wrapper_punishes_by_characters_by_a_count_or_by_a_number_in_the_info(count, length):
    bare = Counting(ArithmeticEnv())
    env = OverlongPenalty(bare, max_length=28, buffer=28, **count)
    env.reset(seed=0)
    _, reward, _, _, info = env.step("abc def")
    assert reward == info["metrics"]["overlong_penalty"] == -length / 28
    assert info["metrics"]["well_formed"] == 0.0
