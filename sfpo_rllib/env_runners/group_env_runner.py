"""The env runner: a language model engine over gymnasium text environments."""

import logging
from collections.abc import Collection, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import ray
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core import COMPONENT_RL_MODULE, DEFAULT_MODULE_ID
from ray.rllib.env import INPUT_ENV_SINGLE_SPACES, INPUT_ENV_SPACES
from ray.rllib.env.env_runner import EnvRunner
from ray.rllib.utils.annotations import override
from ray.rllib.utils.checkpoints import Checkpointable
from ray.rllib.utils.metrics import WEIGHTS_SEQ_NO
from ray.rllib.utils.typing import StateDict
from transformers import PreTrainedTokenizerBase

from sfpo_rllib.checkpoints import SavedAsTensors
from sfpo_rllib.env_runners.callbacks import CallbackError, EpisodeCallbacks
from sfpo_rllib.env_runners.engines import (
    Completion,
    GenerationRequest,
    SamplingSettings,
    gpu_share,
    make_engine,
)
from sfpo_rllib.env_runners.engines.probe import sample_probes
from sfpo_rllib.env_runners.env_values import EnvFault
from sfpo_rllib.env_runners.prompts import PromptFormatter, load_tokenizer
from sfpo_rllib.env_runners.rollout import GroupRollout, RolloutJob, RolloutResult
from sfpo_rllib.env_runners.text_envs import EnvPool, UnmadeEnvSpace
from sfpo_rllib.env_runners.weights import WEIGHT_OFFER, MailboxReader
from sfpo_rllib.rl_modules.model_settings import ModelSettings
from sfpo_rllib.rl_modules.weights import unpack_weights

logger = logging.getLogger(__name__)

ANY_TEXT = gym.spaces.Text(1 << 20)


class _Setting:
    """What differs between training and evaluation: environment, prompts, sampling, callbacks."""

    def __init__(
        self,
        config: AlgorithmConfig,
        runner: EnvRunner,
        tokenizer: PreTrainedTokenizerBase,
        stop: Sequence[int],
    ) -> None:
        self.config = config
        self.callbacks = EpisodeCallbacks(runner, config)
        self.formatter = PromptFormatter(
            tokenizer,
            config.prompt_format,
            chat_template_kwargs=config.chat_template_kwargs,
            stop_token_ids=stop,
        )
        self.envs = EnvPool(
            config.env,
            config.env_config,
            timeout_s=config.env_timeout_s,
            on_created=self.callbacks.environment_created,
            in_threads=config.num_env_threads > 0,
        )
        self.sampling = SamplingSettings(**config.sampling)
        self.group_size: int = config.group_size

    def members(self, seeds: Sequence[int]) -> dict[int, range]:
        """Of groups that have fewer: the last one of an evaluation has what is left."""
        if not self.config.in_evaluation:
            return {}
        last, rest = divmod(self.config.evaluation_duration, self.group_size)
        return {last: range(rest)} if rest and last in seeds else {}


class GroupEnvRunner(EnvRunner, SavedAsTensors):
    """Collects whole groups of episodes with one engine.

    It holds no RLModule: weights go straight to the engine, with their version.

    Attributes:
        weights_version: Of the weights the engine runs; -1 before the first ones arrive.
    """

    @override(EnvRunner)
    def __init__(self, *, config: AlgorithmConfig, **kwargs: Any) -> None:
        super().__init__(config=config, **kwargs)
        self.worker_index: int = kwargs.get("worker_index") or 0
        model = config.model_config
        source = ModelSettings.of(model).source
        tokenizer, stop = load_tokenizer(model["model"], **source)
        self._tokenizer = tokenizer
        own = _Setting(config, self, tokenizer, stop)
        evaluation = config.get_evaluation_config_object()  # None: for nothing else
        self._settings = {
            False: own,
            True: own if evaluation is None else _Setting(evaluation, self, tokenizer, stop),
        }
        self.weights_version = -1
        self._has_run_weights = False
        self._mailbox: MailboxReader | None = None
        self._engine: Any = None
        # What it raised when it started or took weights. RLlib would only log it, and go on.
        self._engine_error: Exception | None = None
        try:
            self._engine = make_engine(
                config.rollout_engine,
                gpu_share=gpu_share(config),
                model=model["model"],
                dtype=model.get("dtype", "float32"),
                stop_token_ids=stop,
                lora=model.get("lora"),
                **{key: value for key, value in source.items() if value},
                **config.weight_settings.engine_kwargs,
                **config.engine_kwargs,
            )
            if config.weight_sync == "in_flight" and not self._engine.takes_weights_in_flight:
                self._engine.close()
                self._engine = None
                raise ValueError(
                    "weight_sync='in_flight': must be 'between_batches' with this engine, "
                    f"{config.rollout_engine!r}, which cannot take weights while it samples"
                )
        except Exception as error:
            if kwargs.get("recreated_worker"):  # long after the algorithm has asked for it
                raise
            self._engine_error = error

    @override(EnvRunner)
    def sample(self, *, job: RolloutJob, **kwargs: Any) -> RolloutResult:
        """Samples the groups of `job`.

        Returns:
            The groups; or only `stale_version`, if the engine runs another version of the weights
            than the job asks for, or with a mailbox an older one.
        """
        if job.mailbox is not None:
            self._mailbox = self._mailbox or MailboxReader(job.mailbox)
            self._take_newest(wait=True)
            is_stale = job.weights_version > self.weights_version
        else:
            is_stale = job.weights_version != self.weights_version
        if is_stale:
            return RolloutResult(unfinished=list(job.seeds), stale_version=self.weights_version)
        setting = self._settings[job.evaluation]
        self.config = setting.config  # callbacks look at it
        try:
            self._engine.begin_job()
            result = GroupRollout(
                job,
                group_size=setting.group_size,
                members=setting.members(job.seeds),
                sampling=setting.sampling,
                engine=self._engine,
                formatter=setting.formatter,
                envs=setting.envs,
                callbacks=setting.callbacks,
                num_env_threads=setting.config.num_env_threads,
                renew_weights=None if job.mailbox is None else self._take_newest,
                is_cancelled=self._is_cancelled,
            ).run()
            self._fire_callbacks(result, setting.callbacks)
            self.metrics.log_value(
                "engine_busy_fraction", result.engine_busy_fraction, reduce="mean", window=1
            )
        except CallbackError as error:
            raise (error.__cause__ or error) from None
        finally:
            self.config = self._settings[False].config
            logged = self.metrics.reduce()  # whatever happens, the next job starts from nothing
        result.metrics = logged
        return result

    def _take_newest(self, *, wait: bool = False) -> int:
        """Takes what is new in the mailbox. Returns the version that the engine runs."""
        assert self._mailbox is not None
        if (state := self._mailbox.take(wait=wait)) is not None:
            self.set_state(state)
        return self.weights_version

    def _is_cancelled(self) -> bool:
        """Whether the driver has been interrupted, and waits for this job no more."""
        return self.worker_index > 0 and ray.get_runtime_context().is_canceled()

    def _fire_callbacks(self, result: RolloutResult, callbacks: EpisodeCallbacks) -> None:
        callbacks.sample_end([episode for group in result.groups.values() for episode in group])

    def engine_logprobs(
        self, token_ids: Sequence[Sequence[int]], prompt_lens: Sequence[int]
    ) -> list[np.ndarray]:
        """Log-probs of given replies by the path and distribution of sampling, current weights.

        Args:
            token_ids: Prompt and reply of each sequence.
            prompt_lens: Number of prompt tokens in each.

        Returns:
            For each sequence the log-probs of its reply, float32, shape (len - prompt_len,).
        """
        return self._engine.logprobs(token_ids, prompt_lens, self._settings[False].sampling)

    def sample_probes(self) -> list[tuple[GenerationRequest, Completion]]:
        """A few short replies and what they are replies to, sampled as in training.

        None of an engine whose replies are not the policy's.

        Raises:
            Exception: What the engine raised on them, when it started, or when it took weights.
        """
        if self._engine_error is not None:
            raise self._engine_error
        if not self._engine.samples_policy:
            return []
        return sample_probes(self._engine, self._tokenizer, self._settings[False].sampling)

    @override(Checkpointable)
    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> StateDict:
        """Nothing: weights and random streams are the driver's, and it sends them."""
        return {}

    @override(Checkpointable)
    def set_state(self, state: StateDict) -> None:
        """Loads weights into the engine, if there are any in `state`, and takes their version."""
        if not state.keys() & {COMPONENT_RL_MODULE, WEIGHT_OFFER} or self._engine is None:
            return
        self.weights_version = -1  # an interrupt leaves some of the old ones and some new
        try:
            self._take_weights(state)
        except Exception as error:
            self._engine_error = error
            if self._has_run_weights:
                raise
            return  # the algorithm is being built, and asks
        self._engine_error = None
        self._has_run_weights = True
        self.weights_version = int(state[WEIGHTS_SEQ_NO])
        self._engine.name_weights(self.weights_version)

    def _take_weights(self, state: StateDict) -> None:
        if (offer := state.get(WEIGHT_OFFER)) is not None:
            init_info = offer["init_info"]
            self._engine.receive_weights(
                init_info.get(self.worker_index, init_info.get(None)), offer["update_info"]
            )
            return
        module_state = state[COMPONENT_RL_MODULE]
        if isinstance(module_state, ray.ObjectRef):
            module_state = ray.get(module_state)
        self._engine.load_weights(unpack_weights(module_state[DEFAULT_MODULE_ID], copy=False))

    def sleep(self) -> None:
        """Has the engine give its memory to the learners; nothing is sampled until new weights."""
        if self._engine is not None:
            self.weights_version = -1
            self._engine.sleep()

    @override(Checkpointable)
    def get_ctor_args_and_kwargs(self) -> tuple[tuple, dict[str, Any]]:
        return (), {"config": self.config}

    @override(EnvRunner)
    def get_spaces(self) -> dict[str, tuple]:
        pool = self._settings[False].envs
        spaces: tuple[gym.Space, gym.Space]
        try:
            env = pool.take()
            try:
                if env.make():
                    pool.announce(env)
                observation_space, action_space = env.spaces()
            finally:
                pool.put_back(env)
            # RLlib wants some; nothing is checked against them.
            spaces = observation_space or ANY_TEXT, action_space or ANY_TEXT
        except (EnvFault, CallbackError) as error:
            if self.worker_index == 0:
                raise
            # Raised here it would end this process, and the driver would not learn why.
            spaces = UnmadeEnvSpace(str(error)), UnmadeEnvSpace(str(error))
        return {
            INPUT_ENV_SPACES: spaces,
            INPUT_ENV_SINGLE_SPACES: spaces,
            DEFAULT_MODULE_ID: spaces,
        }

    @override(EnvRunner)
    def get_metrics(self) -> Any:
        return self.metrics.reduce()

    @override(EnvRunner)
    def assert_healthy(self) -> None:
        # With an error the algorithm ends, and needs an answer: RLlib would start anew, for ever.
        assert self._engine is not None or self._engine_error is not None

    @override(EnvRunner)
    def stop(self) -> None:
        for setting in self._settings.values():
            setting.envs.close()
        if self._engine is not None:
            self._engine.close()
