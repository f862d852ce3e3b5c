"""Shared by all tests: one tiny model, one small config, one ray."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

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
def ray_cluster() -> Iterator[None]:
    """One ray for the session, with more logical CPUs than a small machine has."""
    import ray

    ray.init(num_cpus=8, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def make_config(tiny_model: Path) -> Callable[..., object]:
    """`make_config(config_class=SFPOConfig)`: a config whose iterations take under a second.

    Two-digit sums, 4 groups of 4, the transformers engine in the driver, no trigger.
    """

    def make(config_class: type | None = None) -> object:
        from sfpo_rllib import SFPOConfig

        config = (
            (config_class or SFPOConfig)()
            .environment("sfpo_envs:sfpo/Arithmetic-v0", env_config={"num_digits": 2})
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
