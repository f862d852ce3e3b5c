"""Shared by all tests: one tiny model, one small config, one ray."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Packages of the tests' own, for this process and those that it starts.
PACKAGES = str(Path(__file__).parent / "packages")
sys.path.insert(0, PACKAGES)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [PACKAGES, os.environ.get("PYTHONPATH")]))
# Threads that wait for each other on a busy machine make tiny models a hundred times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The core's tests run where ray, transformers and the rest are not installed, so everything else
# is imported by the fixtures that need it.


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random character-level Llama with tied embeddings and a context of 512."""
    from sfpo_rllib.rl_modules.char_llama import build_char_llama

    return build_char_llama(
        tmp_path_factory.mktemp("tiny_model"),
        alphabet="0123456789+=",
        hidden_size=32,
        num_layers=2,
        max_length=512,
    )


@pytest.fixture(scope="session")
def vllm_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, as wide as vLLM's kernels want."""
    from sfpo_rllib.rl_modules.char_llama import build_char_llama

    return build_char_llama(
        tmp_path_factory.mktemp("vllm_model"),
        alphabet="0123456789+=",
        hidden_size=64,
        num_layers=2,
        max_length=512,
    )


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One ray for the session, with more logical CPUs than a small machine has."""
    import ray

    ray.init(num_cpus=8, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def running(ray_cluster: None) -> Iterator[Callable[[object], object]]:
    """`running(algo)` returns the algorithm, and stops it when the test is over."""
    algos: list = []

    def keep(algo: object) -> object:
        algos.append(algo)
        return algo

    yield keep
    for algo in algos:
        algo.stop()


@pytest.fixture(scope="session")
def make_config(tiny_model: Path) -> Callable[..., object]:
    """`make_config(config_class=SFPOConfig)`: a config whose iterations take under a second.

    4 groups of 4, the transformers engine in the driver, no trigger. Two-digit sums, which a
    random model never gets right, or another environment.
    """

    def make(
        config_class: type | None = None,
        env: object = "sfpo_envs:sfpo/Arithmetic-v0",
        env_config: dict[str, object] | None = None,
    ) -> object:
        from sfpo_rllib import SFPOConfig

        if env_config is None and env == "sfpo_envs:sfpo/Arithmetic-v0":
            env_config = {"num_digits": 2}

        config = (
            (config_class or SFPOConfig)()
            .environment(env, env_config=env_config or {})
            .rl_module(model_config={"model": str(tiny_model)})
            .env_runners(
                num_env_runners=0, rollout_engine="transformers", sampling={"max_tokens": 4}
            )
            .training(lr=1e-3, train_batch_size_per_learner=16, group_size=4)
            .debugging(seed=0)
        )
        if hasattr(config, "entropy_z_threshold"):
            config.training(entropy_z_threshold=None)
        return config

    return make


@pytest.fixture
def good(make_config: Callable[..., object]) -> object:
    """A config without a fault, to be given one."""
    return make_config()


@pytest.fixture
def nothing_heavy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting ray or loading weights while a config is looked at fails the test."""
    import ray
    import transformers

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("validation started something heavy")

    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setattr(ray, "remote", refuse)
    monkeypatch.setattr(transformers.PreTrainedModel, "from_pretrained", refuse)
