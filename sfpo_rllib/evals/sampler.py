"""Replies to a task's problems: one engine and the environments, in this process."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from sfpo_rllib.core.checks import first_line
from sfpo_rllib.env_runners.callbacks import CallbackError
from sfpo_rllib.env_runners.digest import EpisodeDigest
from sfpo_rllib.env_runners.engines import RolloutEngine, engine_class, make_engine
from sfpo_rllib.env_runners.prompts import PromptFormatter, load_tokenizer
from sfpo_rllib.env_runners.rollout import GroupRollout, RolloutJob
from sfpo_rllib.env_runners.text_envs import EnvPool
from sfpo_rllib.evals.models import Evaluated
from sfpo_rllib.evals.replies import Reply
from sfpo_rllib.evals.settings import EvalSettings
from sfpo_rllib.evals.tasks import Task, gold_of
from sfpo_rllib.token_trace import TokenTrace

AT_ONCE = 2048  # episodes that are open: more would hold more environments, and fill no gap
# Replies that transformers decodes together on a CPU: those of a batch are kept when it is over.
CPU_BATCH_SIZE = 16


class Sampler:
    """Samples replies of one model after the other."""

    def __init__(self) -> None:
        self._engine: RolloutEngine | None = None
        self._model: Evaluated | None = None
        self._formatter: PromptFormatter

    def load(self, model: Evaluated, settings: EvalSettings) -> None:
        """Has the engine run a model. One that only needs other weights is kept.

        Raises:
            ValueError: If it is no model, or the engine does not run it.
        """
        weights = model.weights()
        if not (model.loads_like(self._model) and weights is not None):
            self.close()
            self._start(model, settings)
        assert self._engine is not None
        if weights is not None:
            try:
                self._engine.load_weights(weights)
            except (ValueError, RuntimeError) as error:
                self._model = None
                raise ValueError(
                    f"model={model.name}: its weights are not those of {model.model!r}: "
                    f"{' '.join(str(error).split())[:200]}"
                ) from error
        self._model = model

    def _start(self, model: Evaluated, settings: EvalSettings) -> None:
        source = {k: v for k, v in model.source.items() if k in ("revision", "trust_remote_code")}
        try:
            tokenizer, stop = load_tokenizer(model.model, **source)
            self._formatter = PromptFormatter(
                tokenizer,
                settings.prompt_format,
                chat_template_kwargs=settings.chat_template_kwargs,
                stop_token_ids=stop,
            )
            own = dict(settings.engine_kwargs)
            if settings.engine == "transformers" and not torch.cuda.is_available():
                own.setdefault("max_batch_size", CPU_BATCH_SIZE)
            self._engine = make_engine(
                settings.engine,
                model=model.model,
                dtype=settings.dtype,
                stop_token_ids=stop,
                gpu_share=float(torch.cuda.is_available()),
                lora=model.lora,
                **source,
                **own,
            )
        except Exception as error:  # of any kind: hubs, files, engines, models' own code
            is_here = Path(model.model).is_dir()
            where = "" if is_here else " (there is no such folder: it was taken for a hub id)"
            raise ValueError(
                f"model={model.name}: cannot be loaded with engine={settings.engine}: "
                f"{first_line(error)}{where}"
            ) from error

    def sample(
        self,
        task: Task,
        settings: EvalSettings,
        missing: Mapping[int, Sequence[int]],
        on_reply: Callable[[Reply], None],
    ) -> dict[int, str]:
        """Samples what is missing of a task.

        Args:
            task: The task.
            settings: Of the evaluation.
            missing: By problem, which replies to it.
            on_reply: Is given each, graded, as it comes.

        Returns:
            The problems that were dropped, with the reason: their environment or prompt failed.

        Raises:
            OSError: If `on_reply` does.
        """
        assert self._engine is not None
        envs = EnvPool(task.env, dict(task.env_config))
        dropped: dict[int, str] = {}
        try:
            for seeds in _parts(missing):
                rollout = GroupRollout(
                    _job(task, settings, seeds),
                    group_size=settings.samples,
                    members={seed: missing[seed] for seed in seeds},
                    sampling=settings.sampling_settings(),
                    engine=self._engine,
                    formatter=self._formatter,
                    envs=envs,
                    callbacks=_Listener(task.name, on_reply),
                )
                dropped |= rollout.run().dropped
        except CallbackError as error:
            raise (error.__cause__ or error) from None
        finally:
            envs.close()
        return dropped

    def close(self) -> None:
        """Frees the engine's memory."""
        if self._engine is not None:
            self._engine.close()
        self._engine = self._model = None


def _job(task: Task, settings: EvalSettings, seeds: tuple[int, ...]) -> RolloutJob:
    return RolloutJob(
        seeds=seeds,
        weights_version=0,
        stream=("evaluate", settings.seed, task.name),
        evaluation=True,
        timeout_s=math.inf,
    )


class _Listener:
    """Makes a `Reply` of each episode that ends."""

    def __init__(self, task: str, on_reply: Callable[[Reply], None]) -> None:
        self._task, self._on_reply = task, on_reply

    def episode(self, event: str, episode: SingleAgentEpisode, env: gym.Env, index: int) -> None:
        if event != "end":
            return
        try:
            self._on_reply(_reply(self._task, episode, env))
        except Exception as error:
            raise CallbackError(f"a reply could not be kept: {error}") from error


def _reply(task: str, episode: SingleAgentEpisode, env: gym.Env) -> Reply:
    trace, digest = TokenTrace.of(episode), EpisodeDigest.of(episode)
    replies, observations = list(episode.get_actions()), list(episode.get_observations())
    info: dict[str, Any] = episode.get_infos(-1) or {}
    dialogue = [text for turn in zip(replies, observations[1:], strict=True) for text in turn]
    answer, verdict = (info.get(name) for name in ("extracted_answer", "verdict"))
    return Reply(
        task=task,
        problem=trace.seed,
        sample=trace.member,
        prompt=observations[0],
        reply=replies[-1],
        dialogue=dialogue if len(replies) > 1 else None,
        gold=gold_of(env, trace.seed),
        answer=None if answer is None else str(answer),
        verdict=None if verdict is None else str(verdict),
        success=digest.is_success,
        reward=float(digest.episode_return),
        num_tokens=digest.num_sampled_tokens,
        truncated=digest.truncated,
    )


def _parts(missing: Mapping[int, Sequence[int]]) -> list[tuple[int, ...]]:
    """The problems, in parts of about `AT_ONCE` replies."""
    parts: list[list[int]] = [[]]
    num_open = 0
    for seed, members in missing.items():
        if num_open and num_open + len(members) > AT_ONCE:
            parts.append([])
            num_open = 0
        parts[-1].append(seed)
        num_open += len(members)
    return [tuple(part) for part in parts if part]


def engine_problems(settings: EvalSettings) -> list[str]:
    """Whether the engine is installed, and runs on this machine."""
    share = float(torch.cuda.is_available())
    said = engine_class(settings.engine).resource_problems(share)
    return [problem.replace("rollout_engine", "engine") for problem in said]
