"""Event files of TensorBoard, read back."""

import struct
from pathlib import Path
from typing import Any


def events(folder: Path) -> list[Any]:
    """The events in a folder's files, oldest file first: records of a length, its checksum, the event, its checksum."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.glob("events.out.tfevents.*"), key=lambda each: (each.stat().st_mtime_ns, each.name)):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            found.append(Event.FromString(data[at + 12 : at + 12 + length]))
            at += length + 16
    return found


def curves(folder: Path) -> dict[str, dict[int, float]]:
    """Values by tag and step, as TensorBoard shows them: a restart voids what was written from its step on."""
    found: dict[str, dict[int, float]] = {}
    for event in events(folder):
        if event.HasField("session_log"):
            found = {tag: {at: value for at, value in row.items() if at < event.step} for tag, row in found.items()}
        for value in event.summary.value:
            found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found
