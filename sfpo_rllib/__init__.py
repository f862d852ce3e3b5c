"""SFPO and GRPO for reasoning language models, as Ray RLlib algorithms.

Importing this registers "SFPO" and "GRPO" with Ray Tune. The core (`sfpo_rllib.core`) needs torch
alone and imports where ray is not installed; a warning says then what is missing.
"""

import gc
import warnings
from typing import Any

# Imports leave no garbage: looking for it would take a quarter of their time.
_collects = gc.isenabled()
gc.disable()
try:
    from sfpo_rllib.algorithms import (
        GRPO,
        SFPO,
        GRPOConfig,
        SFPOConfig,
        with_sfpo,
        with_update_rule,
    )
    from sfpo_rllib.env_runners.stream import Curriculum
    from sfpo_rllib.run_loop import RunResult, run
except ImportError as error:
    _missing = error
    warnings.warn(
        f'"SFPO" and "GRPO" are not registered with Ray Tune, which will not know them: {error}. '
        "Only sfpo_rllib.core can be used.",
        stacklevel=2,
    )

    def __getattr__(name: str) -> Any:
        if name in __all__:
            raise ImportError(f"sfpo_rllib.{name} cannot be imported: {_missing}") from _missing
        raise AttributeError(f"module 'sfpo_rllib' has no attribute {name!r}")
finally:
    if _collects:
        gc.enable()


__all__ = [
    "GRPO",
    "SFPO",
    "Curriculum",
    "GRPOConfig",
    "RunResult",
    "SFPOConfig",
    "run",
    "with_sfpo",
    "with_update_rule",
]
