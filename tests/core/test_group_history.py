"""Groups are kept for so many batches, and drawn by priority."""

from collections import Counter

import pytest

from sfpo_rllib.core.update_rules.group_history import GroupHistory, GroupReplay

History = GroupHistory[str]


def filled(*, max_age: int = 2, exponent: float = 1.0, batches: int = 4) -> History:
    history: History = GroupHistory(GroupReplay(max_age, exponent))
    for batch in range(batches):
        history.add([(f"{batch}{name}", p) for name, p in zip("abc", (0.1, 0.0, 0.9), strict=True)])
    return history


@pytest.mark.parametrize("max_age", [0, 1, 2, 9])
def test_no_group_is_older_than_the_bound_and_none_without_a_gradient_is_kept(max_age: int) -> None:
    kept = filled(max_age=max_age).kept
    wanted = [f"{b}{n}" for b in range(4) if b >= 4 - max_age for n in "ac"]
    assert [k.group for k in kept] == wanted


def test_groups_are_drawn_without_replacement_in_proportion_to_their_priority() -> None:
    history = filled(max_age=1, batches=1)
    first = Counter(history.draw(1, nth)[0] for nth in range(4000))
    assert first["0c"] / 4000 == pytest.approx(0.9, abs=0.02)
    assert history.draw(2, 0) == history.draw(9, 1) == ["0a", "0c"]
    even = filled(max_age=1, batches=1, exponent=0.0)
    share = sum(even.draw(1, nth) == ["0c"] for nth in range(4000)) / 4000
    assert share == pytest.approx(0.5, abs=0.03)


def test_a_history_that_is_restored_draws_what_the_other_would_have() -> None:
    whole, other = filled(), filled(batches=0)
    other.restore(whole.state())
    for history in (whole, other):
        history.add([("new", 0.5)])
    draws = [[history.draw(2, nth) for nth in range(20)] for history in (whole, other)]
    assert draws[0] == draws[1] and len({tuple(draw) for draw in draws[0]}) > 1
