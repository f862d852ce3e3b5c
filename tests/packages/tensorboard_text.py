"""Texts in TensorBoard's files."""

from pathlib import Path

from tensorboardX.proto.event_pb2 import Event


def texts_in(folder: Path) -> dict[int, str]:
    """The last text of each step, as TensorBoard shows it: without what was purged."""
    found: dict[int, str] = {}
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        while data:
            length = int.from_bytes(data[:8], "little")
            event = Event.FromString(data[12 : 12 + length])
            data = data[12 + length + 4 :]
            if event.session_log.status == 1:  # START: what is of its step and later is void
                found = {step: text for step, text in found.items() if step < event.step}
            for value in event.summary.value:
                found[event.step] = value.tensor.string_val[0].decode()
    return found
