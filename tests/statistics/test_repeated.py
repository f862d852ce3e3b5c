from itertools import combinations

import pytest

from sfpo_rllib.statistics import majority_share, pass_at_k, powers_of_two


@pytest.mark.parametrize("num_correct", range(6))
@pytest.mark.parametrize("k", range(1, 6))
def test_pass_at_k_is_the_share_of_sets_with_a_right_one(num_correct: int, k: int) -> None:
    sets = list(combinations(range(5), k))
    share = sum(min(drawn) < num_correct for drawn in sets) / len(sets)
    assert pass_at_k(num_correct, 5, k) == pytest.approx(share)


def test_ks_are_powers_of_two_and_all() -> None:
    assert [powers_of_two(n) for n in (1, 2, 6, 8)] == [[1], [1, 2], [1, 2, 4, 6], [1, 2, 4, 8]]


def same(one: str, other: str) -> bool:
    return float(one) == float(other)


@pytest.mark.parametrize(
    ("answers", "num_right", "share"),
    [
        (["1", "1", "2", "3"], 2, 1.0),
        (["1", "2", "2.0", "2.00"], 1, 0.0),  # one answer in three spellings
        (["1", "1.0", "2", "2.0"], 2, 0.5),
        (["1", "2", "3", "4"], 1, 0.25),
        (["1", "2", "3", None], 1, 1 / 3),
        (["1", None, None, None], 1, 1.0),  # who has no answer does not vote
        ([None, None], 0, 0.0),
        (["2", "3"], 0, 0.0),
    ],
)
def test_the_majority_is_over_answers_not_over_spellings(
    answers: list[str | None], num_right: int, share: float
) -> None:
    right = [place < num_right for place in range(len(answers))]
    assert majority_share(answers, right, same) == pytest.approx(share)


def test_answers_are_compared_only_where_that_decides_the_vote() -> None:
    def refuse(one: str, other: str) -> bool:
        raise AssertionError("compared")

    assert majority_share(["1", "1", "1", "2", "3"], [True] * 3 + [False] * 2, refuse) == 1.0
    assert majority_share(["2", "3", "4"], [False] * 3, refuse) == 0.0
