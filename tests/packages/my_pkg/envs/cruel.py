"""A text environment that takes its process down, or its time, where its config says so."""

import os
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
from sfpo_envs import UnicodeText


class CruelEnv(gym.Env[str, str]):
    """Two turns, in which small digits are rewarded."""

    def __init__(
        self,
        deadly_seed: int | None = None,
        endless_seed: int | None = None,
        slow_while: str | None = None,
        only_in_process: int | None = None,
    ) -> None:
        """Create the environment.

        Args:
            deadly_seed: A step for it ends the process, without a word.
            endless_seed: A step for it takes an hour.
            slow_while: A path; while there is something, steps take half a second.
            only_in_process: In any other the constructor raises.
        """
        if only_in_process not in (None, os.getpid()):
            raise FileNotFoundError("the data are on another machine")
        self.observation_space, self.action_space = UnicodeText(100), UnicodeText(1000)
        self._deadly_seed, self._endless_seed = deadly_seed, endless_seed
        self._slow_while = slow_while
        self._seed: int | None = None
        self._turn = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Show the seed's last digits."""
        self._seed, self._turn = seed, 0
        return str(seed)[-3:].zfill(3) + "=", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Reward a reply."""
        if self._seed == self._deadly_seed:
            os._exit(1)
        if self._seed == self._endless_seed:
            time.sleep(3600)
        if self._slow_while is not None and Path(self._slow_while).exists():
            time.sleep(0.5)
        self._turn += 1
        reward = sum(c in "01234" for c in action) / 4
        return f"+{self._turn}=", reward, self._turn == 2, False, {}


gym.register("mine/Cruel-v0", entry_point=CruelEnv)
