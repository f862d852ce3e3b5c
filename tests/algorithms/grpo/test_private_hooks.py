"""Each private RLlib name the package relies on still exists.

A new release of ray may rename them without notice; these tests then say which. The list is kept
whole by the last test, which reads it off the package's source.
"""

import ast
import inspect
from pathlib import Path

import pytest
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core.learner.learner import Learner
from ray.rllib.core.learner.learner_group import LearnerGroup
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.core.rl_module.rl_module import RLModule
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.rllib.utils.actor_manager import FaultAwareApply, FaultTolerantActorManager
from ray.rllib.utils.checkpoints import Checkpointable
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger
from ray.tune import Trainable, registry

from sfpo_rllib import GRPO, SFPO, GRPOConfig
from sfpo_rllib.algorithms.grpo.fsdp import FSDPLearnerGroup, FSDPTorchLearner
from sfpo_rllib.algorithms.grpo.grpo_torch_learner import GRPOTorchLearner
from sfpo_rllib.algorithms.grpo.learner_actors import LearnerActors
from sfpo_rllib.algorithms.grpo.learner_group import GRPOLearnerGroup
from sfpo_rllib.algorithms.grpo.optimizer_learner import OptimizerLearner
from sfpo_rllib.algorithms.grpo.recording import Recording
from sfpo_rllib.algorithms.grpo.recording_learner import RecordingLearner
from sfpo_rllib.algorithms.with_update_rule import UpdateRuleLearnerMixin
from sfpo_rllib.algorithms.with_update_rule.config import UpdateRuleConfigMixin
from sfpo_rllib.algorithms.with_update_rule.rewindable_metrics import RewindableMetrics
from sfpo_rllib.checkpoints import CheckpointedAlgorithm, CheckpointedLearner, SavedAsTensors
from sfpo_rllib.connectors import GroupRelativeAdvantages, TokenBatch
from sfpo_rllib.env_runners import GroupEnvRunner
from sfpo_rllib.rl_modules import CausalLMModule

# Overridden: RLlib's own method must be there, take these arguments, and be called.
OVERRIDDEN = [
    (TorchLearner, "_update", ["self", "batch"]),
    (TorchRLModule, "_forward_train", ["self", "batch"]),
    (Algorithm, "_should_create_evaluation_env_runners", ["eval_config"]),
    (Algorithm, "_get_env_id_and_creator", ["env_specifier", "config"]),
    (Learner, "_make_module", ["self"]),
    (TorchLearner, "_map_module_to_device", ["self", "module"]),
    (TorchLearner, "_make_modules_ddp_if_necessary", ["self"]),
    (TorchLearner, "_get_optimizer_state", ["self"]),
    (TorchLearner, "_set_optimizer_state", ["self", "state"]),
]


@pytest.mark.parametrize(("base", "name", "arguments"), OVERRIDDEN)
def test_methods_we_override_take_the_same_arguments(base, name, arguments):
    signature = inspect.signature(getattr(base, name))
    # Once ray has made an actor of a class, its methods take a trace context besides.
    added = ("args", "kwargs", "_ray_trace_ctx")
    assert [p for p in signature.parameters if p not in added] == arguments


CALLERS = [
    (Learner.update, "self._update("),
    (RLModule.forward_train, "self._forward_train("),
    (TorchRLModule.forward_train, "self.train()"),
    (TorchRLModule.forward_train, "super().forward_train("),
    (TorchLearner._make_module, "self._map_module_to_device("),
    (TorchLearner.build, "self._make_modules_ddp_if_necessary("),
    (Learner.get_state, "self._get_optimizer_state("),
    (Learner.set_state, "self._set_optimizer_state("),
    (Algorithm.default_resource_request, "cls._should_create_evaluation_env_runners("),
    (Algorithm.setup, "self._should_create_evaluation_env_runners("),
    (Algorithm.setup, "self._get_env_id_and_creator("),
    # Our own restore_from_path stands between the two.
    (Algorithm.restore_from_path, "super().restore_from_path("),
    # Public; called with what runners say of their environments.
    (Algorithm.setup, "self.config.build_env_to_module_connector("),
    (FaultAwareApply.apply, "func(self, *args, **kwargs)"),
    # Public; what is logged by the dict has to pass our own log_value.
    (MetricsLogger.log_dict, "self.log_value("),
]


@pytest.mark.parametrize(("function", "call"), CALLERS)
def test_rllib_calls_what_we_override(function, call):
    assert call in inspect.getsource(function)


def test_the_model_config_takes_in_what_we_add():
    assert isinstance(
        inspect.getattr_static(AlgorithmConfig, "_model_config_auto_includes"), property
    )
    config = GRPOConfig().env_runners(sampling={"temperature": 0.25})
    assert config.model_config["temperature"] == 0.25


USED = [
    (Learner, "_check_component"),
    (Algorithm, "_check_component"),
    (Algorithm, "_make_on_env_runners_recreated_callbacks"),
    (Checkpointable, "_check_component"),
    (Checkpointable, "_get_subcomponents"),
    (FaultTolerantActorManager, "_call_actors"),
    (registry, "_global_registry"),
    (TorchLearner, "_set_optimizer_lr"),
]


@pytest.mark.parametrize(("owner", "name"), USED)
def test_names_we_call_exist(owner, name):
    assert hasattr(owner, name)


ATTRIBUTES = [
    (Trainable, "_storage"),
    (Learner, "_params"),
    (Learner, "_optimizer_parameters"),
    (Learner, "_named_optimizers"),
    (Learner, "_optimizer_lr_schedules"),
    (Learner, "_weights_seq_no"),
    (TorchLearner, "_device"),
    (EnvRunnerGroup, "_worker_manager"),
    (LearnerGroup, "_worker_manager"),
    (LearnerGroup, "_workers"),
    (LearnerGroup, "_learner"),
    (AlgorithmConfig, "_learner_connector"),
    (AlgorithmConfig, "_train_batch_size_per_learner"),
    (AlgorithmConfig, "_rl_module_spec"),
]


@pytest.mark.parametrize(("owner", "name"), ATTRIBUTES)
def test_attributes_we_read_are_set(owner, name):
    assert f"self.{name}" in inspect.getsource(owner)


def test_the_actor_manager_hands_out_handles_and_takes_their_state():
    assert {"actors", "set_actor_state"} <= set(dir(FaultTolerantActorManager))
    assert "healthy" in inspect.signature(FaultTolerantActorManager.set_actor_state).parameters


def test_the_registry_knows_what_contains_and_get_take():
    for method in ("contains", "get"):
        parameters = inspect.signature(getattr(registry._Registry, method)).parameters
        assert list(parameters) == ["self", "category", "key"]
    assert not registry._global_registry.contains(registry.ENV_CREATOR, "no such environment")


OURS = [
    GRPO,
    SFPO,
    GRPOConfig,
    GRPOTorchLearner,
    OptimizerLearner,
    Recording,
    RecordingLearner,
    FSDPTorchLearner,
    FSDPLearnerGroup,
    GRPOLearnerGroup,
    LearnerActors,
    UpdateRuleLearnerMixin,
    UpdateRuleConfigMixin,
    RewindableMetrics,
    CheckpointedAlgorithm,
    CheckpointedLearner,
    SavedAsTensors,
    CausalLMModule,
    GroupEnvRunner,
    TokenBatch,
    GroupRelativeAdvantages,
]


def private_names(ours: type) -> set[str]:
    """Private names of RLlib's that our class mentions or overrides."""
    source = ast.parse(Path(inspect.getfile(ours)).read_text())
    mentioned = {node.attr for node in ast.walk(source) if isinstance(node, ast.Attribute)}
    mentioned |= {node.name for node in ast.walk(source) if isinstance(node, ast.FunctionDef)}
    theirs: set[str] = set()
    for base in ours.__mro__:
        if base.__module__.startswith("ray."):
            theirs |= set(vars(base))
            theirs |= {
                node.attr
                for node in ast.walk(ast.parse(inspect.getsource(inspect.getmodule(base))))
                if isinstance(node, ast.Attribute)
                and isinstance(node.ctx, ast.Store)
                and isinstance(node.value, ast.Name)
                and node.value.id == "self"
            }
    return {
        name for name in mentioned & theirs if name.startswith("_") and not name.startswith("__")
    }


def test_the_lists_above_are_whole():
    listed = {name for _, name, *_ in [*OVERRIDDEN, *USED, *ATTRIBUTES]}
    listed |= {"_model_config_auto_includes"}
    found = {name for ours in OURS for name in private_names(ours)}
    assert found - listed == set()
