"""An update rule over many batches: its trigger, its history, its state."""

import json
import math
from typing import Any

import pytest
import torch

from sfpo_rllib.core import (
    EntropyTrigger,
    Extrapolated,
    Lookahead,
    MultiEpoch,
    Single,
    SlowFast,
    SlowFastReplay,
    UpdateContext,
    Updater,
    UpdateRule,
)

AnyUpdater = Updater[Any, Any]

AT_ONCE = -math.inf  # fires as soon as its window is full


class Passes:
    """Passes that note their batches and move a parameter."""

    def __init__(self) -> None:
        self.batches: list[Any] = []
        self.param = torch.zeros(2)

    def __call__(self, batch: Any) -> str:
        self.batches.append(batch)
        self.param.add_(1.0)
        return f"over {batch}"

    def update(self, updater: AnyUpdater, batch: Any) -> tuple[list[Any], dict[str, float]]:
        """The batches that the update passed over, and its metrics."""
        self.batches.clear()
        results, metrics = updater.update(batch, self, parameters=[self.param], optimizers=[])
        assert results == [f"over {batch}" for batch in self.batches]
        return list(self.batches), metrics


class Growing(UpdateRule):
    """One pass more in each update: a rule with a state."""

    metric_names = ("num_updates", "never_set")

    def __init__(self) -> None:
        self.num_updates = 0

    def update(self, ctx: UpdateContext) -> list[Any]:
        self.num_updates += 1
        ctx.metrics["num_updates"] = float(self.num_updates)
        ctx.metrics["of_its_own"] = 7.0
        return [ctx.run_pass() for _ in range(self.num_updates)]

    def state_dict(self) -> dict[str, Any]:
        return {"num_updates": self.num_updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.num_updates = state["num_updates"]


@pytest.mark.parametrize(
    ("rule", "num_passes"),
    [(MultiEpoch(3), 3), (SlowFast(2), 3), (Extrapolated(9), 3)],
    ids=str,
)
def test_a_fired_trigger_leaves_one_pass_for_good(rule: UpdateRule, num_passes: int) -> None:
    updater, passes = AnyUpdater(rule, EntropyTrigger(window=3, threshold=AT_ONCE)), Passes()
    for batch in range(6):
        fired = batch >= 3
        assert updater.fired == fired
        assert updater.active_rule == (Single() if fired else rule)
        walked, metrics = passes.update(updater, batch)
        assert walked == [batch] * (1 if fired else num_passes)
        assert metrics.keys() == {"active", *rule.metric_names}
        if fired:
            assert not any(metrics.values())
        else:
            assert all(metrics.values())
        updater.observe(1.0)


def test_a_fired_trigger_drops_the_history() -> None:
    rule = SlowFastReplay(fast_steps=1, num_batches=3)
    updater, passes = AnyUpdater(rule, EntropyTrigger(window=2, threshold=AT_ONCE)), Passes()
    expected = [([0, 0], [0]), ([0, 1, 1], [0, 1]), ([2], []), ([3], [])]
    for batch, (walked, recent) in enumerate(expected):
        assert passes.update(updater, batch)[0] == walked
        assert updater.recent == recent
        updater.observe(1.0)


class Pairs:
    """A batch n is of the groups na and nb, of which nb has a gradient in even batches alone."""

    count = 2

    def split(self, batch: Any) -> list[tuple[str, float]]:
        return [(f"{batch}a", 1.0), (f"{batch}b", 0.5 * (batch % 2 == 0))]

    def join(self, groups: Any, like: Any) -> str:
        return "+".join(groups)


def walk_by_group(updater: AnyUpdater, batches: Any) -> list[list[Any]]:
    """The batches that each update passes over."""
    walks = []
    for batch in batches:
        passes = Passes()
        updater.update(batch, passes, parameters=[passes.param], optimizers=[], groups=Pairs())
        walks.append(passes.batches)
    return walks


def test_a_replay_of_groups_walks_draws_of_young_groups_that_have_a_gradient() -> None:
    updater = AnyUpdater(SlowFastReplay(1, num_batches=3, by="group", max_age=2))
    walks = walk_by_group(updater, range(5))
    assert walks[0] == [0, 0]
    assert walks[1] == ["0a+0b"] * 2 + [1, 1]  # there are no others
    for batch, walk in enumerate(walks[2:], start=2):
        *draws, new, slow = walk
        young = {f"{batch - 1}a", f"{batch - 2}a", f"{(batch - 1) // 2 * 2}b"}
        assert new == slow == batch and len(draws) == 2
        assert all(set(draw.split("+")) < young for draw in draws)


def test_a_replay_of_groups_goes_on_from_its_history_and_loses_it_with_the_rule() -> None:
    rule = SlowFastReplay(1, num_batches=4, by="group")
    whole, other = AnyUpdater(rule), AnyUpdater(rule)
    walk_by_group(whole, range(4))
    other.recent = whole.recent
    assert walk_by_group(other, range(4, 8)) == walk_by_group(whole, range(4, 8))
    other.recent = []
    assert walk_by_group(other, [8]) == [[8, 8]]
    by_batch = AnyUpdater(SlowFastReplay(1, num_batches=4))
    by_batch.recent = whole.recent  # of another rule: nothing can be made of it
    assert by_batch.recent == []
    fired = AnyUpdater(rule, EntropyTrigger(window=2, threshold=AT_ONCE))
    for batch in range(2):
        walk_by_group(fired, [batch])
        fired.observe(1.0)
    assert walk_by_group(fired, [2]) == [[2]] and not fired.recent[0]["kept"]


def test_a_learner_that_knows_no_groups_refuses_a_replay_of_them() -> None:
    with pytest.raises(ValueError, match="knows of no groups"):
        Passes().update(AnyUpdater(SlowFastReplay(by="group")), 0)


def test_it_is_said_once_that_the_trigger_has_fired(caplog: pytest.LogCaptureFixture) -> None:
    updater = AnyUpdater(SlowFast(fast_steps=2), EntropyTrigger(window=2, threshold=AT_ONCE))
    said = []
    for entropy in (1.0, 2.0, 3.0):
        updater.observe(entropy)
        said.append(caplog.text.count("The entropy trigger has fired, at z = 1.00"))
    assert said == [0, 1, 1] and "instead of SlowFast(fast_steps=2" in caplog.text


def test_without_a_trigger_it_never_fires() -> None:
    updater, passes = AnyUpdater(MultiEpoch(2)), Passes()
    for batch in range(40):
        assert passes.update(updater, batch)[0] == [batch] * 2
        assert math.isnan(updater.observe(1.0 + batch))
        assert not updater.fired


def test_observing_returns_the_z_score_once_there_is_one() -> None:
    updater = AnyUpdater(Single(), EntropyTrigger(window=2, threshold=5.0))
    assert math.isnan(updater.observe(1.0))
    assert updater.observe(3.0) == pytest.approx(1.0)  # (3 - 2) / 1
    assert updater.observe(1.0) == pytest.approx(-1.0)


@pytest.mark.parametrize("entropy", [math.nan, math.inf, -math.inf])
def test_an_entropy_that_is_not_finite_tells_the_trigger_nothing(entropy: float) -> None:
    updater = AnyUpdater(Single(), EntropyTrigger(window=2, threshold=-10.0))
    assert math.isnan(updater.observe(1.0))
    assert math.isnan(updater.observe(entropy))
    assert not updater.fired
    assert math.isfinite(updater.observe(2.0))
    assert updater.fired


def test_one_pass_is_not_active_and_has_no_metrics() -> None:
    assert Passes().update(AnyUpdater(Single()), 0)[1] == {"active": 0.0}


class Halving(UpdateRule):
    """One pass, and a rule that moves the parameters itself, before it or after."""

    def __init__(self, *, first: bool) -> None:
        self.first = first

    def update(self, ctx: UpdateContext) -> list[Any]:
        results = [] if self.first else [ctx.run_pass()]
        for param in ctx.parameters:
            param.mul_(0.5)
        return results or [ctx.run_pass()]


@pytest.mark.parametrize(
    "rule",
    [Lookahead(fast_steps=1, alpha=0.3), Halving(first=True), Halving(first=False)],
    ids=["lookahead", "before its pass", "after its pass"],
)
def test_a_rule_that_moves_the_parameters_is_active_with_one_pass_until_the_trigger_fires(
    rule: UpdateRule,
) -> None:
    updater, passes = AnyUpdater(rule, EntropyTrigger(window=2, threshold=AT_ONCE)), Passes()
    active = []
    for batch in range(4):
        walked, metrics = passes.update(updater, batch)
        assert walked == [batch]
        active.append(metrics["active"])
        updater.observe(1.0)
    assert active == [1, 1, 0, 0]


@pytest.mark.parametrize("rule", [SlowFast(alpha=0.0), MultiEpoch(1)], ids=str)
def test_a_rule_that_is_the_plain_algorithm_is_not_active(rule: UpdateRule) -> None:
    assert Passes().update(AnyUpdater(rule), 0)[1]["active"] == 0


def test_metrics_that_a_rule_does_not_set_are_zero() -> None:
    expected = {"active": 0.0, "num_updates": 1.0, "never_set": 0.0, "of_its_own": 7.0}
    assert Passes().update(AnyUpdater(Growing()), 0)[1] == expected


# History.


@pytest.mark.parametrize("history", [0, 1, 3])
def test_keeps_as_many_batches_as_the_rule_wants_oldest_first(history: int) -> None:
    class Remembering(Single):
        seen: tuple[int, ...] = ()

        def update(self, ctx: UpdateContext) -> list[Any]:
            type(self).seen = tuple(ctx.recent)
            return [ctx.run_pass()]

    Remembering.history = history
    updater, passes = AnyUpdater(Remembering()), Passes()
    for batch in range(6):
        kept = list(range(6))[max(batch - history, 0) : batch]
        assert updater.recent == kept
        passes.update(updater, batch)
        assert Remembering.seen == tuple(kept)


def test_what_is_put_in_is_bounded_too_and_keeps_the_newest() -> None:
    updater, passes = AnyUpdater(SlowFastReplay(1, num_batches=3)), Passes()
    updater.recent = [5, 6, 7, 8]
    assert updater.recent == [7, 8]
    assert passes.update(updater, 9)[0] == [7, 8, 9, 9]
    assert updater.recent == [8, 9]


def test_what_it_returns_is_a_copy() -> None:
    updater = AnyUpdater(SlowFastReplay(num_batches=3))
    updater.recent = [1]
    updater.recent.append(2)
    assert updater.recent == [1]


def test_a_batch_whose_update_raised_is_not_kept() -> None:
    def refuse(batch: int) -> None:
        raise RuntimeError("no")

    updater = AnyUpdater(SlowFastReplay(num_batches=3))
    updater.recent = [1]
    with pytest.raises(RuntimeError, match="no"):
        updater.update(2, refuse, parameters=[torch.zeros(1)], optimizers=[])
    assert updater.recent == [1]


# State.


@pytest.mark.parametrize("saved_after", [1, 2, 4])
def test_goes_on_from_its_state_as_if_nothing_had_happened(saved_after: int) -> None:
    def made() -> AnyUpdater:
        return AnyUpdater(Growing(), EntropyTrigger(window=3, threshold=0.5))

    def go_on(updater: AnyUpdater, entropies: list[float]) -> list[Any]:
        passes = Passes()
        return [
            (passes.update(updater, 0), repr(updater.observe(entropy)), updater.fired)
            for entropy in entropies
        ]

    entropies = [1.0, 1.0, 0.5, 2.0, 1.0, 1.0]
    whole, first, second = made(), made(), made()
    expected = go_on(whole, entropies)
    assert [fired for *_, fired in expected] == [False] * 3 + [True] * 3
    actual = go_on(first, entropies[:saved_after])
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert actual + go_on(second, entropies[saved_after:]) == expected
    assert second.state_dict() == whole.state_dict()


@pytest.mark.parametrize("state", [{}, {"rule": {}}, {"rule": {}, "optimizer_steps": 3}])
def test_what_a_state_lacks_stays_as_it_is(state: dict[str, Any]) -> None:
    updater = AnyUpdater(Growing(), EntropyTrigger(window=2))
    Passes().update(updater, 0)
    updater.observe(1.0)
    before = updater.state_dict()
    updater.load_state_dict(state)
    assert updater.state_dict() == before
    assert before["rule"] == {"num_updates": 1}
    assert before["trigger"]["entropies"] == [1.0]


def test_a_state_with_a_trigger_suits_an_updater_without() -> None:
    with_trigger, without = AnyUpdater(Growing(), EntropyTrigger(window=2)), AnyUpdater(Growing())
    Passes().update(with_trigger, 0)
    with_trigger.observe(1.0)
    without.load_state_dict(with_trigger.state_dict())
    assert without.state_dict() == {"rule": {"num_updates": 1}}


def test_the_history_is_no_part_of_the_state() -> None:
    updater, passes = AnyUpdater(SlowFastReplay(num_batches=3)), Passes()
    passes.update(updater, "a batch")
    assert updater.state_dict() == {"rule": {}}
