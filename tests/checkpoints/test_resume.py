"""A run that is saved and restored goes on as if nothing had happened."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("ray")

from probes import ECHO, assert_equal_weights, learned_groups, train

from sfpo_rllib import GRPO, SFPO, SFPOConfig
from sfpo_rllib.token_trace import TokenTrace

MakeConfig = Callable[..., SFPOConfig]
Running = Callable[[GRPO], SFPO]

HALF = 3  # iterations

# Trains on from a checkpoint in a process that knows nothing else.
GO_ON = """
import sys
import ray, torch
from probes import train
from sfpo_rllib import SFPO

checkpoint, iterations, output = sys.argv[1], int(sys.argv[2]), sys.argv[3]
ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR")
algo = SFPO.from_checkpoint(checkpoint)
problems, results = train(algo, iterations)
sfpo = [result["learners"]["default_policy"]["sfpo"] for result in results]
torch.save(
    {
        "problems": problems,
        "weights": algo.get_module_weights(),
        "active": [float(r["active"]) for r in sfpo],
        "entropy_z": [float(r["entropy_z"]) for r in sfpo],
        "optimizer_steps": float(sfpo[-1]["optimizer_steps_lifetime"]),
        "rollouts": float(results[-1]["env_runners"]["num_rollouts_lifetime"]),
        "weights_version": float(results[-1]["env_runners"]["weights_version"]),
    },
    output,
)
algo.stop()
"""


def test_new_process_trains_on_bit_for_bit(
    make_config: MakeConfig, running: Running, ray_elsewhere: None, tmp_path: Path
) -> None:
    config = make_config(env=ECHO).training(
        minibatch_size=4, entropy_window=HALF + 1, entropy_z_threshold=1e-3
    )
    algo = running(config.build_algo())
    problems_first, _ = train(algo, HALF)
    checkpoint = algo.save_to_path(tmp_path / "checkpoint")
    problems, results = train(algo, HALF)
    command = [sys.executable, "-c", GO_ON, checkpoint, str(HALF), str(tmp_path / "second.pt")]
    subprocess.run(command, check=True, timeout=240)
    second_half = torch.load(tmp_path / "second.pt")

    assert problems == second_half["problems"]
    assert problems[0][0] == problems_first[-1][-1] + 1
    sfpo = [result["learners"]["default_policy"]["sfpo"] for result in results]
    for key in ("active", "entropy_z"):
        # The window of the trigger reaches back over the checkpoint.
        expected = [float(r[key]) for r in sfpo]
        np.testing.assert_array_equal(second_half[key], expected)
    assert np.isfinite(second_half["entropy_z"]).all()
    assert second_half["optimizer_steps"] == sfpo[-1]["optimizer_steps_lifetime"]
    rollouts = results[-1]["env_runners"]
    assert second_half["rollouts"] == rollouts["num_rollouts_lifetime"] == 2 * HALF * 16
    assert second_half["weights_version"] == rollouts["weights_version"]
    assert_equal_weights(algo.get_module_weights(), second_half["weights"])


@pytest.mark.slow
def test_remote_runner_samples_from_restored_weights(
    make_config: MakeConfig, running: Running, tmp_path: Path
) -> None:
    sequences = [[3, 4, 5, 6, 7, 8], [9, 3, 3, 12, 1]]
    prompt_lens = [3, 2]

    def probe(algo: SFPO) -> tuple[list[np.ndarray], int]:
        is_local = algo.config.num_env_runners == 0
        return algo.env_runner_group.foreach_env_runner(
            lambda runner: (
                runner.engine_logprobs(sequences, prompt_lens),
                runner.weights_version,
            ),
            local_env_runner=is_local,
        )[0]

    config = make_config(env=ECHO).training(lr=1e-2)
    algo = running(config.copy(copy_frozen=False).build_algo())
    fresh, _ = probe(algo)
    train(algo, 2)
    trained, version = probe(algo)
    checkpoint = algo.save_to_path(tmp_path / "checkpoint")

    remote = config.env_runners(num_env_runners=1)
    restored = running(SFPO.from_checkpoint(checkpoint, config=remote))
    logprobs, restored_version = probe(restored)
    assert restored_version == version == 2
    for before, after, untrained in zip(trained, logprobs, fresh, strict=True):
        np.testing.assert_array_equal(before, after)
        assert np.abs(before - untrained).max() > 1e-3
    with learned_groups(restored) as batches:
        result = restored.train()
    assert {TokenTrace.of(e).weights_version for group in batches[0] for e in group} == {2}
    assert result["learners"]["default_policy"]["sfpo"]["engine_logp_diff"] < 1e-5
