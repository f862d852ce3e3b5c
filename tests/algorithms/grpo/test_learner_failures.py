"""Learners that die, or raise in the midst of an update: it is said who, and training goes on."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("ray")

from own_objectives import Mishap, die, fill_the_disk
from probes import ECHO, assert_equal_weights, greatest_difference, sfpo_results, train

from sfpo_rllib import GRPO, SFPO, SFPOConfig
from sfpo_rllib.algorithms.grpo.learner_actors import LearnerError

MakeConfig = Callable[..., SFPOConfig]
Running = Callable[[GRPO], SFPO]

MIDWAY = 5  # of the 8 optimizer steps of an update


def configured(
    make_config: MakeConfig, *, restart: bool, mishap: Mishap | None = None, **learners: Any
) -> SFPOConfig:
    """Two mini-batches a pass, and a trigger whose window is state, too."""
    config = make_config(env=ECHO).training(
        minibatch_size=8, entropy_window=4, entropy_z_threshold=1.73
    )
    if mishap is not None:
        config.training(loss=mishap)
    return config.learners(**learners).fault_tolerance(restart_failed_learners=restart)


def kill(algo: SFPO, learner: int) -> None:
    """As the kernel does when memory runs out."""
    results = algo.learner_group.foreach_learner(lambda _: os.getpid())
    os.kill([result.get() for result in results][learner], signal.SIGKILL)


def in_every_call(algo: SFPO, folder: Path, message: str) -> None:
    """The failure is what any call on the algorithm says, within seconds."""
    for call in (algo.train, algo.train, algo.learner_group.check, algo.get_state):
        start = time.monotonic()
        with pytest.raises(LearnerError, match=message) as error:
            call()
        assert time.monotonic() - start < 60  # and not the 30 minutes of a process group
        assert "restore_from_path()" in str(error.value)
    with pytest.raises((LearnerError, ValueError), match=message):  # of the checkpoint
        algo.save_to_path(folder)
    if algo.learner_group.is_remote:
        with pytest.raises(LearnerError, match=message):
            algo.get_module_weights()


def numbers(results: list[dict[str, Any]]) -> list[float]:
    """What the learners say of their updates, but for what the clock or a restart changes."""
    return [sfpo_results(result)[f"pass_{k}"]["loss"] for result in results for k in range(4)] + [
        sfpo_results(result)["optimizer_steps_lifetime"] for result in results
    ]


@pytest.mark.slow
def test_a_dead_learner_is_named_by_every_call_and_a_checkpoint_is_gone_on_from(
    make_config: MakeConfig,
    running: Running,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """By whom, of replicas, is tested in `test_learner_actors`."""
    config = configured(make_config, restart=False, num_learners=2, parallelism="fsdp")
    algo = running(config.build_algo())
    path = algo.save_to_path(tmp_path / "good")
    expected, _ = train(algo, 1)
    after = algo.get_module_weights()

    kill(algo, 0)
    in_every_call(algo, tmp_path / "bad", "learner 0 of 2 died: The actor is dead")
    algo.restore_from_path(path)
    assert train(algo, 1)[0] == expected
    assert_equal_weights(algo.get_module_weights(), after)

    kill(algo, 1)
    in_every_call(algo, tmp_path / "bad", "learner 1 of 2 died")
    algo.stop()
    assert "shut down after a failure: learner 1 of 2 died" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("num_learners", "parallelism", "victims"),
    [(2, "ddp", (1,)), (2, "fsdp", (0,)), (1, "ddp", (0, 0))],
)
def test_learners_that_die_are_started_again_and_learn_what_they_would_have(
    make_config: MakeConfig,
    running: Running,
    tmp_path: Path,
    num_learners: int,
    parallelism: str,
    victims: tuple[int, ...],
) -> None:
    """One with half an update made, then one between updates; then the same without a mishap."""
    mishap = Mishap(victims[0], MIDWAY, tmp_path / "happened", die)
    config = configured(
        make_config,
        restart=True,
        mishap=mishap,
        num_learners=num_learners,
        parallelism=parallelism,
    )
    algo = running(config.build_algo())
    path = algo.save_to_path(tmp_path / "start")
    before = algo.get_module_weights()
    problems, results = train(algo, 1)
    assert mishap.flag.exists()
    for victim in victims[1:]:
        kill(algo, victim)
    more_problems, more_results = train(algo, 1)
    weights, trigger = algo.get_module_weights(), triggers(algo)
    restarts = [r["learners"]["num_learner_restarts_lifetime"] for r in results + more_results]
    assert restarts == [1, len(victims)]
    assert greatest_difference(weights, before) > 1e-4

    algo.restore_from_path(path)
    same_problems, same_results = train(algo, 2)
    assert same_problems == problems + more_problems
    assert numbers(same_results) == numbers(results + more_results)
    assert_equal_weights(algo.get_module_weights(), weights)
    assert triggers(algo) == trigger
    assert algo.learner_group.num_restarts == len(victims)
    with pytest.raises(ValueError, match=rf"num_learners={num_learners}: .*get_module_weights\(\)"):
        algo.get_module()


def triggers(algo: SFPO) -> list[dict[str, Any]]:
    results = algo.learner_group.foreach_learner(
        lambda learner: learner._updater.trigger.state_dict()
    )
    return [result.get() for result in results]


def test_a_learner_in_the_driver_that_raises_says_what_to_do(
    make_config: MakeConfig, running: Running, tmp_path: Path
) -> None:
    mishap = Mishap(0, MIDWAY, tmp_path / "happened", fill_the_disk)
    algo = running(configured(make_config, restart=False, mishap=mishap).build_algo())
    path = algo.save_to_path(tmp_path / "good")
    with pytest.raises(OSError, match="No space left on device") as error:
        algo.train()
    assert "restart_failed_learners=True" in error.value.__notes__[0]
    in_every_call(algo, tmp_path / "bad", "the learner raised OSError: .*No space left on device")
    assert algo.get_module_weights().keys()  # to see what is left
    algo.restore_from_path(path)
    assert sfpo_results(algo.train())["optimizer_steps_lifetime"] == 8


def test_a_learner_in_the_driver_goes_on_too(
    make_config: MakeConfig, running: Running, tmp_path: Path
) -> None:
    weights, problems = [], []
    (tmp_path / "never").touch()
    for flag in ("never", "happened"):
        mishap = Mishap(0, MIDWAY + 8, tmp_path / flag, fill_the_disk)
        algo = running(configured(make_config, restart=True, mishap=mishap).build_algo())
        problems.append(train(algo, 3)[0])
        weights.append(algo.get_module_weights())
    assert algo.learner_group.num_restarts == 1
    assert problems[0] == problems[1]
    assert_equal_weights(weights[0], weights[1])


def test_what_fails_again_and_again_is_an_error(
    make_config: MakeConfig, running: Running, tmp_path: Path
) -> None:
    """A restart does not mend what fails by itself."""
    flag = tmp_path / "no such folder" / "flag"  # making it fails, each time
    mishap = Mishap(0, MIDWAY, flag, fill_the_disk)
    algo = running(configured(make_config, restart=True, mishap=mishap).build_algo())
    with pytest.raises(FileNotFoundError) as error:
        algo.train()
    assert "started again 2 times" in error.value.__notes__[0]
    assert algo.learner_group.num_restarts == 2


def test_the_module_is_handed_out_where_it_is(make_config: MakeConfig, running: Running) -> None:
    """RLlib's own would end a runner, which has none."""
    algo = running(make_config(env=ECHO).build_algo())
    module = algo.get_module()
    with torch.no_grad():
        for param in module.lm.parameters():
            param.zero_()
    assert not any(weight.any() for weight in algo.get_module_weights().values())
    assert algo.get_module("no such module") is None
