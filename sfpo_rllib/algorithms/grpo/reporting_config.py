"""What a config says about rollouts that are kept and shown."""

from typing import Any, Self

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.rllib.utils.annotations import override

from sfpo_rllib.algorithms.grpo.merging_config import MergingConfig


class ReportingConfig(MergingConfig):
    """Has the settings of `recordings.ReportingSettings`."""

    @override(AlgorithmConfig)
    def reporting(
        self,
        *,
        record_rollouts: int = NotProvided,
        record_rollouts_mb: float = NotProvided,
        show_replies_every: int = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Sets what of the rollouts is kept and shown; training is the same with and without.

        Args:
            record_rollouts: Groups of each batch, and of each evaluation, that are kept as Parquet
                in the run's folder, the first ones in the order of their problems; see
                `sfpo-rllib rollouts`. 0: none.
            record_rollouts_mb: When the files are larger than so many 10^6 bytes together, those of
                the oldest iterations are deleted.
            show_replies_every: Every so many iterations two replies are printed with their rewards,
                and written for TensorBoard. 0: never.
            kwargs: Of `AlgorithmConfig.reporting()`.

        Returns:
            This updated config.
        """
        super().reporting(**kwargs)
        return self.set_given(locals())
