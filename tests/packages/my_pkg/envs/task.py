"""Text environments that random models get varying rewards from, and that misbehave on demand."""

import os
import signal
import time
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym


class EchoEnv(gym.Env[str, str]):
    """Rewards the share of small digits in a reply; each turn shows a number made of the seed."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}

    def __init__(
        self,
        turns: int = 1,
        prompt_length: int = 4,
        equal_rewards_every: int = 0,
        raise_every: int = 0,
        order: str | None = None,
    ) -> None:
        """Create the environment.

        Args:
            turns: Replies in an episode.
            prompt_length: Characters of the first observation.
            equal_rewards_every: Seeds it divides are rewarded 1.0 whatever the reply; 0: none.
            raise_every: Seeds it divides raise when stepped; 0: none.
            order: A path. The first step of all processes that finds a file there takes it away and
                does what it says, instead of a reply: "hang" or "kill".
        """
        alphabet = "0123456789+="
        self.observation_space = gym.spaces.Text(prompt_length, charset=alphabet)
        self.action_space = gym.spaces.Text(64, charset=alphabet)
        self._turns = turns
        self._prompt_length = prompt_length
        self._equal_rewards_every = equal_rewards_every
        self._raise_every = raise_every
        self._order = None if order is None else Path(order)
        self._seed = self._turn = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Show the seed's last digits, padded to the wanted length."""
        super().reset(seed=seed)
        self._seed, self._turn = seed or 0, 0
        return str(self._seed)[-3:].zfill(self._prompt_length - 1) + "=", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Reward a reply."""
        self._misbehave()
        self._turn += 1
        over = self._turn == self._turns
        reward = sum(c in "01234" for c in action) / 4
        if _divides(self._equal_rewards_every, self._seed):
            reward = 1.0
        info = {"is_success": reward >= 0.5, "metrics": {"length": len(action)}} if over else {}
        return "" if over else f"+{self._turn}=", reward, over, False, info

    def _misbehave(self) -> None:
        if _divides(self._raise_every, self._seed):
            raise RuntimeError("this environment does not like its seed")
        if self._order is None or not self._order.exists():
            return
        deed = self._order.read_text()
        try:
            self._order.unlink()
        except FileNotFoundError:  # another process was first
            return
        if deed == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(3600)


def _divides(number: int, seed: int) -> bool:
    return number > 0 and seed % number == 0


gym.register("mine/Echo-v0", entry_point=EchoEnv)
