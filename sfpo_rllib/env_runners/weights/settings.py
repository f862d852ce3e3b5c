"""How weights travel, and what engines do with their memory meanwhile."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sfpo_rllib.core.checks import is_int
from sfpo_rllib.env_runners.engines.vllm_settings import installed_vllm
from sfpo_rllib.env_runners.weights.ipc import IPC
from sfpo_rllib.env_runners.weights.nccl import NCCL
from sfpo_rllib.env_runners.weights.object_store import ObjectStore
from sfpo_rllib.env_runners.weights.published import WeightPublisher

LEAST_VLLM = (0, 28)  # its learners' end is another before
WEIGHT_TRANSPORTS = ("object_store", "nccl", "ipc")


@dataclass(frozen=True)
class WeightSettings:
    """Settings of the way from learners to engines.

    Attributes:
        weight_transport: One of `WEIGHT_TRANSPORTS`.
        sleep_while_learning: Whether engines give their device memory to the learners meanwhile.
        rollout_engine: The name of the engine.
        num_env_runners: Processes that sample; 0: the driver does.
        evaluation_num_env_runners: Further ones.
        num_gpus_per_env_runner: Of each.
        num_gpus_per_learner: Of each.
        tensor_parallel_size: Workers of an engine, a GPU each.
        max_staleness: See `StreamSettings`.
        lora: Whether an adapter is trained.
    """

    weight_transport: str = "object_store"
    sleep_while_learning: bool = False
    rollout_engine: Any = "vllm"
    num_env_runners: int = 0
    evaluation_num_env_runners: int = 0
    num_gpus_per_env_runner: float = 0
    num_gpus_per_learner: float = 0
    tensor_parallel_size: int = 1
    max_staleness: int = 0
    lora: bool = False

    def problems(self) -> Iterator[str]:
        """What is wrong with the values, each as `field=value: what would be right`."""
        if self.weight_transport not in WEIGHT_TRANSPORTS:
            yield f"weight_transport={self.weight_transport!r}: must be one of {WEIGHT_TRANSPORTS}"
        elif self.weight_transport != "object_store":
            yield from self._device_problems()
        if not isinstance(self.sleep_while_learning, bool):
            yield f"sleep_while_learning={self.sleep_while_learning!r}: must be True or False"
        elif self.sleep_while_learning:
            yield from self._sleep_problems()
        yield from self._parallel_problems()

    def _device_problems(self) -> Iterator[str]:
        name = f"weight_transport={self.weight_transport!r}"
        for wrong, right in (
            (self.rollout_engine != "vllm", "rollout_engine='vllm'"),
            (self.num_env_runners == 0, "num_env_runners >= 1"),
            (self.evaluation_num_env_runners > 0, "evaluation_num_env_runners=0"),
            (not self.num_gpus_per_env_runner, "num_gpus_per_env_runner > 0"),
            (not self.num_gpus_per_learner, "num_gpus_per_learner > 0"),
            (self.max_staleness > 0, "max_staleness=0, as old weights are gone"),
            (self.lora, "model_config['lora']=None, as an adapter is small"),
        ):
            if wrong:
                yield f"{name}: must be 'object_store', or {right}"
        if (installed := _vllm_version()) and installed < LEAST_VLLM:
            yield (
                f"{name}: must be 'object_store' with vllm {'.'.join(map(str, installed))}; this "
                f"takes at least {'.'.join(map(str, LEAST_VLLM))}"
            )
        shared = min(self.num_gpus_per_env_runner, self.num_gpus_per_learner) < 1
        if self.weight_transport == "nccl" and shared:
            yield (
                f"{name}: must be 'ipc' where learner and engine share a GPU; with 'nccl' "
                "num_gpus_per_env_runner and num_gpus_per_learner are at least 1"
            )
        if self.weight_transport == "ipc" and not shared:
            yield (
                f"{name}: must be 'nccl' where learner and engine have GPUs of their own; with "
                "'ipc' each has a share of one, num_gpus_per_env_runner=0.5 for instance"
            )

    def _sleep_problems(self) -> Iterator[str]:
        gpus = "num_gpus_per_env_runner" if self.num_env_runners else "num_gpus_per_learner"
        for wrong, right in (
            (self.rollout_engine != "vllm", "rollout_engine='vllm'"),
            (self.max_staleness > 0, "max_staleness=0: engines sample while learners learn"),
            (not getattr(self, gpus), f"{gpus} > 0: on a CPU there is no device memory to give"),
        ):
            if wrong:
                yield f"sleep_while_learning=True: must be False, or {right}"

    def _parallel_problems(self) -> Iterator[str]:
        size, gpus = self.tensor_parallel_size, self.num_gpus_per_env_runner
        if not is_int(size, 1):
            yield f"engine_kwargs['tensor_parallel_size']={size!r}: must be an integer >= 1"
        elif (
            self.rollout_engine == "vllm" and gpus and self.num_env_runners and size != max(gpus, 1)
        ):
            yield (
                f"engine_kwargs['tensor_parallel_size']={size}: must be "
                f"num_gpus_per_env_runner={gpus:g}; the workers of an engine are on the GPUs of "
                "its runner, one each"
            )

    @property
    def engine_kwargs(self) -> dict[str, Any]:
        """What the engine must be started with."""
        kwargs: dict[str, Any] = {}
        if self.weight_transport != "object_store":
            kwargs["weight_transfer_config"] = {"backend": self.weight_transport}
        if self.sleep_while_learning:
            kwargs["enable_sleep_mode"] = True
        if self.rollout_engine == "vllm" and self.tensor_parallel_size > 1:
            # Workers are children of the runner, on the GPUs that Ray has given it.
            kwargs["distributed_executor_backend"] = "mp"
        return kwargs

    def publisher(
        self, *, has_remote_runners: bool, members: Callable[[], Sequence[int]], timeout_s: float
    ) -> WeightPublisher:
        """The way that `weight_transport` names.

        Args:
            has_remote_runners: Whether a runner is a process of its own.
            members: The ids of the runners that may be called.
            timeout_s: Deadline of an update.
        """
        store = ObjectStore(has_remote_runners=has_remote_runners)
        if self.weight_transport == "nccl":
            return NCCL(
                members=members,
                gpus_per_engine=self.tensor_parallel_size,
                timeout_s=timeout_s,
                store=store,
            )
        return IPC(store=store) if self.weight_transport == "ipc" else store


def _vllm_version() -> tuple[int, ...] | None:
    """Major and minor, of the package that is imported as vllm, if there is one."""
    for version in installed_vllm().values():
        numbers = version.split(".")[:2]
        if all(number.isdigit() for number in numbers):
            return tuple(map(int, numbers))
    return None
