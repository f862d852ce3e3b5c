"""How sequences are spread over micro-batches, and groups over learners."""

import bisect
import heapq
from collections.abc import Hashable, Iterator, Sequence


def micro_batches(
    lengths: Sequence[int], *, max_tokens: int, packed: bool = False
) -> list[list[int]]:
    """Cuts sequences into micro-batches of at most `max_tokens` tokens, few and even ones.

    Args:
        lengths: Of the sequences, in tokens.
        max_tokens: Of a micro-batch: padded tokens, its number of sequences times its longest one,
            or real ones if `packed`. A sequence longer than that is a micro-batch of its own.
        packed: Whether sequences are computed without padding.

    Returns:
        Indices of the sequences, each once. Padded: the longest first, so that a micro-batch has
        sequences of similar lengths. Packed: of similar numbers of tokens.
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    if packed:
        return _even_bins(order, lengths, max_tokens)
    parts = []
    while order:
        size = max(max_tokens // max(lengths[order[0]], 1), 1)
        parts.append(order[:size])
        order = order[size:]
    return parts


def prompts_together(
    prompts: Sequence[Hashable],
    prompt_lengths: Sequence[int],
    lengths: Sequence[int],
    *,
    max_tokens: int,
) -> list[list[int]]:
    """Packed micro-batches in which sequences that begin with the same prompt stay together.

    A micro-batch computes a prompt once, so it counts once. Those that do not fit into one are
    halved until they do.

    Args:
        prompts: Of the sequences: equal ones are shared.
        prompt_lengths: In tokens.
        lengths: Of the sequences with their prompts, in tokens.
        max_tokens: See `micro_batches`.

    Returns:
        See `micro_batches`; where no two prompts are equal it is the same.
    """
    groups: dict[Hashable, list[int]] = {}
    for i, prompt in enumerate(prompts):
        groups.setdefault(prompt, []).append(i)

    def tokens(group: Sequence[int]) -> int:
        shared = prompt_lengths[group[0]]
        return shared + sum(lengths[i] - shared for i in group)

    def fitting(group: list[int]) -> Iterator[list[int]]:
        if len(group) == 1 or tokens(group) <= max_tokens:
            yield group
        else:
            half = len(group) // 2
            yield from (*fitting(group[:half]), *fitting(group[half:]))

    parts = [part for group in groups.values() for part in fitting(group)]
    bins = micro_batches([tokens(part) for part in parts], max_tokens=max_tokens, packed=True)
    return [[i for part in places for i in parts[part]] for places in bins]


def _even_bins(order: Sequence[int], lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """The fewest bins that are found, as even as so many can be."""
    sizes = [lengths[i] for i in order]
    places = _packed_tight(sizes, max_tokens)
    fewest = min(max(1, -(-sum(sizes) // max_tokens)), len(sizes))
    most = max(fewest, max(places, default=-1) + 1)
    places = _spread_evenly(sizes, max_tokens, most) or places
    while fewest < most:  # an even spread may do with fewer than a tight packing
        count = (fewest + most) // 2
        if (found := _spread_evenly(sizes, max_tokens, count)) is None:
            fewest = count + 1
        else:
            places, most = found, count
    bins: list[list[int]] = [[] for _ in range(max(places, default=-1) + 1)]
    for index, place in zip(order, places, strict=True):
        bins[place].append(index)
    return bins


def _spread_evenly(sizes: Sequence[int], max_tokens: int, count: int) -> list[int] | None:
    """Each into the emptiest of `count` bins: the bin of each, or None if one overflows."""
    loads = [(0, i) for i in range(count)]
    places = []
    for size in sizes:
        load, i = loads[0]
        if load and load + size > max_tokens:
            return None
        heapq.heapreplace(loads, (load + size, i))
        places.append(i)
    return places


def _packed_tight(sizes: Sequence[int], max_tokens: int) -> list[int]:
    """Each into the fullest bin that has room for it, else into a new one: the bin of each."""
    rooms: list[tuple[int, int]] = []  # tokens that are left, and the bin, ascending
    places = []
    for size in sizes:
        fullest = bisect.bisect_left(rooms, (size, 0))
        room, i = rooms.pop(fullest) if fullest < len(rooms) else (max_tokens, len(rooms))
        bisect.insort(rooms, (room - size, i))
        places.append(i)
    return places


def even_shares(sizes: Sequence[int], num_shares: int) -> list[list[int]]:
    """Spreads items over shares of equal numbers and similar sizes.

    Args:
        sizes: Of the items, e.g. the tokens of groups.
        num_shares: Must divide the number of items.

    Returns:
        Indices of each share's items, ascending.

    Raises:
        ValueError: If the items cannot be spread evenly.
    """
    capacity, rest = divmod(len(sizes), num_shares)
    if rest:
        raise ValueError(f"num_shares={num_shares}: must divide the {len(sizes)} items")
    shares: list[list[int]] = [[] for _ in range(num_shares)]
    loads = [(0, i) for i in range(num_shares)]
    for index in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        load, i = heapq.heappop(loads)
        shares[i].append(index)
        if len(shares[i]) < capacity:
            heapq.heappush(loads, (load + sizes[index], i))
    return [sorted(share) for share in shares]
