"""What of the rollouts is kept and shown."""

from dataclasses import dataclass

from sfpo_rllib.core.checks import integer, number, value_problems


@dataclass(frozen=True)
class ReportingSettings:
    """How many rollouts are kept and shown; `GRPOConfig.reporting()` says what each does."""

    record_rollouts: int = 0
    record_rollouts_mb: float = 512.0
    show_replies_every: int = 0

    def problems(self) -> list[str]:
        """What is wrong with the values, each as `field=value: what would be right`."""
        kinds = {
            "record_rollouts": integer(0, " (groups of a batch; 0: none)"),
            "record_rollouts_mb": number(above=0.0, unit=" (10^6 bytes)"),
            "show_replies_every": integer(0, " (iterations; 0: never)"),
        }
        return value_problems(self, kinds)
