"""A text environment that takes its process down, or its time, where its config says so."""

import os
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
from sfpo_envs import UnicodeText


class CruelEnv(gym.Env[str, str]):
    """Two turns, in which small digits are rewarded."""

    def __init__(self, misdeeds: str | None = None, only_in_process: int | None = None) -> None:
        """Create the environment.

        Args:
            misdeeds: A folder. A file named like a seed says what a step for it does: "exit" ends
                the process, without a word; "hang" takes an hour. While there is one named "slow",
                steps take half a second.
            only_in_process: In any other the constructor raises.
        """
        if only_in_process not in (None, os.getpid()):
            raise FileNotFoundError("the data are on another machine")
        self.observation_space, self.action_space = UnicodeText(100), UnicodeText(1000)
        self._misdeeds = None if misdeeds is None else Path(misdeeds)
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
        if self._misdeeds is not None:
            self._misbehave(self._misdeeds)
        self._turn += 1
        reward = sum(c in "01234" for c in action) / 4
        return f"+{self._turn}=", reward, self._turn == 2, False, {}

    def _misbehave(self, misdeeds: Path) -> None:
        if (misdeeds / "slow").exists():
            time.sleep(0.5)
        deed = misdeeds / str(self._seed)
        if not deed.exists():
            return
        if deed.read_text() == "exit":
            os._exit(1)
        time.sleep(3600)


gym.register("mine/Cruel-v0", entry_point=CruelEnv)
