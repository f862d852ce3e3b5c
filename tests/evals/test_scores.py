import numpy as np
import pytest
from evaluations import make_reply

from sfpo_rllib.evals.scores import mean_over_tasks, score


def right(problem: int, sample: int) -> object:
    return make_reply(problem, sample, success=1.0, reward=1.0, answer="1", verdict="correct")


def same(one: str, other: str) -> bool:
    return one == other


def test_numbers_are_means_over_problems() -> None:
    replies = [
        right(0, 0),
        right(0, 1),
        right(1, 0),
        make_reply(1, 1),
        *(make_reply(2, i) for i in (0, 1)),
    ]
    scores = score(replies, 2, same=same)
    assert list(scores.numbers) == ["avg@2", "pass@1", "pass@2", "maj@2"]
    values = [number.value for number in scores.numbers.values()]
    assert values == pytest.approx([0.5, 0.5, 2 / 3, 0.5])  # a tie of two answers is half right
    assert scores.counts["verdicts"] == {"correct": 3, "wrong": 3}
    for number in scores.numbers.values():
        assert 0 <= number.low <= number.value <= number.high <= 1


def test_a_problem_without_all_its_replies_does_not_count() -> None:
    scores = score([right(0, 0), right(0, 1), make_reply(1, 0)], 2, same=same, num_dropped=3)
    assert scores.numbers["avg@2"].value == 1.0
    assert (scores.counts["num_problems"], scores.counts["num_incomplete"]) == (1, 1)
    assert scores.counts["num_dropped"] == 3


def test_without_a_verdict_there_is_the_reward_alone() -> None:
    scores = score([make_reply(i, success=None, reward=float(i)) for i in range(3)], 1, same=same)
    assert {name: number.value for name, number in scores.numbers.items()} == {"reward@1": 1.0}


def test_without_answers_there_is_no_vote() -> None:
    scores = score([make_reply(i, answer=None) for i in range(3)], 1, same=same)
    assert list(scores.numbers) == ["avg@1", "pass@1"]


def test_a_task_without_replies_has_no_numbers() -> None:
    scores = score([], 4, same=same, num_dropped=2)
    assert scores.numbers == {} and scores.counts["num_dropped"] == 2
    assert mean_over_tasks({"a": scores}) == {}


def test_the_mean_over_tasks_gives_each_one_weight_and_a_narrower_interval() -> None:
    rng = np.random.default_rng(0)
    sizes = {"small": 50, "large": 400}
    scores = {
        name: score(
            [right(i, 0) if rng.random() < 0.5 else make_reply(i) for i in range(size)],
            1,
            same=same,
            seed=place,
        )
        for place, (name, size) in enumerate(sizes.items())
    }
    mean = mean_over_tasks(scores)["avg@1"]
    values = [s.numbers["avg@1"].value for s in scores.values()]
    assert mean.value == pytest.approx(np.mean(values))
    error = (
        1.96
        * np.sqrt(sum(v * (1 - v) / n for v, n in zip(values, sizes.values(), strict=True)))
        / 2
    )
    assert mean.high - mean.low == pytest.approx(2 * error, rel=0.08)


@pytest.mark.parametrize("solved", [False, True])
def test_tasks_of_which_none_or_all_is_solved_leave_their_mean_as_uncertain(solved: bool) -> None:
    sizes = (4, 4, 30)
    scores = {
        str(place): score(
            [right(i, 0) if solved else make_reply(i) for i in range(size)],
            1,
            same=same,
            seed=place,
        )
        for place, size in enumerate(sizes)
    }
    mean = mean_over_tasks(scores)["avg@1"]
    assert mean.value == float(solved)
    ends = [(s.numbers["avg@1"].low, s.numbers["avg@1"].high) for s in scores.values()]
    (low, high), (widest, narrowest) = np.mean(ends, axis=0), (0.02, 0.98)
    if solved:
        assert mean.high == 1.0 and low < mean.low < narrowest
    else:
        assert mean.low == 0.0 and widest < mean.high < high
    one = mean_over_tasks({"0": scores["0"]})["avg@1"]
    own = scores["0"].numbers["avg@1"]
    assert (one.low, one.high) == pytest.approx((own.low, own.high), abs=0.02)


def test_a_task_of_which_none_is_solved_widens_the_mean_upwards_only() -> None:
    mixed = score(
        [right(i, 0) if i % 2 else make_reply(i) for i in range(100)], 1, same=same, seed=0
    )
    none = score([make_reply(i) for i in range(10)], 1, same=same, seed=1)
    mean = mean_over_tasks({"a": mixed, "b": none})["avg@1"]
    own = mixed.numbers["avg@1"]
    assert mean.low == pytest.approx(own.low / 2)
    assert mean.high > own.high / 2 + 0.02
