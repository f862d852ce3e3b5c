"""Fast and slow passes in mini-batches of their own: what rules ask their passes for."""

import math
from typing import Any

import pytest
import torch

from sfpo_rllib.core import (
    EntropyTrigger,
    Extrapolated,
    Lookahead,
    SlowFast,
    SlowFastESS,
    SlowFastReplay,
    Updater,
    UpdateRule,
    make_update_rule,
)

FAST, SLOW = {"num_minibatches": 8}, {"num_minibatches": 1}
CUT: dict[str, Any] = {"fast_minibatches": 8, "slow_minibatches": 1}


def half(turn: int) -> dict[str, Any]:
    return {"fraction": 0.5, "turn": turn}


class Passes:
    """Passes that note what they were asked for, and move a parameter."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, dict[str, Any]]] = []
        self.param = torch.zeros(2)

    def __call__(self, batch: Any, **cut: Any) -> dict[str, float]:
        self.asked.append((batch, cut))
        self.param.add_(1.0)
        return {"engine_ess": 1.0}

    def update(self, rule: UpdateRule, *batches: Any) -> list[tuple[Any, dict[str, Any]]]:
        """What the passes of the last batch were asked for."""
        updater = Updater[Any, Any](rule)
        for batch in batches:
            self.asked.clear()
            updater.update(batch, self, parameters=[self.param], optimizers=[])
        return self.asked


@pytest.mark.parametrize(
    ("rule", "cuts"),
    [
        (SlowFast(2, 0.3), [{}] * 3),
        (SlowFast(2, 0.3, fast_minibatches=8), [FAST, FAST, {}]),
        (SlowFast(2, 0.3, slow_minibatches=1), [{}, {}, SLOW]),
        (SlowFast(2, 0.3, **CUT), [FAST, FAST, SLOW]),
        (SlowFast(3, 0.3, fast_fraction=0.5), [half(0), half(1), half(2), {}]),
        (SlowFast(1, 0.3, **CUT, fast_fraction=0.5), [FAST | half(0), SLOW]),
        (SlowFast(2, 0.0, **CUT), [SLOW]),
        (SlowFast(1, 1.0, **CUT), [FAST, SLOW]),
        (SlowFastESS(2, 0.3, **CUT), [FAST, FAST, SLOW]),
        (
            Lookahead(2, 0.3, fast_minibatches=8, fast_fraction=0.5),
            [FAST | half(0), FAST | half(1)],
        ),
        # Its two steps are compared, so they are over the same groups.
        (Extrapolated(4, 0.3, **CUT, fast_fraction=0.5), [FAST | half(0), FAST | half(0), SLOW]),
    ],
    ids=str,
)
def test_each_pass_is_cut_as_the_rule_was_told(rule: UpdateRule, cuts: list[Any]) -> None:
    assert Passes().update(rule, "new") == [("new", cut) for cut in cuts]


def test_passes_over_earlier_batches_are_fast_ones() -> None:
    rule = SlowFastReplay(1, 0.3, num_batches=3, **CUT, fast_fraction=0.5)
    assert Passes().update(rule, "a", "b", "c") == [
        ("a", FAST | half(0)),
        ("b", FAST | half(1)),
        ("c", FAST | half(2)),
        ("c", SLOW),
    ]


def test_once_the_trigger_has_fired_the_pass_is_the_configs() -> None:
    updater = Updater[Any, Any](SlowFast(1, **CUT), EntropyTrigger(2, -math.inf))
    passes = Passes()
    for _ in range(3):
        passes.asked.clear()
        updater.update("new", passes, parameters=[passes.param], optimizers=[])
        updater.observe(1.0)
    assert passes.asked == [("new", {})]


@pytest.mark.parametrize("name", ["slow_fast", "lookahead", "extrapolated", "slow_fast_replay"])
@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("fast_minibatches", (0, -1, 2.0, True, "4")),
        ("slow_minibatches", (0, -1, 2.0, True, "4")),
        ("fast_fraction", (0.0, -0.5, 1.5, math.nan, None, "half", True)),
    ],
)
def test_what_is_no_number_of_mini_batches_or_share_is_refused_by_name(
    name: str, field: str, values: tuple[Any, ...]
) -> None:
    if (name, field) == ("lookahead", "slow_minibatches"):
        with pytest.raises(ValueError, match=r"^slow_minibatches=1: 'lookahead' has only \["):
            make_update_rule(name, slow_minibatches=1)
        return
    for value in values:
        with pytest.raises(ValueError) as caught:
            make_update_rule(name, **{field: value})
        assert str(caught.value).startswith(f"{field}={value!r}: must be ")


def test_a_rule_shows_and_names_what_is_set() -> None:
    assert repr(SlowFast(1, 0.3)) == "SlowFast(fast_steps=1, alpha=0.3)"
    assert SlowFast(1, 0.3).pass_settings == {}
    rule = SlowFast(1, 0.3, fast_minibatches=8, fast_fraction=0.5)
    assert repr(rule) == "SlowFast(fast_steps=1, alpha=0.3, fast_minibatches=8, fast_fraction=0.5)"
    assert rule.pass_settings == {"fast_minibatches": 8, "fast_fraction": 0.5}
    assert eval(repr(rule)) == rule != SlowFast(1, 0.3)
