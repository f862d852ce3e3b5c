"""An env runner that can be told when to die, as by kill -9."""

import os
import signal
from pathlib import Path
from typing import Any

from sfpo_rllib.env_runners import GroupEnvRunner


class MortalRunner(GroupEnvRunner):
    """Looks for files in the folder `misdeeds` of its environment's config.

    "before_sample-<i>", "while_sampling-<i>" and "in_restore-<i>" kill runner i once: between
    `set_state` and `sample`, in a job, and when it is sent its first weights.
    """

    def sample(self, **kwargs: Any) -> Any:
        self._die_if_told("before_sample")
        step = self._engine.step

        def last_step() -> Any:
            result = step()
            self._die_if_told("while_sampling")
            return result

        self._engine.step = last_step
        try:
            return super().sample(**kwargs)
        finally:
            self._engine.step = step

    def set_state(self, state: Any) -> None:
        if self.weights_version < 0:
            self._die_if_told("in_restore")
        super().set_state(state)

    def _die_if_told(self, when: str) -> None:
        order = Path(self.config.env_config["misdeeds"]) / f"{when}-{self.worker_index}"
        if order.exists():
            order.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
