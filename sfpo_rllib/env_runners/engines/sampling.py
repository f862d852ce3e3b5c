"""What a reply is sampled from and where it ends, and what may not be set about it."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from sfpo_rllib.core.checks import Kind, integer, name_problems, number, value_problems

# Settings of vLLM's and transformers' samplers that change the distribution, by what they do.
_RESHAPING = {
    "forbids or forces tokens": """
        allowed_token_ids bad_words bad_words_ids begin_suppress_tokens constraints
        force_words_ids forced_bos_token_id forced_eos_token_id grammar guided_choice
        guided_decoding guided_grammar guided_json guided_regex min_length min_new_tokens
        min_tokens no_repeat_ngram_size prefix_allowed_tokens_fn response_format
        structured_outputs suppress_tokens thinking_token_budget
    """,
    "moves logits": """
        encoder_repetition_penalty exponential_decay_length_penalty frequency_penalty
        guidance_scale length_penalty logit_bias logits_processor logits_processors
        penalty_alpha presence_penalty repetition_penalty sequence_bias watermarking_config
    """,
    "cuts the distribution off": """
        epsilon_cutoff eta_cutoff min_p tfs top_a top_h top_n_sigma typical_p
    """,
    "is no sampling": """
        best_of beam_width num_beams use_beam_search
    """,
}
RESHAPING = {name: what for what, names in _RESHAPING.items() for name in names.split()}
# Settings of engines that would part log-probs from what is sampled from.
NOT_THE_POLICYS = ("logits_processors", "logprobs_mode")


@dataclass(frozen=True)
class SamplingSettings:
    """The distribution replies are sampled from (the rollout policy's), and where they end.

    Attributes:
        temperature: Logits are divided by it. 0 is greedy.
        max_tokens: Longest reply, in tokens.
        top_p: Nucleus: the smallest set of tokens of this probability is kept.
        top_k: Number of tokens kept, 0 for all.
        stop: A reply also ends with the token that completes one of these strings in its text. Its
            tokens are kept whole, the string and what may follow it in the last one included.
    """

    temperature: float = 1.0
    max_tokens: int = 256
    top_p: float = 1.0
    top_k: int = 0
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        stop = self.stop
        if isinstance(stop, str):
            stop = (stop,)
        elif isinstance(stop, list):
            stop = tuple(stop)
        object.__setattr__(self, "stop", stop)

    def problems(self, *, evaluation: bool) -> list[str]:
        """What is wrong with the values, each as `field=value: what would be right`.

        Args:
            evaluation: Nothing is trained on the replies. The log-probs of greedy and truncated
                sampling are of another distribution than the learner's, over the whole vocabulary,
                so that their ratio would be biased.
        """
        kinds = {
            "max_tokens": integer(1),
            "temperature": number(above=0.0, unit=" (0, greedy, in evaluation only)"),
            "top_p": number(above=0.0, most=1.0),
            "top_k": integer(0),
            "stop": _STRINGS,
        }
        if evaluation:
            kinds["temperature"] = number(least=0.0, unit=" (0: greedy)")
        # All of the distribution, for values that are some distribution's.
        if not evaluation and kinds["top_p"].holds(self.top_p):
            kinds["top_p"] = Kind(lambda top_p: top_p == 1, "1 except in evaluation")
        if not evaluation and kinds["top_k"].holds(self.top_k):
            kinds["top_k"] = Kind(lambda top_k: top_k == 0, "0 except in evaluation")
        return value_problems(vars(self), kinds, "sampling")


_STRINGS = Kind(
    lambda stop: isinstance(stop, tuple) and all(isinstance(s, str) and s for s in stop),
    "a string or a list of strings, none of them empty",
)


def sampling_problems(given: Any, *, evaluation: bool) -> list[str]:
    """What is wrong with settings as a user gives them, unknown names among them."""
    if not isinstance(given, Mapping):
        return [f"sampling={given!r}: must be a dict"]
    keys = [field.name for field in fields(SamplingSettings)]
    reshaping = [] if evaluation else [key for key in given if key in RESHAPING]
    known = {key: value for key, value in given.items() if key in keys}
    others = {key: value for key, value in given.items() if key not in reshaping}
    return [
        *(
            f"sampling[{key!r}]={given[key]!r}: must be left out, {_why_not(key)}"
            for key in reshaping
        ),
        *name_problems(others, keys, "sampling"),
        *SamplingSettings(**known).problems(evaluation=evaluation),
    ]


def engine_kwargs_problems(given: Mapping[str, Any]) -> list[str]:
    """What among an engine's own settings would change the distribution or its log-probs."""
    problems = []
    if processors := given.get("logits_processors"):
        problems.append(
            f"engine_kwargs['logits_processors']={processors!r}: must be left out, "
            f"{_why_not('logits_processors')}"
        )
    executor = given.get("distributed_executor_backend")
    if executor not in (None, "uni", "mp"):
        problems.append(
            f"engine_kwargs['distributed_executor_backend']={executor!r}: must be 'mp' or left "
            "out; the workers of an engine are children of its runner, on its GPUs"
        )
    mode = given.get("logprobs_mode", "processed_logprobs")
    if mode != "processed_logprobs":
        problems.append(
            f"engine_kwargs['logprobs_mode']={mode!r}: must be 'processed_logprobs', those of what "
            "is sampled from; raw ones do not know the temperature"
        )
    return problems


def _why_not(name: str) -> str:
    return (
        f"as it {RESHAPING[name]}: replies would be sampled, with their log-probs, from a "
        "distribution that is not the policy's, and the learner's ratio to it would be biased"
    )
