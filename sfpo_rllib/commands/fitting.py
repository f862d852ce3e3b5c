"""What two commands say of memory that there is too little of."""

import sys

import typer

from sfpo_rllib.preflight import Preflight


def end_if_it_does_not_fit(memory: Preflight) -> None:
    """Says what does not fit; that ends with exit code 1, but on a host, which may swap."""
    misfits = list(memory.problems())
    for misfit in misfits:
        print(f"{'' if memory.enforced else 'may not fit: '}{misfit}", file=sys.stderr)
    if misfits and memory.enforced:
        raise typer.Exit(1)
