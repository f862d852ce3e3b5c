"""Group rollouts: many episodes at once over one engine, stepped as their replies finish."""

import hashlib
import itertools
import logging
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from time import perf_counter
from typing import Any

from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from sfpo_rllib.env_runners.callbacks import CallbackError, EpisodeListener
from sfpo_rllib.env_runners.dialogue import Dialogue
from sfpo_rllib.env_runners.engines import (
    Completion,
    GenerationRequest,
    RolloutEngine,
    SamplingSettings,
)
from sfpo_rllib.env_runners.env_call import DeadlineError, EnvCall, EnvTimeout
from sfpo_rllib.env_runners.env_scheduler import EnvScheduler
from sfpo_rllib.env_runners.env_values import EnvFault, Turn, described, short, words
from sfpo_rllib.env_runners.guarded_env import GuardedEnv
from sfpo_rllib.env_runners.prompts import Observation, PromptFormatter
from sfpo_rllib.env_runners.text_envs import EnvPool
from sfpo_rllib.token_trace import TokenTrace

logger = logging.getLogger(__name__)

# While the engine has nothing to do, the deadline and `is_cancelled` are looked at so often.
LOOK_AGAIN_S = 0.25

# Never one twice in a process: no reply to an interrupted job is taken for one to the next.
_request_ids = itertools.count()


@dataclass(frozen=True)
class RolloutJob:
    """What a runner is asked to sample.

    Attributes:
        seeds: One a group: every environment of the group is reset with it.
        weights_version: The version the engine must run.
        stream: What, besides seed, member and turn, the sampling seeds depend on, e.g. the run's
            seed and the iteration.
        evaluation: Whether to use the evaluation settings.
        timeout_s: After so long the groups that are not finished are given up.
        mailbox: Where the engine finds newer weights, between any two of its steps; the version
            above is then the oldest that it may run. None: it runs that version from first to last.
    """

    seeds: tuple[int, ...]
    weights_version: int
    stream: tuple[int | str, ...]
    evaluation: bool
    timeout_s: float
    mailbox: Any = None


@dataclass
class RolloutResult:
    """What came of a job. Every seed is in exactly one of the three.

    Attributes:
        groups: Whole groups by seed, members in order.
        dropped: Seeds whose environment or prompt failed, with the reason.
        unfinished: Seeds given up at the deadline, or all if the weights are stale.
        num_envs_timed_out: Environments that were left behind in a reset or step.
        stale_version: Set, with nothing sampled, if the engine runs other weights.
        engine_busy_fraction: Of the job's time the share that the engine's steps took.
        metrics: What callbacks logged in the runner.
        oldest_versions: By seed, of the weights that whole groups were sampled from.
    """

    groups: dict[int, list[SingleAgentEpisode]] = field(default_factory=dict)
    dropped: dict[int, str] = field(default_factory=dict)
    unfinished: list[int] = field(default_factory=list)
    num_envs_timed_out: int = 0
    stale_version: int | None = None
    engine_busy_fraction: float = 0.0
    metrics: Any = None
    oldest_versions: dict[int, int] = field(default_factory=dict)


def stable_hash(*parts: int | str) -> int:
    """A 63-bit number that depends on `parts` alone, in any process."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


class GroupRollout:
    """Runs one job to its end."""

    def __init__(
        self,
        job: RolloutJob,
        *,
        group_size: int,
        sampling: SamplingSettings,
        engine: RolloutEngine,
        formatter: PromptFormatter,
        envs: EnvPool,
        num_env_threads: int = 0,
        renew_weights: Callable[[], int] | None = None,
        callbacks: EpisodeListener | None = None,
        members: Mapping[int, Collection[int]] | None = None,
        is_cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        """Prepares the job.

        Args:
            job: What to sample.
            group_size: Episodes of a group.
            sampling: The distribution replies are sampled from.
            engine: Samples them.
            formatter: Turns text into tokens and back.
            envs: Where environments come from, and go back to.
            num_env_threads: Environments that may be at work at once, beside the engine; with 0
                each is waited for in its turn. Must be 0 if they do not live in threads.
            renew_weights: Called before each of the engine's steps: has it take newer weights, if
                there are any, and returns the version that it runs.
            callbacks: Are told of episodes.
            members: By seed, which episodes are sampled of those groups of which not all are.
            is_cancelled: Whether nobody waits for the result any more.
        """
        self._job = job
        self._members = dict.fromkeys(job.seeds, range(group_size)) | dict(members or {})
        each = [(seed, member) for seed in job.seeds for member in self._members[seed]]
        self._places = {pair: place for place, pair in enumerate(each)}
        self._sampling = sampling
        self._engine = engine
        self._formatter = formatter
        self._envs = envs
        self._renew_weights = renew_weights or (lambda: job.weights_version)
        self._weights_version = job.weights_version
        self._callbacks = callbacks
        self._is_cancelled = is_cancelled
        self._deadline = 0.0
        self._engine_s = 0.0  # that its steps took
        self._running: dict[int, Dialogue] = {}  # by request id
        self._open = set(job.seeds)  # groups that may still become whole
        self._problems: dict[int, Any] = {}  # what the members of a group are shown
        self._finished: dict[int, dict[int, SingleAgentEpisode]] = {s: {} for s in job.seeds}
        self._result = RolloutResult()
        self._calls = EnvScheduler(
            # The first environment is made alone: what it reads and imports, others then share.
            (lambda: num_env_threads if envs.has_made_one else 1) if num_env_threads else None
        )

    def run(self) -> RolloutResult:
        """Samples every group of the job, up to its deadline.

        Whatever ends it, Ctrl-C too, leaves nothing in the engine.
        """
        self._deadline = time.monotonic() + self._job.timeout_s
        start = perf_counter()
        is_over = False
        try:
            is_over = self._start_all() and self._play_all()
        except DeadlineError as error:
            logger.warning("%s", error)
        finally:
            self._give_back(abort=not is_over)
        if time.monotonic() > self._deadline and (at_work := self._calls.at_work):
            call, *others = at_work
            logger.warning("%s, and %d others too", call.late(self._deadline), len(others))
        self._result.engine_busy_fraction = self._engine_s / max(perf_counter() - start, 1e-9)
        for seed, members in self._finished.items():
            if len(members) == len(self._members[seed]):
                group = [members[m] for m in sorted(members)]
                self._result.groups[seed] = group
                oldest = min(TokenTrace.of(episode).weights_version for episode in group)
                self._result.oldest_versions[seed] = oldest
            elif seed not in self._result.dropped:
                self._result.unfinished.append(seed)
        return self._result

    def _start_all(self) -> bool:
        """Resets all environments. Returns whether there was time for it."""
        for (seed, member), place in self._places.items():
            if seed in self._result.dropped:
                continue
            if place and self._is_late():
                return False
            self._start(seed, member)
        return True

    def _play_all(self) -> bool:
        """Steps environments as replies come. Returns whether there was time for it."""
        while self._open:
            for reply in self._step_engine():
                # None: its group was dropped since.
                if (dialogue := self._running.pop(reply.request_id, None)) is not None:
                    self._advance(dialogue, reply)
                    if self._open and self._is_late():
                        return False
            if not self._calls.is_idle:
                self._calls.collect(0.0 if self._running else LOOK_AGAIN_S)
                if self._open and self._is_late():
                    return False
        return True

    def _step_engine(self) -> list[Completion]:
        if not self._running:
            return []
        self._weights_version = self._renew_weights()
        start = perf_counter()
        try:
            return self._engine.step()
        finally:
            self._engine_s += perf_counter() - start

    def _is_late(self) -> bool:
        return time.monotonic() > self._deadline or self._is_cancelled()

    def _give_back(self, *, abort: bool) -> None:
        try:
            if abort:
                self._engine.abort()
        finally:
            self._running.clear()
            self._envs.reclaim()

    def _start(self, seed: int, member: int) -> None:
        episode = SingleAgentEpisode(len_lookback_buffer=0)

        def make() -> EnvCall | None:
            return None if seed in self._result.dropped else self._envs.take().begin_make()

        def when_made(env: GuardedEnv, is_new: bool) -> bool:
            if is_new:
                self._envs.announce(env)
            self._tell("created", episode, env, seed, member)
            self._calls.do(partial(reset, env), partial(self._follow, seed, when_reset))
            return True

        def reset(env: GuardedEnv) -> EnvCall | None:
            if seed in self._result.dropped:
                self._envs.put_back(env)
                return None
            return env.begin_reset(seed)

        def when_reset(env: GuardedEnv, start: tuple[Observation, dict]) -> bool:
            dialogue = Dialogue(
                env,
                episode,
                start,
                seed=seed,
                member=member,
                formatter=self._formatter,
                max_model_len=self._engine.max_model_len,
            )
            self._check_problem(dialogue)
            self._tell_of("start", dialogue)
            self._request(dialogue)
            return True

        self._calls.do(make, partial(self._follow, seed, when_made))

    def _check_problem(self, dialogue: Dialogue) -> None:
        """That the members of a group can be compared."""
        seed, shown = dialogue.seed, words(dialogue.first_observation)
        if self._problems.setdefault(seed, shown) != shown:
            raise EnvFault(
                f"members of the group are shown different problems, {short(self._problems[seed])} "
                f"and {short(shown)}: the seed of reset() alone must decide the problem; "
                "`python -m sfpo_envs check` says what else is wrong with an environment"
            )

    def _advance(self, dialogue: Dialogue, reply: Completion) -> None:
        def begin() -> EnvCall | None:
            if dialogue.seed in self._result.dropped:
                self._envs.put_back(dialogue.env)
                return None
            return dialogue.env.begin_step(action)

        def go_on(env: GuardedEnv, turn: Turn) -> bool:
            is_over = dialogue.take_turn(turn)
            self._tell_of("step", dialogue)
            if not is_over:
                self._request(dialogue)
                return True
            self._finish(dialogue)
            return False

        try:
            action = dialogue.take_reply(reply, self._weights_version)
        except Exception as error:
            self._drop(dialogue.seed, error)
            self._envs.put_back(dialogue.env)
            return
        self._calls.do(begin, partial(self._follow, dialogue.seed, go_on))

    def _follow(self, seed: int, go_on: Callable[[GuardedEnv, Any], bool], call: EnvCall) -> None:
        """Goes on after a call of an environment's.

        Args:
            seed: Of its group.
            go_on: Takes the environment and what the call returned; returns whether the episode
                goes on.
            call: The call.
        """
        is_going_on = False
        try:
            returned = call.wait(self._deadline)
            if seed in self._result.dropped:  # while it was at work
                return
            is_going_on = go_on(call.env, returned)
        except (DeadlineError, CallbackError):
            raise
        except Exception as error:
            self._drop(seed, error)
        finally:
            if not is_going_on:
                self._envs.put_back(call.env)

    def _finish(self, dialogue: Dialogue) -> None:
        seed, members = dialogue.seed, self._finished[dialogue.seed]
        episode = dialogue.finish()
        self._tell_of("end", dialogue)
        members[dialogue.member] = episode
        if len(members) == len(self._members[seed]):
            self._open.discard(seed)

    def _tell_of(self, event: str, dialogue: Dialogue) -> None:
        self._tell(event, dialogue.episode, dialogue.env, dialogue.seed, dialogue.member)

    def _tell(
        self, event: str, episode: SingleAgentEpisode, env: GuardedEnv, seed: int, member: int
    ) -> None:
        if self._callbacks is not None:
            self._callbacks.episode(event, episode, env.env, self._places[seed, member])

    def _request(self, dialogue: Dialogue) -> None:
        request_id = next(_request_ids)
        max_tokens = min(self._sampling.max_tokens, dialogue.room)
        turn = len(dialogue.episode)
        self._engine.submit(
            GenerationRequest(
                request_id=request_id,
                prompt_ids=list(dialogue.token_ids),
                seed=stable_hash(*self._job.stream, dialogue.seed, dialogue.member, turn),
                sampling=replace(self._sampling, max_tokens=max_tokens),
            )
        )
        self._running[request_id] = dialogue

    def _drop(self, seed: int, error: Exception) -> None:
        """Gives up a group: whatever a user's environment does must not end the run."""
        self._result.num_envs_timed_out += isinstance(error, EnvTimeout)
        if seed in self._result.dropped:  # a sibling, which was at work by then
            return
        reason = str(error) if isinstance(error, EnvFault) else described(error)
        self._envs.faults.report(f"Group with seed {seed} is dropped: {reason}", error)
        self._result.dropped[seed] = reason
        self._open.discard(seed)
        siblings = [i for i, dialogue in self._running.items() if dialogue.seed == seed]
        if siblings:
            self._engine.abort_requests(siblings)
        for request_id in siblings:
            self._envs.put_back(self._running.pop(request_id).env)
