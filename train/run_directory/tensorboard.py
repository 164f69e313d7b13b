"""TensorBoard event files of a run or a sweep, one folder for each run.

A file is opened for each evaluation anew: a sweep may have more runs than a process may have open
files.
"""

import os
import re
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorboardX import summary
from tensorboardX.proto import event_pb2, summary_pb2
from tensorboardX.record_writer import masked_crc32c

from train.metrics import METRICS, SETS, Record, names_on

_LONGEST_NAME = 100  # Letters; a file system allows 255.


class Events:
    """The event files of this process.

    The first record of a run begins a file that voids all events of an earlier process from that
    step on: what a resumed run repeats is not there twice.
    """

    def __init__(self, folder: Path, runs: Sequence[Mapping[str, Any]]):
        """Write nothing yet.

        Args:
            folder: where the folders of the runs of a sweep belong, or the files of a single run.
            runs: the flags of each run, by name.
        """
        self._folder, self._runs = folder, runs
        self._differing = [
            name for name in runs[0] if len({str(run.get(name)) for run in runs}) > 1
        ]
        self._files: dict[int, Path] = {}

    def append(self, record: Record) -> None:
        """Write the metrics of a record, and before a run's first also its flags.

        They are there as text, and for the HParams page, which compares the runs by them.
        """
        run, step = record["run"], record["step"]
        if run not in self._files:
            folder = self._folder if len(self._runs) == 1 else self._folder_of(run)
            folder.mkdir(parents=True, exist_ok=True)
            # TensorBoard reads the files of a folder in the order of their names.
            name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"
            self._files[run] = folder / name
            restart = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            flags = self._runs[run]
            words = "\n".join(
                ["flag | value", "--- | ---"]
                + [f"{key.replace('_', '-')} | {value}" for key, value in flags.items()]
            )
            shown = self._differing or [n for n in flags if n not in ("out", "resume", "data_dir")]
            tags = [_tag(name) for of in SETS for name in names_on(of) if name in record]
            now = time.time()
            self._write(
                run,
                event_pb2.Event(wall_time=now, file_version="brain.Event:2"),
                event_pb2.Event(wall_time=now, step=step, session_log=restart),
                event_pb2.Event(wall_time=now, summary=summary.text("flags", words)),
                # The experiment and the start of the session; a session that runs has no end.
                *(
                    event_pb2.Event(wall_time=now, summary=part)
                    for part in summary.hparams(
                        {name.replace("_", "-"): flags[name] for name in shown},
                        dict.fromkeys(tags),
                    )[:2]
                ),
            )
        values = [
            value
            for name, number in record.items()
            if name not in ("run", "seed", "step") and number is not None
            for value in summary.scalar(_tag(name), number).value
        ]
        found = summary_pb2.Summary(value=values)
        self._write(run, event_pb2.Event(wall_time=time.time(), step=step, summary=found))

    def _folder_of(self, run: int) -> Path:
        """The folder of a run: its number and the flags that differ, or what it was before."""
        number = f"{run:04d}"
        # A resumed run goes on in its folder, whose name may be that of an earlier version.
        for name in (f"run-{number}", f"{number}_*"):
            if found := sorted(self._folder.glob(name)):
                return found[0]
        values = ((name, self._runs[run].get(name)) for name in self._differing)
        parts = [
            f"{name.replace('_', '-')}={value:g}"
            if isinstance(value, float)
            else f"{name.replace('_', '-')}={value}"
            for name, value in values
            if value is not None
        ]
        # Letters that no file system, shell or address of a page takes for something else.
        safe = re.sub(r"[^A-Za-z0-9_.=+-]+", "-", "_".join([number, *parts]))
        return self._folder / safe[:_LONGEST_NAME].rstrip(".-_=")

    def _write(self, run: int, *events: event_pb2.Event) -> None:
        """Append events as TFRecords: length, its checksum, data, their checksum."""
        with self._files[run].open("ab") as file:
            for event in events:
                data = event.SerializeToString()
                length = struct.pack("<Q", len(data))
                for part in (length, data):
                    file.write(part + struct.pack("<I", masked_crc32c(part)))


def _tag(name: str) -> str:
    """`test_loss` is loss/test: TensorBoard shows what begins alike together."""
    of, _, metric = name.partition("_")
    return f"{metric}/{of}" if metric in METRICS else name
