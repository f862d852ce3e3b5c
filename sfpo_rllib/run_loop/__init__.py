"""Runs that can be killed: `run()`, its folder, and what makes two runs the same."""

from sfpo_rllib.run_loop.loop import RunResult, run

__all__ = ["RunResult", "run"]
