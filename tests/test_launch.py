"""launch and core/command: what is typed is run, or one line."""

import ast
import io
import math
import pathlib
import shlex
import subprocess
import sys
import types
from typing import Literal

import pytest

import launch
from core.exits import NUMERICS, Stop
from core.refusal import LIMIT
from core.registry import Block, Entry, Range
from core.types import Number


def run(
    *, num_steps: int, seed: int = 0, num_epochs: Number = 0.0, init_from: str = ""
):
    """The top of the config."""


def tsv(*, files: tuple[str, ...], shares: tuple[Number, Number] = (0.5, 0.5)):
    """A source."""


def adam(*, b1: Number = 0.9, b2: Number = 0.999, sparse: bool = False):
    """A rule."""


def sgd(*, momentum: Number = 0.9, mode: Literal["plain", "nesterov"] = "plain"):
    """Another rule."""


def make(*, clip_norm: Number = math.inf):
    """The optimizer."""


def bpe(*, kind: Literal["bpe", "char"] = "bpe", vocab: int = 1000):
    """The tokenizer."""


STEPS, SHARE = Range("[1, inf)"), Range("[0, 1)")
BLOCKS = {
    "": Block(Entry(run, "", {"num_steps": STEPS, "seed": Range("[0, 99]")})),
    "data": Block({"tsv": Entry(tsv, "", {"shares": Range("[0, 1]")})}),
    "tokenizer": Block(Entry(bpe, "", {"vocab": STEPS})),
    "optim": Block(Entry(make, "", {"clip_norm": Range("(0, inf]")})),
    "optim.rule": Block(
        {
            "adam": Entry(adam, "", {"b1": SHARE, "b2": SHARE}),
            "sgd": Entry(sgd, "", {"momentum": SHARE}),
        }
    ),
}

EXPERIMENT = """
from ml_collections import ConfigDict
from experiments import options

def get_config(text=""):
    option = options.parse(text, tiny=False, rule=("adam", "sgd"))
    c = ConfigDict()
    c.num_steps = 20 if option["tiny"] else 900
    c.data = dict(name="tsv", files=("a.tsv", "b.tsv"))
    c.optim = dict(clip_norm=1.0, rule=dict(name=option["rule"]))
    c.tokenizer = dict(vocab=50)
    c.tokenizer.vocab = 2 * c.get_ref("num_steps")
    return c
"""

WRONG = """
def get_config(text=""):
    return dict(data=dict(name="tsv"), optim=3)
"""


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A repository of one experiment, a small schema, and a run that only records."""
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "copy.py").write_text(EXPERIMENT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launch, "ROOT", tmp_path)
    calls: list[tuple] = []

    def answers(workdir, lines, *, overrides):
        count = int(overrides.get("decode.num_best", 1))
        return ([(line.upper(), -1.5)] * count for line in lines)

    room = sys.modules.get("train") or types.ModuleType("train")
    fakes = dict(
        assemble=dict(
            check=lambda config: None,
            dry_run=lambda config: calls.append(("dry_run", config)),
        ),
        run=dict(
            train=lambda config, workdir, **more: calls.append((config, workdir, more)),
        ),
        schema=dict(SCHEMA=BLOCKS),
        evaluate=dict(
            evaluate=lambda workdir, **more: calls.append((workdir, more)),
        ),
        generate=dict(predict=answers),
    )
    monkeypatch.setitem(sys.modules, "train", room)
    for name, names in fakes.items():
        module = types.ModuleType(f"train.{name}")
        vars(module).update(names)
        monkeypatch.setitem(sys.modules, f"train.{name}", module)
        monkeypatch.setattr(room, name, module, raising=False)
    return calls


TRAIN = ("train", "--config=experiments/copy.py:tiny", "--workdir=runs/a")


def line_of(capsys) -> str:
    """The one line that a refusal leaves on stderr."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("\n")
    line = err.removesuffix("\n")
    assert "\n" not in line
    assert 0 < len(line) <= LIMIT
    return line


def test_train_passes_the_resolved_config_on(house, tmp_path):
    words = (*TRAIN, "--config.optim.rule.b1=0.5", "--allow-drift=seed", "--profile")
    assert launch.main((*words, "--allow-drift=dtype")) == 0
    [(config, workdir, more)] = house
    assert type(config) is dict
    assert type(config["optim"]["rule"]) is dict
    assert (config["num_steps"], config["tokenizer"]["vocab"]) == (20, 40)
    assert config["optim"] == dict(
        clip_norm=1.0, rule=dict(name="adam", b1=0.5, b2=0.999, sparse=False)
    )
    assert workdir == "runs/a"
    assert more.pop("command") == ["launch.py", *words, "--allow-drift=dtype"]
    assert more == dict(allow_drift=("seed", "dtype"), profile=True)
    assert not (tmp_path / "runs").exists()  # that is the run's to make


def test_a_dry_run_prints_a_config_that_trains_the_same(house, tmp_path, capsys):
    assert launch.main((*TRAIN, "--config.seed=7", "--dry-run")) == 0
    (tmp_path / "config.json").write_text(capsys.readouterr().out)
    assert launch.main(["train", "--config=config.json", "--workdir=b"]) == 0
    [(word, config), (again, _, more)] = house
    assert word == "dry_run"
    assert again == config
    assert config["seed"] == 7
    assert more["profile"] is False


def test_what_another_name_drops_is_told(house, capsys):
    words = (*TRAIN, "--config.optim.rule.b1=0.5", "--dry-run")
    assert launch.main(words) == 0
    (pathlib.Path("c.json")).write_text(capsys.readouterr().out)
    words = ("train", "--config=c.json", "--config.optim.rule.name=sgd", "--dry-run")
    assert launch.main(words) == 0
    assert "optim.rule.name=sgd drops b1." in capsys.readouterr().err


def test_evaluate_and_predict_open_a_run(house, tmp_path, capsys, monkeypatch):
    (tmp_path / "config.json").write_text("{}")
    words = ["evaluate", "--workdir=.", "--config.decode.beam=2"]
    assert launch.main([*words, "--checkpoint=120"]) == 0
    assert launch.main(["evaluate", "--workdir=.", "--split=validation"]) == 0
    assert house == [
        (".", dict(split="test", checkpoint=120, overrides={"decode.beam": "2"})),
        (".", dict(split="validation", checkpoint="best", overrides={})),
    ]
    assert launch.main(["predict", "--workdir=.", "--text=a\u202f€"]) == 0
    assert capsys.readouterr().out == "A\u202f€\n"
    stdin = types.SimpleNamespace(buffer=io.BytesIO("é a\r\n\nb".encode()))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert launch.main(["predict", "--workdir=."]) == 0
    assert capsys.readouterr().out == "É A\n\nB\n"
    assert launch.main(["predict", "--workdir=.", "--text=a\nb"]) == 0
    assert capsys.readouterr().out == "A\nB\n"  # as it is, where nothing is counted
    words = ["predict", "--workdir=.", "--config.decode.num_best=2"]
    assert launch.main([*words, "--text=a\nb"]) == 0
    assert capsys.readouterr().out == "-1.5000\tA\\nB\n" * 2
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=[b"a\n", b"\xff\n"]))
    assert launch.main(["predict", "--workdir=."]) == 2
    assert capsys.readouterr().err == "stdin, line 2 is no UTF-8.\n"


@pytest.mark.parametrize("command", ["", *launch.COMMANDS])
def test_help_has_an_example_and_every_option(command, capsys):
    assert launch.main([command, "--help"] if command else ["--help"]) == 0
    out = capsys.readouterr().out
    assert "example: python launch.py " in out
    names = launch.COMMANDS[command].options if command else launch.COMMANDS
    assert all(name in out for name in names)


@pytest.mark.parametrize("command", launch.COMMANDS)
def test_the_example_in_the_help_is_a_command_that_parses(command):
    entry = launch.COMMANDS[command]
    words = shlex.split(entry.example)[3:]
    first = 0 if entry.places else len([w for w in words if w[:2] != "--"])
    launch.parse(command, entry, words[first:])


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("trian --config=x", "'trian' is no command. Did you mean 'train'?"),
        ("--config=x train", "'--config=x' is no command. There are ['branch', "),
        ("train --workdir=a", "train needs --config=experiments/NAME.py[:OPTIONS]."),
        ("train --config=experiments/copy.py", "train needs --workdir=DIR"),
        ("train --confg=x", "no option of train. Did you mean '--config'?"),
        ("train --confg.seed=1", "Did you mean '--config.seed'?"),
        ("train config.seed=1", "is no option. Did you mean '--config.seed=1'?"),
        ("train -config.seed=1", "Did you mean '--config.seed=1'?"),
        ("train —config.seed=1", "Did you mean '--config.seed=1'?"),
        ("train \u2013\u2013workdir=a", "Did you mean '--workdir=a'?"),
        ("train -workdir=a", "Did you mean '--workdir=a'?"),
        ("train seed=1", "'seed=1' is no option of train."),
        ("train --workdir a", "--workdir needs a value: --workdir=VALUE."),
        ("train --workdir=", "--workdir needs a value"),
        ("train --config.seed=", "--config.seed needs a value: --config.seed=VALUE;"),
        ("train --config.seed", "--config.seed needs a value"),
        ("train --config.=1", "'--config.=1' names no key"),
        ("train --workdir=a --workdir=a", "--workdir is given twice."),
        ("train --config.seed=1 --config.seed=2", "--config.seed is given twice."),
        ("train --dry-run --dry-run", "--dry-run is given twice."),
        ("train --allow-drift=a --allow-drift=a", "--allow-drift is given twice."),
        ("train --dry-run=true", "--dry-run takes no value, and has 'true'."),
        ("train --dry_run", "'--dry_run' is no option of train. Did you mean"),
        ("train --config.a=\udcff", "--config.a='\\udcff' is no UTF-8."),
        ("evaluate --confg.decode.beam=1", "Did you mean '--config.decode.beam'?"),
        ("evaluate --workdir=gone", "--workdir='gone' holds no run: there is no"),
        ("predict --workdir=experiments", "--workdir='experiments' holds no run"),
        ("evaluate --workdir=rums/a", "Did you mean"),
    ],
)  # fmt: skip
def test_a_wrong_command_line_is_one_line(house, words, line, capsys, tmp_path):
    if "rums" in words:
        (tmp_path / "rums" / "b").mkdir(parents=True)
        (tmp_path / "rums" / "b" / "config.json").touch()
    before = sorted(tmp_path.rglob("*"))
    assert launch.main(words.split(" ")) == 2
    assert line in line_of(capsys)
    assert house == []
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_what_a_run_is_does_not_change_once_it_is_trained(
    house, command, tmp_path, capsys
):
    (tmp_path / "config.json").write_text("{}")
    assert launch.main([command, "--workdir=.", "--config.seed=1"]) == 2
    assert "--config.seed='1' would be another run" in line_of(capsys)
    assert house == []


@pytest.mark.parametrize("which", ["bestt", "-1", "1e3", "٣", "9" * 5_000])
def test_a_checkpoint_is_best_latest_or_a_step(house, which, tmp_path, capsys):
    (tmp_path / "config.json").write_text("{}")
    assert launch.main(["evaluate", "--workdir=.", f"--checkpoint={which}"]) == 2
    assert "must be best, latest or a step" in line_of(capsys)


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ("experiments/cpoy.py", "is not there. Did you mean 'experiments/copy.py'?"),
        ("experiments", "--config=experiments is a folder; name a file"),
        ("experiments/copy.py:tny", "No option 'tny'. This config has ['rule', 'tiny']."
         " Did you mean 'tiny'?"),
        ("experiments/copy.py:", "has no options behind its colon"),
        ("experiments/copy.py:tiny,tiny", "Option tiny is given twice."),
        ("experiments/copy.py:rule=sgdd", "not one of ['adam', 'sgd']. Did you mean"),
        ("notes.txt", "--config=notes.txt must be a .py or .json file."),
        ("c.json:tiny", "--config=c.json takes no options, and has 'tiny'."),
        ("c.json", "c.json, line 1, column 2: no JSON"),
        ("experiments/none.py", "none.py: has no get_config(options)"),
        ("experiments/syntax.py", "experiments/syntax.py, line 2: "),
        ("experiments/bug.py", "experiments/bug.py, line 3: KeyError: 'b'"),
        ("experiments/wrong.py", "optim=3 must be a block of keys."),
        ("x" * 10_000, "is not there."),
    ],
)  # fmt: skip
def test_a_wrong_config_is_one_line(house, config, line, capsys):
    for name, content in {
        "notes.txt": "",
        "c.json": "{",
        "experiments/none.py": "a = 1",
        "experiments/syntax.py": "a = 1\nb = = 2",
        "experiments/bug.py": "def get_config(text):\n    a = {}\n    return a['b']",
        "experiments/wrong.py": WRONG,
    }.items():
        pathlib.Path(name).write_text(content)
    assert launch.main(["train", f"--config={config}", "--workdir=a"]) == 2
    assert line in line_of(capsys)
    assert house == []


def test_a_config_from_outside_the_repository_is_not_run(
    house, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(launch, "ROOT", tmp_path / "elsewhere")
    pathlib.Path("canary.py").write_text("open('ran', 'w')")
    assert launch.main(["train", "--config=canary.py", "--workdir=a"]) == 2
    assert "lies outside" in line_of(capsys)
    assert not pathlib.Path("ran").exists()


@pytest.mark.parametrize("workdir", ["file", "file/below", "x" * 10_000])
def test_a_workdir_that_cannot_be_a_folder_is_refused(house, workdir, capsys):
    pathlib.Path("file").touch()
    words = (*TRAIN[:2], f"--workdir={workdir}", "--dry-run")
    assert launch.main(words) == 2
    assert line_of(capsys).startswith("--workdir='")


def test_what_a_run_finds_wrong_has_its_own_code(house, monkeypatch, capsys):
    def ends(error):
        def train(*_, **__):
            raise error

        monkeypatch.setattr(sys.modules["train.run"], "train", train)
        return launch.main(TRAIN)

    assert ends(Stop(NUMERICS, "7 steps were not finite.")) == NUMERICS
    assert line_of(capsys) == "7 steps were not finite."
    assert ends(ValueError("a.de has 3 lines and a.en 4.")) == 2
    assert line_of(capsys) == "a.de has 3 lines and a.en 4."
    assert ends(FileNotFoundError(2, "No such file or directory", "a.de")) == 2
    assert line_of(capsys) == "'a.de': No such file or directory."
    assert ends(KeyboardInterrupt()) == 75
    with pytest.raises(TypeError, match="a bug"):
        ends(TypeError("a bug"))
    with pytest.raises(ValueError, match="shapes"):
        ends(ValueError("shapes differ:\n(3,)\n(4,)"))


def test_an_error_of_a_step_keeps_its_traceback(house, monkeypatch):
    def fit():
        raise ValueError("a bug in a step")

    step = types.FunctionType(fit.__code__, {**globals(), "__name__": "train.loop"})
    train = sys.modules["train.run"]
    monkeypatch.setattr(train, "train", lambda *_, **__: step())
    with pytest.raises(ValueError, match="a bug in a step"):
        launch.main(TRAIN)


def test_the_functions_after_which_an_error_is_a_bug_are_there():
    for path in launch.RUNNING:
        room, _, name = path.rpartition(".")
        file = launch.ROOT / f"{room.replace('.', '/')}.py"
        tree = ast.parse(file.read_text())
        defined = {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
        assert name in defined


def test_a_typing_mistake_is_answered_before_jax_is_imported():
    code = (
        "import sys, launch\n"
        "for words in (['--help'], ['train', '--help'], ['train', '--confg=x'],\n"
        "              ['train', '--config=gone.py', '--workdir=a']):\n"
        "    launch.main(words)\n"
        "print('jax' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=launch.ROOT, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == "False"
