"""Which settings vLLM has, by its source."""

from collections.abc import Callable
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path

import pytest

from sfpo_rllib.env_runners.engines import vllm_settings
from sfpo_rllib.env_runners.engines.vllm_settings import argument_names, setting_problems

needs_vllm = pytest.mark.skipif(find_spec("vllm") is None, reason="reads vLLM's source")


@needs_vllm
def test_a_name_that_vllm_does_not_have_is_refused_with_the_nearest() -> None:
    (problem,) = setting_problems({"gpu_memory_utilisation": 0.5, "max_num_seqs": 4})
    assert problem == (
        "engine_kwargs['gpu_memory_utilisation']=0.5: vLLM has no such argument; did you mean "
        "'gpu_memory_utilization'?"
    )


@needs_vllm
def test_all_that_we_name_is_known_to_vllm() -> None:
    ours = {"enforce_eager", "enable_prefix_caching", "disable_log_stats", "logprobs_mode", "seed"}
    ours |= {"enable_chunked_prefill", "enable_lora", "max_loras", "max_lora_rank"}
    ours |= {"kv_cache_memory_bytes", "max_model_len", "tensor_parallel_size", "chat_template"}
    assert ours <= argument_names()


@pytest.mark.parametrize("files", [{}, {"engine/arg_utils.py": "class Other: pass"}], ids=str)
def test_without_a_source_that_says_them_any_name_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str]
) -> None:
    (tmp_path / "vllm" / "engine").mkdir(parents=True)
    (tmp_path / "vllm" / "__init__.py").touch()
    for name, content in files.items():
        (tmp_path / "vllm" / name).write_text(content)
    monkeypatch.setattr(vllm_settings.importlib.util, "find_spec", _finding(tmp_path))
    assert setting_problems({"anything": 1}) == []


def _finding(folder: Path) -> Callable[[str], ModuleSpec | None]:

    return lambda name: PathFinder.find_spec(name, [str(folder)])
