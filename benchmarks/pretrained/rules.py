"""What is compared."""

from benchmarks.update_rules.baselines import SETTINGS
from benchmarks.update_rules.strongest import CONTENDERS
from benchmarks.update_rules.variants import Variant

ONE_STEP = "grpo-1x1"
RULES: dict[str, Variant] = {**SETTINGS, **CONTENDERS}
DEFAULT_RULES = (ONE_STEP, "grpo-4x4", "grpo-4x8", "sfpo-1x16+1", "sfpo-3x4")
