import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluations import make_reply, write_run

from sfpo_rllib.comparison import compare
from sfpo_rllib.evals.replies import Reply
from sfpo_rllib.reporting import RunReport

LINE = list(np.linspace(0.2, 0.6, 41))
TWICE_AS_FAST = [*np.linspace(0.2, 0.6, 21), *[0.6] * 20]


def write_curve(
    folder: Path, accuracy: list[float], *, seed: int | None = 0, passes: int = 4, **given: Any
) -> Path:
    """A run of that held-out accuracy, with an evaluation before the first iteration."""
    write_run(folder, {"seed": seed, **given})
    report = RunReport(folder)
    losses = {f"pass_{k}": {"loss": 0.1} for k in range(passes)}
    for iteration, value in enumerate(accuracy):
        result: dict[str, Any] = {
            "training_iteration": iteration,
            "env_runners": {"num_rollouts_lifetime": 16 * iteration},
            "evaluation": {"env_runners": {"accuracy": value}},
        }
        if iteration:
            result["timers"] = {"sample": 1.0, "learn": 0.5, "sync_weights": 0.5}
            result["learners"] = {"default_policy": {"sfpo": losses}}
        report.add(result)
    report.close()
    return folder


def write_evaluation(folder: Path, replies: list[Reply], **settings: Any) -> Path:
    folder.mkdir(parents=True)
    lines = [json.dumps(asdict(reply)) + "\n" for reply in replies]
    (folder / "replies.jsonl").write_text("".join(lines))
    (folder / "evaluation.json").write_text(json.dumps({"settings": settings}))
    return folder


def test_a_run_twice_as_fast_needs_half_of_everything(tmp_path: Path) -> None:
    slow = write_curve(tmp_path / "slow", LINE)
    fast = write_curve(tmp_path / "fast", TWICE_AS_FAST)
    result = compare(slow, fast, target=0.5, plot=tmp_path / "plot.png")
    costs = result.numbers["to_target"]
    for cost, spent in (("rollouts", 16 * 30), ("seconds", 2 * 30), ("passes", 4 * 30)):
        assert costs[cost]["first"] == pytest.approx(spent)
        assert costs[cost]["ratio"]["value"] == pytest.approx(0.5)
    assert result.names == ("slow", "fast")
    assert result.numbers["measure"] == "held-out"
    assert result.numbers["final_accuracy"]["difference"]["value"] == pytest.approx(0.005)
    assert result.numbers["final_accuracy"]["difference"]["p_value"] is None  # one seed
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    json.dumps(result.as_json(), allow_nan=False)


def test_without_a_target_it_is_what_both_reach(tmp_path: Path) -> None:
    low = write_curve(tmp_path / "low", [0.2, 0.3, 0.4, 0.4, 0.4, 0.4])
    high = write_curve(tmp_path / "high", [0.2, 0.4, 0.6, 0.6, 0.6, 0.6])
    numbers = compare(low, high).numbers
    assert numbers["targets"] == [pytest.approx(0.4)] and numbers["num_reached"] == [1, 1]


def test_who_never_gets_there_has_no_cost(tmp_path: Path) -> None:
    low = write_curve(tmp_path / "low", [0.2, 0.3, 0.3, 0.3])
    high = write_curve(tmp_path / "high", LINE)
    numbers = compare(low, high, target=0.5).numbers
    assert numbers["num_reached"] == [0, 1] and numbers["to_target"]["rollouts"] is None


def test_runs_are_paired_by_seed(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for seed in (1, 2, 3, 4):
        noise = rng.normal(0, 0.1)  # of the seed, and so of both
        write_curve(tmp_path / "a" / f"s{seed}", [x + noise for x in LINE], seed=seed)
        if seed < 4:
            faster = [x + noise + 0.05 + 0.001 * seed for x in LINE]
            write_curve(tmp_path / "b" / f"run_{4 - seed}", faster, seed=seed)
    result = compare(tmp_path / "a", tmp_path / "b", plot=tmp_path / "plot.png")
    assert result.numbers["seeds"] == [1, 2, 3] and result.numbers["num_unpaired"] == 1
    best = result.numbers["best_accuracy"]["difference"]
    assert best["value"] == pytest.approx(0.052) and best["p_value"] < 0.001
    assert best["interval"][0] < 0.052 < best["interval"][1] < 0.06
    assert result.numbers["to_target"]["rollouts"]["ratio"]["interval"][1] < 1
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_a_trial_of_tunes_is_a_run(tmp_path: Path) -> None:
    trial = tmp_path / "trial"
    trial.mkdir()
    (trial / "params.json").write_text(json.dumps({"seed": 0}))
    lines = []
    for iteration in (1, 2, 3, 2, 3, 4):  # it went on from a checkpoint
        result = {
            "training_iteration": iteration,
            "env_runners": {"num_rollouts_lifetime": 8 * iteration, "accuracy": 0.1 * iteration},
            "timers": {"sample": 1, "learn": 1, "sync_weights": 0},
            "learners": {"default_policy": {"sfpo": {"pass_0": {"loss": 1.0}}}},
            "config": {"env_runners": {"accuracy": 7}},
        }
        lines.append(json.dumps(result) + "\n")
    (trial / "result.json").write_text("".join(lines) + '{"cut')
    numbers = compare(trial, trial, target=0.2).numbers
    assert numbers["measure"] == "batches"
    assert numbers["to_target"]["passes"]["first"] == 2.0
    assert numbers["to_target"]["seconds"]["ratio"]["value"] == 1.0


def test_what_some_iteration_does_not_say_is_no_cost(tmp_path: Path) -> None:
    old = write_curve(tmp_path / "old", LINE, passes=0)
    new = write_curve(tmp_path / "new", LINE)
    costs = compare(old, new).numbers["to_target"]
    assert costs["passes"] is None and costs["rollouts"]["ratio"]["value"] == 1.0


def test_evaluations_are_paired_by_problem(tmp_path: Path) -> None:
    def replies(task: str, num_right: int, num: int = 40) -> list[Reply]:
        return [
            make_reply(p, s, task=task, success=float(p < num_right), gold=str(p))
            for p in range(num)
            for s in range(2)
        ]

    first = write_evaluation(tmp_path / "first", [*replies("t", 10), *replies("u", 10)], seed=0)
    second = write_evaluation(
        tmp_path / "second", [*replies("t", 20, 50), *replies("u", 10), *replies("v", 1)], seed=1
    )
    result = compare(first, second, plot=tmp_path / "plot.png")
    assert list(result.numbers["tasks"]) == ["t", "u"]
    found = result.numbers["tasks"]["t"]
    assert (found["first"], found["second"]) == (0.25, 0.5)
    assert found["num_better"] == [0, 10] and found["num_equal"] == 30
    assert found["num_unpaired"] == 10
    assert found["difference"]["p_value"] < 0.005 and found["difference"]["interval"][0] > 0.1
    assert result.numbers["tasks"]["u"]["difference"]["p_value"] == 1.0
    assert result.numbers["mean"]["difference"]["value"] == pytest.approx(0.125)
    assert result.numbers["differing_settings"] == {"seed": [0, 1]}
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_evaluations_on_other_data_are_not_compared(tmp_path: Path) -> None:
    first = write_evaluation(tmp_path / "first", [make_reply(0, gold="1")])
    second = write_evaluation(tmp_path / "second", [make_reply(0, gold="2")])
    with pytest.raises(ValueError, match="problem 0 of t is not the same one in both"):
        compare(first, second)
    other = write_evaluation(tmp_path / "other", [make_reply(0, task="u")])
    with pytest.raises(ValueError, match=r"no problem is in both evaluations: .* has t, .* has u"):
        compare(first, other)


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    run = write_curve(tmp_path / "run", LINE)
    evaluation = write_evaluation(tmp_path / "several" / "one", [make_reply(0)])
    twice = tmp_path / "twice"
    for name in ("x", "y"):
        write_curve(twice / name, LINE, seed=3)
    others = tmp_path / "others"
    for seed in (5, 6):
        write_curve(others / str(seed), LINE, seed=seed)
    short = write_curve(tmp_path / "short", [0.1])
    for pair, why in (
        ((run, tmp_path / "missing"), "there is no such folder"),
        ((run, evaluation), "must be of one kind"),
        ((run, tmp_path / "several"), "has the evaluations of several models; name one of one"),
        ((run, twice), "has the seed 3, as x has"),
        ((run, others), "no seed is on both sides: [0] and [5, 6]"),
        ((run, tmp_path), "has measured no accuracy twice yet"),
        ((run, short), "has measured no accuracy twice yet"),
        ((run, evaluation / "nothing"), "there is no such folder"),
    ):
        with pytest.raises(ValueError) as raised:
            compare(*pair)
        assert why in str(raised.value), str(raised.value)
    with pytest.raises(ValueError, match="target=2: must be an accuracy"):
        compare(run, run, target=2)
    with pytest.raises(ValueError, match="must be left out with evaluations"):
        compare(evaluation, evaluation, target=0.5)


def test_a_few_evaluations_are_taken_as_they_are(tmp_path: Path) -> None:
    few = write_curve(tmp_path / "few", [0.2, 0.3, 0.5])
    many = write_curve(tmp_path / "many", [0.2, *[0.3] * 9, 0.5])
    numbers = compare(few, many).numbers["final_accuracy"]
    assert (numbers["first"], numbers["second"]) == (0.5, pytest.approx(0.4))
