import json
import struct

import jax
import pytest
from tensorboardX.proto import event_pb2
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData
from tensorboardX.record_writer import masked_crc32c

from train.mlp import main
from train.report import figures
from train.run_directory.tensorboard import Events


def events_of(folder):
    """The events in the files of a folder, as TensorBoard reads them: by name, sums checked."""
    found = []
    for path in sorted(folder.glob("events.out.tfevents.*")):
        content, start = path.read_bytes(), 0
        while start < len(content):
            header = content[start : start + 8]
            (length,) = struct.unpack("<Q", header)
            data = content[start + 12 : start + 12 + length]
            sums = content[start + 8 : start + 12], content[start + 12 + length :][:4]
            for part, checksum in zip((header, data), sums, strict=True):
                assert struct.unpack("<I", checksum) == (masked_crc32c(part),)
            found.append(event_pb2.Event.FromString(data))
            start += 16 + length
    return found


def scalars(folder):
    """Value by tag and step, what a restart voids left out, as TensorBoard shows it."""
    shown = {}
    for event in events_of(folder):
        if event.session_log.status == event_pb2.SessionLog.START:
            shown = {key: value for key, value in shown.items() if key[1] < event.step}
        for value in event.summary.value:
            if value.HasField("simple_value"):
                assert (value.tag, event.step) not in shown
                shown[value.tag, event.step] = value.simple_value
    return shown


def words(folder):
    """The text by tag."""
    return {
        value.tag: value.tensor.string_val[0].decode()
        for event in events_of(folder)
        for value in event.summary.value
        if value.metadata.plugin_data.plugin_name == "text"
    }


def hparams(folder):
    """What the HParams page reads, by the end of its tag."""
    return {
        value.tag.removeprefix("_hparams_/"): HParamsPluginData.FromString(
            value.metadata.plugin_data.content
        )
        for event in events_of(folder)
        for value in event.summary.value
        if value.metadata.plugin_data.plugin_name == "hparams"
    }


def record(step, run=0, **values):
    return {"run": run, "seed": 5, "step": step, "epoch": step / 10, **values}


@pytest.mark.slow
def test_a_sweep_leaves_a_folder_for_each_run_with_its_metrics(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(figures, "bands", lambda *arguments: None)
    arguments = ["--learning-rate", "0.1", "1e30", "--optimizer", "sgd", "--hidden", "5"]
    with jax.numpy_dtype_promotion("standard"):
        steps = ["--steps", "4", "--eval-every", "2"]
        assert main([*arguments, *steps, "--tensorboard", "--out", str(tmp_path / "run")]) == 0
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    tags = {
        "loss/train": "train_loss",
        "accuracy/train": "train_accuracy",
        "loss/validation": "validation_loss",
        "accuracy/validation": "validation_accuracy",
        "loss/test": "test_loss",
        "accuracy/test": "test_accuracy",
        "epoch": "epoch",
        "seconds": "seconds",
    }
    names = ["0000_learning-rate=0.1", "0001_learning-rate=1e+30"]
    for run, rate in ((0, "0.1"), (1, "1e+30")):
        folder = tmp_path / "run" / "tensorboard" / names[run]
        expected = {
            (tag, line["step"]): pytest.approx(line[name], rel=1e-6)
            for line in lines
            if line["run"] == run
            for tag, name in tags.items()
            if line[name] is not None
        }
        assert scalars(folder) == expected
        assert f"learning-rate | {rate}\n" in words(folder)["flags/text_summary"]
        first, *_ = found = events_of(folder)
        assert first.file_version == "brain.Event:2"
        assert [e.wall_time for e in found] == sorted(e.wall_time for e in found)
        content = hparams(folder)
        values = content["session_start_info"].session_start_info.hparams
        assert {name: value.number_value for name, value in values.items()} == {
            "learning-rate": float(rate)
        }
        experiment = content["experiment"].experiment
        assert [info.name for info in experiment.hparam_infos] == ["learning-rate"]
        of = {info.name.tag for info in experiment.metric_infos}
        assert of == set(tags) - {"epoch", "seconds"}
    assert ("loss/train", 4) in scalars(folder.with_name(names[0]))
    assert ("loss/train", 4) not in scalars(folder)  # It diverged.
    assert sorted(path.name for path in folder.parent.iterdir()) == names


def test_what_a_resumed_run_repeats_is_there_once(tmp_path):
    flags = [{"hidden": "5"}]
    killed = Events(tmp_path, flags)
    for step in (0, 10, 20, 30):
        killed.append(record(step, test_loss=float(step)))
    resumed = Events(tmp_path, flags)
    for step in (20, 30, 40):
        resumed.append(record(step, test_loss=100.0 + step))
    assert len(list(tmp_path.iterdir())) == 2
    losses = {step: value for (tag, step), value in scalars(tmp_path).items() if tag == "loss/test"}
    assert losses == {0: 0.0, 10: 10.0, 20: 120.0, 30: 130.0, 40: 140.0}
    assert {tag for tag, _ in scalars(tmp_path)} == {"loss/test", "epoch"}


def test_what_is_not_known_is_not_written(tmp_path):
    events = Events(tmp_path, [{"hidden": "5"}])
    events.append(record(0, test_loss=1.0, train_loss=None))
    assert {tag for tag, _ in scalars(tmp_path)} == {"loss/test", "epoch"}


def test_a_name_has_up_to_a_hundred_letters(tmp_path):
    for count in (83, 84):  # Beside "0000_hidden=" and a number.
        flags = [{"hidden": f"{n}{'a' * count}"} for n in range(10_000, 10_002)]
        Events(tmp_path / str(count), flags).append(record(0, test_loss=1.0))
        (path,) = (tmp_path / str(count)).iterdir()
        assert len(path.name) == 100


def test_a_resumed_run_goes_on_in_its_folder_of_an_earlier_version(tmp_path):
    (tmp_path / "run-0001").mkdir()
    flags = [{"hidden": "5", "steps": 9, "seed": 0}, {"hidden": "5", "steps": 20, "seed": 1}]
    Events(tmp_path, flags).append(record(0, 1, test_loss=1.0))
    Events(tmp_path, flags).append(record(0, 0, test_loss=2.0))
    longer = [run | {"steps": 30} for run in flags]
    Events(tmp_path, longer).append(record(10, 0, test_loss=2.0))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0000_steps=9_seed=0", "run-0001"]


def test_names_of_folders_are_short_and_safe(tmp_path):
    flags = [
        {"hidden": f"{n}-" * 99, "dataset": f"../my table {n}.csv", "dropout": n / 3}
        for n in range(2)
    ]
    Events(tmp_path, flags).append(record(0, 1, test_loss=1.0))
    flags = [{name: run[name] for name in ("dropout", "dataset")} for run in flags]
    Events(tmp_path, flags).append(record(0, 0, test_loss=1.0))
    first, second = sorted(path.name for path in tmp_path.iterdir())
    assert first == "0000_dropout=0_dataset=..-my-table-0.csv"
    assert len(second) <= 100
    assert second.startswith("0001_hidden=1-1-1-")


def test_a_killed_process_leaves_what_can_be_read_up_to_there(tmp_path):
    killed = Events(tmp_path, [{"hidden": "5"}])
    killed.append(record(0, test_loss=1.0))
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    assert scalars(tmp_path)["loss/test", 0] == 1.0  # Nothing is held back until the end.
    killed.append(record(1, test_loss=2.0))
    assert path.read_bytes().startswith(whole)


def test_more_runs_than_open_files(tmp_path):
    import resource

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    events = Events(tmp_path, [{"seed": seed} for seed in range(200)])
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, limits[1]))
    try:
        for run in range(200):
            events.append(record(0, run, test_loss=float(run)))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert scalars(tmp_path / "0199_seed=199")["loss/test", 0] == 199.0


@pytest.mark.slow
def test_no_flag_no_files(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(figures, "curves", lambda *arguments: None)
    with jax.numpy_dtype_promotion("standard"):
        assert main(["--steps", "1", "--hidden", "5", "--out", str(tmp_path / "run")]) == 0
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_a_session_has_begun_and_has_no_end(tmp_path):
    Events(tmp_path, [{"hidden": "5"}]).append(record(0, test_loss=1.0))
    (path,) = tmp_path.iterdir()
    written = path.read_bytes()
    assert b"_hparams_/session_start_info" in written
    assert b"_hparams_/session_end_info" not in written


def test_of_two_folders_of_a_run_the_first_goes_on(tmp_path):
    for name in ("0000_b", "0000_a"):
        (tmp_path / name).mkdir()
    flags = [{"seed": 0}, {"seed": 1}]
    Events(tmp_path, flags).append(record(0, test_loss=1.0))
    assert [path.parent.name for path in tmp_path.rglob("events*")] == ["0000_a"]
