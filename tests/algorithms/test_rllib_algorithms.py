"""The slow-fast update over RLlib's own algorithms: each trains by K + 1 passes, or is refused."""

import math
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")

import gymnasium as gym
import pyarrow.parquet
from probes import greatest_difference
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.offline.offline_data import OfflineData
from ray.rllib.utils.metrics import ALL_MODULES, TD_ERROR_KEY
from ray.rllib.utils.replay_buffers import PrioritizedEpisodeReplayBuffer
from rllib_algorithms import OFFLINE, ONLINE, Recorded, make_config, transitions

from sfpo_rllib import with_sfpo
from sfpo_rllib.algorithms.with_update_rule import UpdateRuleLearnerMixin
from sfpo_rllib.algorithms.with_update_rule.rewindable_metrics import RewindableMetrics

Running = Callable[[Algorithm], Algorithm]

FAST_STEPS = 2


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Updates and the passes in them, as they begin."""
    made: list[str] = []

    def spied(owner: type, event: str) -> None:
        plain = owner._update

        def recorded(learner: TorchLearner, *args: Any, **kwargs: Any) -> Any:
            made.append(event)
            return plain(learner, *args, **kwargs)

        monkeypatch.setattr(owner, "_update", recorded)

    spied(TorchLearner, "pass")
    spied(UpdateRuleLearnerMixin, "update")
    return made


def train_until_updated(algo: Algorithm, calls: list[str]) -> dict[str, Any]:
    """An iteration that learns; those of IMPALA and APPO may be over before a batch is whole."""
    before = len(calls)
    for _ in range(50):
        result = algo.train()
        if len(calls) > before and ALL_MODULES in result.get("learners", {}):
            return result
    raise AssertionError("no update in 50 iterations")


CASES = [
    *((name, 1, None) for name in [*ONLINE, *OFFLINE]),
    *((name, 2, None if name == "dqn" else 50) for name in ONLINE),
    *((name, 1, 50) for name in OFFLINE),
]


@pytest.mark.parametrize(("name", "num_agents", "window"), CASES, ids=str)
def test_an_algorithm_trains_two_iterations_of_k_fast_passes_and_a_slow_one(
    running: Running, calls: list[str], name: str, num_agents: int, window: int | None
) -> None:
    config = with_sfpo(
        make_config(name, num_agents=num_agents),
        fast_steps=FAST_STEPS,
        entropy_window=window,
        entropy_z_threshold=5.0,  # not within two iterations
    )
    algo = running(config.build_algo())
    for _ in range(2):
        calls.clear()
        result = train_until_updated(algo, calls)
        assert calls == ["update", *["pass"] * (FAST_STEPS + 1)] * calls.count("update")
        learned = result["learners"]
        assert len(learned.keys() - {ALL_MODULES}) == num_agents
        measured = learned[ALL_MODULES]["sfpo"]
        assert measured["active"] == 1
        assert measured["displacement_norm"] > 0
        assert ("entropy" in measured) == (window is not None)
        assert math.isfinite(measured.get("entropy", 0.0))


def test_a_recurrent_policy_trains_and_tells_the_trigger(
    running: Running, calls: list[str]
) -> None:
    model = {"use_lstm": True, "max_seq_len": 4, "lstm_cell_size": 8, "fcnet_hiddens": [8]}
    config = make_config("ppo").rl_module(model_config=model)
    algo = running(with_sfpo(config, entropy_window=50).build_algo())
    measured = train_until_updated(algo, calls)["learners"][ALL_MODULES]["sfpo"]
    assert measured["displacement_norm"] > 0
    assert 0 < measured["entropy"] < math.log(2) + 1e-6  # of two actions, padding left out


def test_a_module_that_is_not_to_be_trained_stays_as_it_is(
    running: Running, calls: list[str]
) -> None:
    config = make_config("ppo", num_agents=2).multi_agent(policies_to_train=["p0"])
    algo = running(with_sfpo(config, entropy_window=50).build_algo())
    before = {name: weights_of(algo, name) for name in ("p0", "p1")}
    learned = train_until_updated(algo, calls)["learners"]
    assert learned[ALL_MODULES]["sfpo"]["displacement_norm"] > 0
    assert greatest_difference(before["p1"], weights_of(algo, "p1")) == 0
    assert greatest_difference(before["p0"], weights_of(algo, "p0")) > 0


def weights_of(algo: Algorithm, module_id: str) -> dict[str, Any]:
    module = algo.learner_group._learner.module[module_id].unwrapped()
    return {name: weight.clone() for name, weight in module.state_dict().items()}


# Once an update, whatever the number of passes.


def learned_over(config: AlgorithmConfig, running: Running, calls: list[str]) -> dict[str, Any]:
    """What the learner reports of one iteration, with its number of gradient steps."""
    algo = running(config.build_algo())
    calls.clear()
    learned = train_until_updated(algo, calls)["learners"]
    return learned | {"updates": calls.count("update") or calls.count("pass")}


COUNTERS = {
    DEFAULT_MODULE_ID: {
        "num_target_updates",
        "last_target_update_ts",
        "weights_seq_no",
        "num_module_steps_trained",
        "num_module_steps_trained_lifetime",
        "default_optimizer_learning_rate",
        "qf_learning_rate",
        "policy_learning_rate",
    },
    ALL_MODULES: {"training_iteration", "num_env_steps_trained", "num_env_steps_trained_lifetime"},
}


@pytest.mark.parametrize(
    ("name", "training", "own"),
    [
        ("dqn", {"lr": [[0, 0.1], [1000, 0.0]]}, "num_target_updates"),
        ("sac", {"critic_lr": [[0, 0.1], [1000, 0.0]]}, "num_target_updates"),
        ("cql", {}, "training_iteration"),
    ],
)
def test_counters_target_networks_and_schedules_go_as_in_the_plain_algorithm(
    running: Running, calls: list[str], name: str, training: dict[str, Any], own: str
) -> None:
    plain, wrapped = (
        learned_over(wrap(make_config(name).training(**training)), running, calls)
        for wrap in (lambda config: config, with_sfpo)
    )
    assert wrapped["updates"] == plain["updates"] > 0
    compared = set()
    for module_id, names in COUNTERS.items():
        for counter in names & plain[module_id].keys():
            assert wrapped[module_id][counter] == plain[module_id][counter], counter
            compared.add(counter)
    assert own in compared
    assert {"num_module_steps_trained"} <= compared


@pytest.mark.parametrize("name", ["dqn", "sac"])
def test_priorities_are_the_td_errors_of_the_last_pass(
    running: Running, calls: list[str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = with_sfpo(make_config(name), fast_steps=FAST_STEPS)
    measured: list[list[float]] = []
    given: list[list[float]] = []
    log_value = RewindableMetrics.log_value
    update_priorities = PrioritizedEpisodeReplayBuffer.update_priorities

    def measure(metrics: RewindableMetrics, key: Any, value: Any, **kwargs: Any) -> None:
        if TD_ERROR_KEY in key:
            measured.append(value.tolist())
        log_value(metrics, key, value, **kwargs)

    def take(buffer: Any, priorities: Any, *args: Any) -> None:
        given.append(priorities.tolist())
        update_priorities(buffer, priorities, *args)

    monkeypatch.setattr(RewindableMetrics, "log_value", measure)
    monkeypatch.setattr(PrioritizedEpisodeReplayBuffer, "update_priorities", take)
    train_until_updated(running(config.build_algo()), calls)
    assert len(given) == calls.count("update") > 0
    assert len(measured) == (FAST_STEPS + 1) * len(given)
    assert given == measured[FAST_STEPS :: FAST_STEPS + 1]
    assert given != measured[:: FAST_STEPS + 1][: len(given)]


def test_marwils_moving_average_moves_once_an_update() -> None:
    start, rate = 100.0, 0.5
    config = with_sfpo(
        make_config("marwil").training(
            moving_average_sqd_adv_norm_start=start, moving_average_sqd_adv_norm_update_rate=rate
        )
    )
    env = gym.make(config.env)
    learner = config.build_learner(env=env)
    recorded = Recorded(config)
    recorded.learner_handles = [learner]
    recorded.module_spec = config.get_multi_rl_module_spec(env=env)
    learned = learner.update(batch=recorded.sample(16))[DEFAULT_MODULE_ID]
    squared_advantage = 2.0 * float(learned["vf_loss"])  # of the last pass
    average = float(learned["moving_avg_sqd_adv_norm"])
    assert average == pytest.approx(start + rate * (squared_advantage - start), rel=1e-5)


# Learners of their own.


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dqn", "impala"])
def test_a_remote_learner_takes_k_plus_1_steps_an_update(running: Running, name: str) -> None:
    """Of IMPALA also the runner is a process: it samples while the learner is at work."""
    config = make_config(name).learners(num_learners=1)
    if name == "impala":
        config.env_runners(num_env_runners=1)
    algo = running(with_sfpo(config, fast_steps=FAST_STEPS).build_algo())

    def steps_and_updates(learner: TorchLearner) -> tuple[set[float], int]:
        taken = {
            float(state["step"])
            for _, optimizer in learner.get_optimizers_for_module(DEFAULT_MODULE_ID)
            for state in optimizer.state.values()
        }
        return taken, learner._weights_seq_no

    updates, deadline = 0, time.monotonic() + 120
    while time.monotonic() < deadline:
        algo.train()
        (result,) = algo.learner_group.foreach_learner(steps_and_updates)
        steps, updates = result.get()
        if updates >= 2:
            break
    assert updates >= 2
    # IMPALA's learner may be at work on the next batch.
    least = updates if name == "dqn" else updates - 1
    passes = FAST_STEPS + 1
    assert all(passes * least <= taken <= passes * updates for taken in steps)


@pytest.mark.slow
def test_an_offline_algorithm_trains_from_a_file_by_ray_data(
    running: Running, calls: list[str], tmp_path: Path
) -> None:
    rows = transitions("CartPole-v1", 32)
    rows["obs"], rows["new_obs"] = ([obs.tolist() for obs in rows[c]] for c in ("obs", "new_obs"))
    pyarrow.parquet.write_table(pyarrow.table(rows), tmp_path / "recorded.parquet")
    config = make_config("bc").offline_data(
        input_=str(tmp_path), offline_data_class=OfflineData, map_batches_kwargs={"concurrency": 1}
    )
    algo = running(with_sfpo(config, fast_steps=FAST_STEPS).build_algo())
    for _ in range(2):
        train_until_updated(algo, calls)
    assert calls == ["update", *["pass"] * (FAST_STEPS + 1)] * 2


# Refused.


@pytest.mark.parametrize("num_agents", [1, 2])
def test_a_trigger_is_refused_where_no_distribution_has_an_entropy(num_agents: int) -> None:
    reason = "must be None, as the algorithm's modules have no distribution over actions"
    with pytest.raises(ValueError, match=f"^entropy_window=50: {reason}"):
        with_sfpo(make_config("dqn", num_agents=num_agents), entropy_window=50)


@pytest.mark.parametrize("name", OFFLINE)
def test_offline_data_of_several_agents_is_refused(name: str) -> None:
    message = r"^policies=\['p0', 'p1'\]: must be one, as RLlib's offline data holds no episodes"
    with pytest.raises(ValueError, match=message):
        with_sfpo(make_config(name, num_agents=2))
    config = with_sfpo(make_config(name)).multi_agent(policies={"p0", "p1"})
    with pytest.raises(ValueError, match=message):
        config.validate()


def test_the_table_in_the_docs_has_the_algorithms_that_are_tried_here() -> None:
    page = (Path(__file__).parents[2] / "docs" / "update_rules.md").read_text()
    section = page.partition("## On RLlib's own algorithms")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| ")]
    listed = {name for row in rows for name in re.findall(r"\b[A-Z]{2,}\b", row)}
    tried = {config_class.__name__ for config_class, _ in (ONLINE | OFFLINE).values()}
    assert {f"{name}Config" for name in listed} == tried
