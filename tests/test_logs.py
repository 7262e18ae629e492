"""train/logs.py, provenance.py, progress.py and curves.py: what a run leaves behind."""

import contextlib
import io
import json
import math
import re
import struct
import subprocess

import matplotlib.image
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from core.exits import STORAGE, Stop
from train import provenance
from train.curves import COLORS, SKIPPED, draw
from train.logs import Metrics, read_json, read_metrics, write_bytes, write_json
from train.progress import Progress


def steps_in(folder):
    return [line["step"] for line in read_metrics(folder)]


def test_what_is_written_can_be_read_at_once_and_to_the_bit(tmp_path):
    loss = np.float32(1) / np.float32(3)
    with Metrics(tmp_path) as metrics:
        metrics.write(50, {"loss": loss, "skipped": np.int32(2)})
        metrics.write(100, {"loss": math.nan, "grad_norm": -math.inf})
        first, second = read_metrics(tmp_path)  # not closed: as a crash would leave it
    assert first == {"step": 50, "loss": float(loss), "skipped": 2}
    assert math.isnan(second["loss"])
    assert second["grad_norm"] == -math.inf


def test_every_line_is_json_for_strict_readers_too(tmp_path):
    with Metrics(tmp_path) as metrics:
        metrics.write(1, {"loss": math.nan, "rate": math.inf})

    def refuse(constant):
        raise AssertionError(constant)

    line = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(line, parse_constant=refuse)["rate"] == "inf"


@pytest.mark.parametrize("tear", [1, 5, 29])
def test_a_torn_last_line_is_dropped_when_the_run_is_opened_again(tmp_path, tear):
    with Metrics(tmp_path) as metrics:
        metrics.write(1, {"loss": 2.5})
        metrics.write(2, {"loss": 2.25})
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-tear])
    expected = [1] if tear < 29 else []
    assert steps_in(tmp_path) == expected
    with Metrics(tmp_path) as metrics:
        metrics.write(2, {"loss": 2.0})
    assert steps_in(tmp_path) == [*expected, 2]


def test_a_resumed_run_has_each_step_once(tmp_path):
    with Metrics(tmp_path) as metrics:
        for step in (10, 20, 30):
            metrics.write(step, {"loss": 1.0})
    with Metrics(tmp_path) as metrics:
        metrics.cut(20)
        assert steps_in(tmp_path) == [10, 20]
        metrics.write(30, {"loss": 0.5})
    assert steps_in(tmp_path) == [10, 20, 30]
    assert read_metrics(tmp_path)[-1]["loss"] == 0.5


def test_a_step_cannot_be_logged_twice(tmp_path):
    with Metrics(tmp_path) as metrics:
        metrics.write(10, {"loss": 1.0})
    with Metrics(tmp_path) as metrics, pytest.raises(AssertionError, match="10 after"):
        metrics.write(10, {"loss": 1.0})


@pytest.mark.parametrize("damage", [b"\0\0\0\n", b'{"loss": 1.0}\n', b"[]\n"])
def test_a_damaged_line_in_the_middle_is_named_and_kept(tmp_path, damage):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n' + damage + b'{"step": 3}\n')
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"metrics\.jsonl:2 is damaged"):
        Metrics(tmp_path)
    assert path.read_bytes() == before


def test_a_full_disk_stops_the_run_with_the_code_for_storage(tmp_path):
    with Metrics(tmp_path) as metrics:
        metrics._file.close()
        metrics._file = open("/dev/full", "ab", buffering=0)  # noqa: SIM115
        with pytest.raises(Stop, match=r"metrics\.jsonl: No space left") as stop:
            metrics.write(1, {"loss": 1.0})
    assert stop.value.code == STORAGE


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "summary.json"
    write_json(path, {"loss": 1.0})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(Stop, match=r"summary\.json: No space left"):
        write_json(path, {"loss": 2.0})
    assert read_json(path) == {"loss": 1.0}
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_on_disk_before_its_name_and_its_name_before_return(
    tmp_path, monkeypatch
):
    calls = []
    monkeypatch.setattr("os.fsync", lambda _: calls.append("fsync"))
    replace = type(tmp_path).replace
    monkeypatch.setattr(
        type(tmp_path),
        "replace",
        lambda *paths: (calls.append("rename"), replace(*paths)),
    )
    write_bytes(tmp_path / "x", b"1")
    assert calls == ["fsync", "rename", "fsync"]


def test_json_keeps_infinities_and_umlauts(tmp_path):
    tree = {"clip_norm": math.inf, "name": "Zürich", "betas": (0.9, 0.95), "n": [1]}
    write_json(tmp_path / "config.json", tree)
    assert "Zürich" in (tmp_path / "config.json").read_text(encoding="utf-8")
    assert read_json(tmp_path / "config.json") == tree | {"betas": [0.9, 0.95]}
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is not JSON"):
        read_json(tmp_path / "config.json")


def test_half_a_line_on_the_last_block_of_a_disk_is_noticed_and_dropped(tmp_path):
    class Nearly(io.FileIO):
        def write(self, data):
            return super().write(data[:10])

    with Metrics(tmp_path) as metrics:
        metrics.write(1, {"loss": 1.0})
        metrics._file.close()
        metrics._file = Nearly(tmp_path / "metrics.jsonl", "a")
        with pytest.raises(Stop, match="No space left"):
            metrics.write(2, {"loss": 1.0})
    assert steps_in(tmp_path) == [1]


@pytest.mark.parametrize("end", [Metrics.sync, Metrics.close])
def test_a_full_disk_under_the_events_stops_the_run_and_does_not_hang(tmp_path, end):
    metrics = Metrics(tmp_path)
    metrics.write(1, {"loss": 1.0})
    records = metrics._events._writer._py_recordio_writer
    records._writer.close()
    records._writer = full = open("/dev/full", "wb")  # noqa: SIM115
    for step in range(2, 20):
        metrics.write(step, {"loss": 1.0})
    with pytest.raises(Stop, match="No space left") as stop:
        end(metrics)
    assert stop.value.code == STORAGE
    metrics._file.close()
    with contextlib.suppress(OSError):
        full.close()


def test_what_a_checkpoint_waited_for_survives_in_both_records(tmp_path):
    with Metrics(tmp_path) as metrics:
        metrics.write(1, {"loss": 1.0})
        metrics.sync()
        (path,) = tmp_path.glob("events.out.tfevents.*")
        steps = [event.step for event in events_in(path) if event.HasField("summary")]
        assert steps == steps_in(tmp_path) == [1]


def events_in(path):
    data, place = path.read_bytes(), 0
    while place < len(data):
        (length,) = struct.unpack_from("<Q", data, place)
        yield Event.FromString(data[place + 12 : place + 12 + length])
        place += 16 + length


def test_tensorboard_gets_the_same_numbers_and_forgets_what_was_cut(tmp_path):
    with Metrics(tmp_path) as metrics:
        metrics.write(10, {"loss": 2.0, "rate": math.nan})
        metrics.write(20, {"loss": 1.0})
    with Metrics(tmp_path) as metrics:
        metrics.cut(10)
        metrics.write(20, {"loss": 1.5})
    files = sorted(tmp_path.glob("events.out.tfevents.*"), key=lambda p: p.suffix)
    first, second = ([*events_in(file)] for file in files)
    scalars = [
        (event.step, value.tag, value.simple_value)
        for event in (*first, *second)
        for value in event.summary.value
    ]
    assert scalars == [(10, "loss", 2.0), (20, "loss", 1.0), (20, "loss", 1.5)]
    starts = [event.step for event in second if event.HasField("session_log")]
    assert starts == [11]


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("--config.data.token=abc", "--config.data.token=[hidden]"),
        ("--api_key=abc", "--api_key=[hidden]"),
        ("--config.packing.max_tokens=64", "--config.packing.max_tokens=64"),
        ("--config.num_tokens=1000", "--config.num_tokens=1000"),
        ("--data=https://me:pw@host/x", "--data=https://[hidden]@host/x"),
        ("hf_abcdefghijklmnopqrstuvwx", "[hidden]"),
        ("--x=prefix-correcthorse-suffix", "--x=prefix-[hidden]-suffix"),
        ("--workdir=runs/localize", "--workdir=runs/localize"),
    ],
)
def test_secrets_do_not_reach_the_record(word, shown):
    environment = {"MY_SECRET": "correcthorse", "AUTH": "runs", "HOME": "localize"}
    assert provenance.redacted([word], environment) == [shown]


def test_a_secret_after_its_flag_is_hidden_and_the_next_flag_is_not():
    command = ["--password", "abc", "x", "--token", "--verbose"]
    hidden = ["--password", "[hidden]", "x", "--token", "--verbose"]
    assert provenance.redacted(command, {}) == hidden


def test_provenance_is_json_and_names_versions_and_devices(tmp_path):
    write_json(tmp_path / "provenance.json", provenance.provenance(["launch.py"]))
    record = read_json(tmp_path / "provenance.json")
    assert record["command"] == ["launch.py"]
    assert (record["device_platform"], record["num_devices"]) == ("cpu", 4)
    assert re.match(r"0\.\d+\.\d+", record["versions"]["jax"])
    assert record["started"].endswith("+00:00")


def test_the_commit_is_that_of_our_checkout_and_of_no_other(tmp_path):
    def git(*words):
        who = ["-c", "user.name=x", "-c", "user.email=x@example.com"]
        words = ["git", "-C", str(tmp_path), *who, *words]
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout

    git("init", "--quiet")
    unknown = {"commit": None, "dirty": None}
    assert provenance._code(tmp_path) == unknown  # no commit yet
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "x").write_text("1")
    git("add", ".")
    git("commit", "--quiet", "-m", "x")
    head = git("rev-parse", "HEAD").strip()
    assert provenance._code(tmp_path) == {"commit": head, "dirty": False}
    (tmp_path / "inner" / "x").write_text("2")
    assert provenance._code(tmp_path) == {"commit": head, "dirty": True}
    assert provenance._code(tmp_path / "inner") == unknown


VALUES = {"loss": 2.3451, "val_loss": 2.3, "rate": 1e-3, "tokens_per_second": 12345.4}


def test_a_log_file_gets_one_plain_line_a_log_step(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    file, times = io.StringIO(), [5.0]
    with Progress(900, 0, file=file, clock=lambda: times[-1]) as progress:
        progress.at(50)
        times.append(15.5)
        progress.show(100, VALUES | {"skipped": 0, "grad_norm": 1.0})
        progress.say("warning: [x] 'y'")
    assert file.getvalue() == (
        "step 100/900  loss 2.345  val_loss 2.300  rate 1.0e-03  12,345 tokens/s"
        "  2:48 left\n"
        "warning: [x] 'y'\n"
    )


def test_the_first_line_of_a_resumed_run_promises_no_time():
    file = io.StringIO()
    with Progress(900, 400, noun="text", file=file) as progress:
        progress.show(450, {"loss": math.nan, "skipped": 3})
    assert file.getvalue() == "text 450/900  loss nan  3 skipped\n"


def test_a_terminal_gets_a_bar_that_moves_and_keeps_the_validation_loss(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    file = Terminal()
    with Progress(900, 0, file=file) as progress:
        progress.show(100, VALUES)
        progress.say("one line")
        progress.show(200, {"loss": 2.1})
        progress.at(201)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue())
    last = [line for line in re.split(r"[\r\n]", text) if line.strip()][-1]
    assert re.search(
        r"step 201/900 .* loss 2\.100 {2}val_loss 2\.300 {2}rate .*\d left", last
    )
    assert "\n" in text[text.index("one line") :]


def rgb(color):
    return np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)])


def shows(path, color):
    pixels = np.round(matplotlib.image.imread(path)[..., :3] * 255)
    return bool((pixels == rgb(color)).all(-1).any())


def test_curves_show_what_was_logged_and_leave_out_what_was_not(tmp_path):
    with Metrics(tmp_path) as metrics:
        metrics.write(1, {"loss": 3.0})
        metrics.write(2, {"loss": math.inf})
        metrics.write(3, {"loss": 2.0})
        path = draw(tmp_path)
        training, validation = COLORS
        assert path == tmp_path / "curves.png"
        assert shows(path, training)
        assert not shows(path, validation)
        metrics.write(4, {"loss": 2.0, "val_loss": 2.5})
        assert shows(draw(tmp_path), validation)
    assert not list(tmp_path.glob(".*"))


def test_curves_have_no_panel_for_what_was_never_a_number(tmp_path):
    pictures = []
    for values in ({"loss": 3.0}, {"loss": 3.0, "rate": math.nan, "grad_norm": 0.0}):
        (tmp_path / "metrics.jsonl").unlink(missing_ok=True)
        with Metrics(tmp_path) as metrics:
            metrics.write(1, values)
        pictures.append(draw(tmp_path).read_bytes())
    assert pictures[0] == pictures[1]


def test_curves_mark_the_steps_that_were_skipped(tmp_path):
    def reds(counts):
        folder = tmp_path / "-".join(map(str, counts))
        folder.mkdir()
        with Metrics(folder) as metrics:
            for step, count in enumerate(counts, 1):
                metrics.write(step, {"skipped": count})
        pixels = matplotlib.image.imread(draw(folder))[..., :3] * 255
        line = 0.6 * rgb(SKIPPED) + 0.4 * 255
        near = np.abs(pixels - line).max(-1) < 40
        return int((near.sum(0) > 300).sum())  # columns that are red from end to end

    assert reds([0, 0, 0]) == 0
    one, two = reds([0, 2, 2]), reds([0, 2, 3])
    assert 0 < one < two


def test_curves_of_a_run_that_logged_nothing_say_so(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"metrics\.jsonl"):
        draw(tmp_path)
