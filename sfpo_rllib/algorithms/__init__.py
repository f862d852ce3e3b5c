"""GRPO and SFPO as RLlib algorithms, registered with Ray Tune."""

from sfpo_rllib.compat import check_torchvision

check_torchvision()  # before transformers, which names the wrong culprit

from ray import tune  # noqa: E402

from sfpo_rllib.algorithms.grpo import GRPO, GRPOConfig  # noqa: E402
from sfpo_rllib.algorithms.sfpo import SFPO, SFPOConfig, with_sfpo  # noqa: E402
from sfpo_rllib.algorithms.with_update_rule import with_update_rule  # noqa: E402

tune.register_trainable("GRPO", GRPO)
tune.register_trainable("SFPO", SFPO)

__all__ = ["GRPO", "SFPO", "GRPOConfig", "SFPOConfig", "with_sfpo", "with_update_rule"]
