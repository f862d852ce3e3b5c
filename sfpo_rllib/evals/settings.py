"""How replies are sampled in an evaluation, and by which engine."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from sfpo_rllib.core.checks import (
    DICT,
    integer,
    name_problems,
    none,
    one_of,
    raise_problems,
    value_problems,
)
from sfpo_rllib.core.registry import name_of
from sfpo_rllib.env_runners.engines import RolloutEngine, SamplingSettings, engine_class
from sfpo_rllib.env_runners.engines.sampling import sampling_problems
from sfpo_rllib.env_runners.prompts import PROMPT_FORMATS
from sfpo_rllib.rl_modules.weights import DTYPES

MAX_TOKENS = 2048
SIX = ("math500", "aime24", "aime25", "amc", "minerva", "olympiadbench")

# Tasks and settings of the literature.
PRESETS: dict[str, dict[str, Any]] = {
    # SFPO (arXiv 2510.04072): pass@1 as the mean of four samples, the mean of six benchmarks.
    "paper": {"tasks": SIX, "samples": 4, "sampling": {"temperature": 1.0}},
}

# Of an engine's own: how fast it is and what it fits on, not what it replies.
_ROOM = (
    "gpu_memory_utilization",
    "kv_cache_memory_bytes",
    "max_batch_size",
    "max_num_batched_tokens",
    "max_num_seqs",
    "tensor_parallel_size",
)


@dataclass(frozen=True)
class EvalSettings:
    """The settings of an evaluation, apart from its model and its tasks.

    Attributes:
        samples: k, replies to each problem.
        sampling: As in `config.env_runners()`: temperature (0 is greedy), top_p, top_k, max_tokens
            and stop.
        limit: Only so many problems of each task: those of the first seeds.
        seed: Of the replies.
        engine: "vllm", "transformers", or a class of one's own.
        engine_kwargs: The engine's own settings.
        dtype: What the engine computes in.
        prompt_format: As in `config.env_runners()`.
        chat_template_kwargs: As in `config.env_runners()`.
    """

    samples: int = 1
    sampling: Mapping[str, Any] = field(default_factory=dict)
    limit: int | None = None
    seed: int = 0
    engine: str | type[RolloutEngine] = "transformers"
    engine_kwargs: Mapping[str, Any] = field(default_factory=dict)
    dtype: str = "float32"
    prompt_format: str = "auto"
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.sampling, Mapping):
            # One reply is the likeliest one; several are drawn, as they would all be the same.
            temperature = 0.0 if self.samples == 1 else 1.0
            whole = {"temperature": temperature, "max_tokens": MAX_TOKENS, **self.sampling}
            object.__setattr__(self, "sampling", whole)

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """Settings by name.

        Raises:
            ValueError: If there are others, or values are wrong. All that is wrong is listed.
        """
        known = [each.name for each in dataclasses.fields(cls)]
        raise_problems(name_problems(given, known, "evaluate"))
        settings = cls(**given)
        raise_problems(settings.problems())
        return settings

    @property
    def is_greedy(self) -> bool:
        """Whether replies are the likeliest ones."""
        return bool(self.sampling["temperature"] == 0)

    def problems(self) -> list[str]:
        """What is wrong with the values, each as `field=value: what would be right`."""
        kinds = {
            "samples": integer(1),
            "limit": integer(1) | none("all problems"),
            "seed": integer(0),
            "dtype": one_of(*sorted(DTYPES)),
            "prompt_format": one_of(*PROMPT_FORMATS),
            "chat_template_kwargs": DICT,
        }
        found = value_problems(self, kinds) + sampling_problems(self.sampling, evaluation=True)
        if not found and self.is_greedy:
            if self.samples > 1:
                found.append(
                    f"samples={self.samples}: must be 1 with greedy decoding (temperature 0), as "
                    "all samples would be the same"
                )
            for name, off in (("top_p", 1.0), ("top_k", 0)):
                if (value := self.sampling.get(name, off)) != off:
                    found.append(
                        f"{name}={value}: must be {off:g} with greedy decoding (temperature 0), "
                        "which takes the likeliest token"
                    )
        try:
            found += engine_class(self.engine).problems(self.engine_kwargs)
        except ValueError as error:
            found.append(str(error).replace("rollout_engine", "engine", 1))
        return found

    def sampling_settings(self) -> SamplingSettings:
        """The distribution."""
        return SamplingSettings(**self.sampling)

    def identity(self) -> dict[str, Any]:
        """What replies depend on, for a file. More problems or samples change none of them."""
        return {
            "decoding": "greedy" if self.is_greedy else "sampled",
            **{k: list(v) if isinstance(v, tuple) else v for k, v in self.sampling.items()},
            "seed": self.seed,
            "engine": name_of(self.engine),
            "engine_kwargs": {k: v for k, v in self.engine_kwargs.items() if k not in _ROOM},
            "dtype": self.dtype,
            "prompt_format": self.prompt_format,
            "chat_template_kwargs": dict(self.chat_template_kwargs),
        }
