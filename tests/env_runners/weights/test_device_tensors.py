"""A learner's weights as they go to engines on other devices."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, MixtralConfig

pytest.importorskip("ray")

from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.utils.metrics import WEIGHTS_SEQ_NO

from sfpo_rllib.env_runners.weights.device_tensors import DeviceTensors
from sfpo_rllib.rl_modules import CausalLMModule
from sfpo_rllib.rl_modules.weights import unpack_weights


class Learner:
    """Has a module and a version."""

    def __init__(self, folder: Path, **model_config: Any) -> None:
        self.rl_module = CausalLMModule(
            observation_space=None,
            action_space=None,
            model_config={"model": str(folder), **model_config},
        )
        self.module = {DEFAULT_MODULE_ID: SimpleNamespace(unwrapped=lambda: self.rl_module)}
        self.version = 0

    def get_state(self, components: Any) -> dict[str, int]:
        return {WEIGHTS_SEQ_NO: self.version}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_they_are_what_goes_by_the_object_store_and_what_is_said_of_them_before(tiny_model, dtype):
    learner = Learner(tiny_model, dtype=dtype)
    source = DeviceTensors.of(learner)
    expected = unpack_weights(learner.rl_module.get_state(inference_only=True))
    sent = dict(source)
    assert sent.keys() == expected.keys()
    for name, tensor in sent.items():
        assert tensor.dtype == expected[name].dtype and torch.equal(tensor, expected[name]), name
    info = source.update_info()
    assert info["names"] == list(sent) == [weight.name for weight in source.metadata()]
    assert info["dtype_names"] == [dtype] * len(sent)
    assert info["shapes"] == [list(tensor.shape) for tensor in sent.values()]


def test_they_are_the_present_ones_each_time(tiny_model):
    learner = Learner(tiny_model)
    source = DeviceTensors.of(learner)
    learner.version = 5
    with torch.no_grad():
        learner.rl_module.lm.model.norm.weight.fill_(3.0)
    assert DeviceTensors.of(learner) is source and source.version == 5
    assert (dict(source)["model.norm.weight"] == 3.0).all()


def test_a_model_whose_checkpoints_name_weights_otherwise_is_refused(tmp_path):
    config = MixtralConfig(
        vocab_size=15,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        num_local_experts=2,
        bos_token_id=1,
        eos_token_id=1,
        pad_token_id=0,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"weight_transport: must be 'object_store'.*'mixtral'"):
        DeviceTensors.of(Learner(tmp_path))
