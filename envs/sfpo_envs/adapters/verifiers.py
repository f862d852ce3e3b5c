"""Task sets of the verifiers library as gymnasium environments of one turn.

Nothing of verifiers is imported: whatever has tasks with ``task.data.prompt`` and
``await task.score(trace)`` will do.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Mapping
from itertools import islice
from types import SimpleNamespace
from typing import Any

from sfpo_envs.single_turn import Problem, SingleTurnEnv
from sfpo_envs.spaces import MAX_TEXT_CHARS, ChatMessage, ChatMessages
from sfpo_envs.time_limit import call_within


class OneReply(SimpleNamespace):
    """What reward functions are given: the part of verifiers' trace that one reply fills."""

    def __init__(self, data: Any, reply: str) -> None:
        message = SimpleNamespace(role="assistant", content=reply, tool_calls=None)
        prompt = [SimpleNamespace(**each) for each in _messages(data)]
        super().__init__(task=SimpleNamespace(data=data), state=SimpleNamespace(), info={})
        self.messages, self.assistant_messages = [*prompt, message], [message]
        self.last_message, self.last_reply, self.num_turns = message, reply.strip(), 1
        self.rewards: dict[str, float | None] = {}  # verifiers puts None before it scores
        self.metrics: dict[str, float | None] = {}

    def record_reward(self, name: str, value: float, weight: float = 1.0) -> None:
        """Store a reward, weighted."""
        self.rewards[name] = float(value) * float(weight)

    def record_metric(self, name: str, value: float) -> None:
        """Store a metric."""
        self.metrics[name] = float(value)

    def record_metrics(self, values: Mapping[str, float]) -> None:
        """Store several metrics."""
        self.metrics.update({name: float(value) for name, value in values.items()})


class VerifiersEnv(SingleTurnEnv):
    """The tasks of a task set, each a prompt, a reply and the task's own rewards.

    The prompt is a list of chat messages; with ``chat=False`` it is the text of the one user
    message that each task then must have. The reward is the sum of the task's weighted rewards,
    which are among the metrics by their names.
    """

    def __init__(
        self,
        taskset: Iterable[Any],
        num_tasks: int | None = None,
        chat: bool = True,
        success_reward: float = 1.0,
        timeout_s: float | None = 600.0,
        shuffle_seed: int = 0,
    ) -> None:
        """Create the environment.

        Args:
            taskset: Yields tasks.
            num_tasks: How many to take; ``None`` for all of them.
            chat: Whether observations are chat messages, or strings.
            success_reward: The reward from which on an episode is a success.
            timeout_s: The longest that a task may take to score a reply; then the step raises
                :class:`~sfpo_envs.time_limit.TimeLimitError`, and leaves the task behind.
                ``None``: as long as it likes.
            shuffle_seed: Chooses the order in which seeds visit the tasks.

        Raises:
            ValueError: There are no tasks, or a prompt is not what ``chat`` says.
        """
        super().__init__(shuffle_seed)
        self._tasks = list(islice(taskset, num_tasks))
        prompts = [_messages(task.data) for task in self._tasks]
        if not all(prompts) or not prompts:
            raise ValueError("taskset: it has no tasks, or one without a prompt")
        if not chat and any(len(prompt) > 1 for prompt in prompts):
            raise ValueError("chat=False: must be True where prompts have several messages")
        if chat:
            self.observation_space = ChatMessages(MAX_TEXT_CHARS, min_messages=0)
        self._prompts: list[Any] = prompts if chat else [p[0]["content"] for p in prompts]
        self._success_reward = success_reward
        if timeout_s is not None and not 0 < timeout_s < math.inf:
            raise ValueError(f"timeout_s={timeout_s!r}: must be positive and finite, or None")
        self._timeout_s = timeout_s

    @property
    def num_problems(self) -> int:
        """How many tasks there are."""
        return len(self._tasks)

    def _problem_at(self, index: int) -> Problem:
        return Problem(self._prompts[index], str(index))  # the task, not we, knows the answer

    def _grade(self, reply: str, answer: str) -> tuple[float, dict[str, Any]]:
        task = self._tasks[int(answer)]
        trace = OneReply(task.data, reply)
        # In a thread, as a loop may be running where this is called.
        call_within(self._timeout_s, lambda: asyncio.run(task.score(trace)))
        if not trace.rewards or None in trace.rewards.values():
            raise ValueError(f"taskset: no rewards, or some need a runtime: {trace.rewards}")
        reward = float(sum(value for value in trace.rewards.values() if value is not None))
        named = {name: v for name, v in (trace.metrics | trace.rewards).items() if v is not None}
        return reward, {"is_success": reward >= self._success_reward, "metrics": named}


def _messages(data: Any) -> list[ChatMessage]:
    """Return the prompt of a task as chat messages."""
    prompt = data.prompt or []
    given = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    fields = [each if isinstance(each, dict) else vars(each) for each in given]
    if system := getattr(data, "system_prompt", None):
        fields = [{"role": "system", "content": system}, *fields]
    messages = [{name: each[name] for name in ("role", "content")} for each in fields]
    if strange := [each for each in messages if not isinstance(each["content"], str)]:
        raise ValueError(f"taskset: a prompt has a message that is not text: {strange[0]!r:.200}")
    return messages
