"""Batches whose log-probs are not of their own replies: refused, counted, and at last the end."""

MAX_IN_A_ROW = 3


class BatchRefused(Exception):
    """A batch must not be trained on. Its text says why.

    Attributes:
        diff: Mean |log-prob of the engine - of the learner|, nats a token.
    """

    def __init__(self, reason: str, diff: float) -> None:
        super().__init__(reason)
        self.diff = diff


class BatchGuard:
    """Says of each batch whether engine and learner speak of the same sequences.

    At equal weights the log-probs of engine and learner differ by rounding alone: 1e-7 nats a token
    in float32, some hundredths in bfloat16 or with quantized weights. A difference of half a nat,
    over all the tokens of a batch, is another thing: replies beside prompts that are not theirs,
    log-probs of other tokens, weights that are broken or long outdated.

    Its answer depends on nothing but that mean: learners that share it agree.

    Attributes:
        max_diff: The greatest mean |difference| that is trained on, nats a token. None: any.
        refused: Batches refused so far.
        in_a_row: Those since the last good one.
    """

    def __init__(self, max_diff: float | None) -> None:
        self.max_diff = max_diff
        self.refused = 0
        self.in_a_row = 0

    def check(self, diff: float) -> None:
        """Takes in the mean |difference| of a batch, before the first step on it.

        Args:
            diff: |log-prob of the engine - of the learner|, mean over the tokens that count, of
                all learners, nats.

        Raises:
            BatchRefused: If it is not within `max_diff`; NaN never is.
            RuntimeError: If so many batches were refused in a row that no good one is to come.
        """
        if self.max_diff is None or diff <= self.max_diff:
            self.in_a_row = 0
            return
        self.refused += 1
        self.in_a_row += 1
        what = (
            f"engine_logp_diff={diff:.3g}: must be <= max_engine_logp_diff={self.max_diff} nats a "
            "token, or the log-probs are not of these replies to these prompts under these weights"
        )
        if self.in_a_row < MAX_IN_A_ROW:
            raise BatchRefused(what, diff)
        raise RuntimeError(
            f"{what}; {self.in_a_row} batches in a row were refused. Does the engine run the model "
            "and the temperature that the learner trains? max_engine_logp_diff=None trains on all"
        )

    def state_dict(self) -> dict[str, int]:
        """The counters."""
        return {"refused": self.refused, "in_a_row": self.in_a_row}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Goes on from `state_dict()`."""
        self.refused = int(state["refused"])
        self.in_a_row = int(state["in_a_row"])
