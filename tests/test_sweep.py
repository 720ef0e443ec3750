"""A sweep: its file, what it draws and keeps, and that nothing is lost or counted twice, whoever dies."""

import csv
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_cli import digest, lenet, make_data, one_line

from lenet.errors import LenetError, UsageError
from lenet.settings import Settings, load
from lenet.sweep.definition import Choices, Range, parse, read
from lenet.sweep.machines import FOLDER, SILENCE, present
from lenet.sweep.study import JOURNAL, Study
from lenet.sweep.trial import Trial, ranked
from lenet.sweep.worker import Place
from lenet.sweep.worker import load as load_place

SPACE = """
[space.training]
learning_rate = { low = 0.001, high = 0.1, log = true }
batch_size = { low = 8, high = 32, step = 8 }
schedule = ["constant", "cosine"]
"""


def write(folder: Path, trials: int = 4, epochs: int = 2, more: str = "", space: str = SPACE) -> Path:
    """Write the file of a small sweep, and the settings that it starts from."""
    folder.mkdir(exist_ok=True)
    (folder / "start.toml").write_text(
        f"[training]\nepochs = {epochs}\nwarmup = 0\naverage = 0.9\n[distortion]\nshift = 1\n"
    )
    file = folder / "sweep.toml"
    file.write_text(f"recipe = '{folder / 'start.toml'}'\ntrials = {trials}\nvalidation = 48\n{more}\n{space}")
    return file


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data") / "corners", images=144)


def arguments(file: Path, path: Path, data: Path, jobs: int = 1) -> list[str]:
    options = ["--path", path, "--data", data, "--backend", "numpy", "--jobs", jobs]
    return ["sweep", str(file), *map(str, options)]


def rows(path: Path) -> list[dict[str, str]]:
    with (path / "trials.csv").open() as file:
        return list(csv.DictReader(file))


def counted(path: Path) -> list[tuple[str, ...]]:
    """Return what was drawn and reached in the trials that count."""
    kept = ("training.learning_rate", "training.batch_size", "training.schedule", "validation_accuracy", "last")
    return [tuple(row[name] for name in kept) for row in rows(path) if row["outcome"] not in ("unfinished", "running")]


def started(file: Path, path: Path, data: Path, jobs: int = 1) -> subprocess.Popen[str]:
    command = [sys.executable, "-u", "-m", "lenet", *arguments(file, path, data, jobs)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait_for(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.02)
    raise TimeoutError


def heard(process: subprocess.Popen[str], trials: int) -> None:
    """Read the lines of a sweep until so many trials are done."""
    assert process.stderr
    wait_for(lambda: re.match(rf" *{trials}/", process.stderr.readline()))


# the file ------------------------------------------------------------------------------------------------------------


def test_a_file_is_read() -> None:
    sweep = parse(
        'trials = 9\nseeds = 2\nrecipe = "fast"\n[pruning]\nepochs = 1\n[space.network]\nmaps = [[6, 16], [3, 5]]\n'
        "[space.training]\nwarmup = {low = 0, high = 100, step = 50}\n[space.distortion]\nzoom = {low = 0, high = 0.3}",
        "my.toml",
    )
    assert (sweep.trials, sweep.seeds, sweep.validation, sweep.jobs) == (9, 2, 5000, None)
    assert sweep.pruning is not None
    assert (sweep.pruning.trials, sweep.pruning.epochs) == (5, 1)
    assert [setting.key for setting in sweep.space] == ["network.maps", "training.warmup", "distortion.zoom"]
    assert sweep.space[0].space == Choices({"[6, 16]": (6, 16), "[3, 5]": (3, 5)})
    assert sweep.space[1].space == Range(0, 100, 50, log=False, whole=True)
    assert sweep.space[2].space == Range(0.0, 0.3, None, log=False, whole=False)
    settings = sweep.settings({"network.maps": "[3, 5]", "training.warmup": 50, "distortion.zoom": 0.1234567})
    fast = load("fast")
    assert settings.network.maps == (3, 5)
    assert settings.distortion.zoom == 0.123457
    assert settings.training == fast.override("training", warmup=50).training
    assert settings.distortion.shift == fast.distortion.shift


def test_a_drawn_number_stays_in_its_range() -> None:
    assert Range(0.1234564, 0.9, None, log=False, whole=False).value(0.1234565) == 0.1234564
    assert Range(0.0, 0.9999999, None, log=False, whole=False).value(0.99999987) == 0.9999999


@pytest.mark.parametrize("file", sorted((Path(__file__).parent.parent / "benchmarks" / "sweeps").glob("*.toml")))
def test_the_files_that_ship_are_valid(file: Path) -> None:
    assert read(file).space


GOOD = "trials = 3\n[space.training]\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trials = ", "not a valid TOML file"),
        ("[space.training]\nwarmup = [1, 2]", "a sweep has trials = N"),
        ("trials = 3", "a section [space.training]"),
        ("trials = 3\n[space]", "names no setting"),
        ("trials = 0\n[space]", "trials must be a whole number from 1"),
        ("trials = true\n[space]", "trials must be a whole number from 1"),
        ("trials = 3\nseeds = 0\n[space]", "seeds must be a whole number from 1"),
        ("trials = 3\nvalidation = 0\n[space]", "validation must be a whole number from 1"),
        ("trials = 3\njobs = 1.5\n[space]", "jobs must be"),
        ("trials = 3\nseed = -1\n[space]", "seed must be a whole number from 0"),
        ("trials = 3\ntrails = 3\n[space]", "no 'trails'; there are jobs, pruning, recipe"),
        ("trials = 3\nrecipe = 7\n[space]", "recipe must be the name"),
        ("trials = 3\nrecipe = 'nowhere'\n[space]", "nowhere: No such file"),
        ("trials = 3\nspace = 4", "[space] is not a section but 4"),
        ("trials = 3\n[space.trainning]\nwarmup = [1, 2]", "[space] has no 'trainning'; there are distortion"),
        ("trials = 3\nspace.training = 4", "[space.training] is not a section"),
        ("trials = 3\npruning = true\n[space]", "[pruning] is not a section"),
        ("trials = 3\npruning.epochs = 0\n[space]", "[pruning] epochs must be"),
        ("trials = 3\npruning.speed = 2\n[space]", "[pruning] has no 'speed'"),
        (GOOD + "speed = [1, 2]", "[space.training] has no 'speed'"),
        (GOOD + "seed = [1, 2]", "[space.training] seed: seeds are not searched"),
        (GOOD + "warmup = 3", "[space.training] warmup: write a range"),
        (GOOD + "warmup = [3]", "two or more values"),
        (GOOD + "warmup = [3, 3]", "listed twice"),
        (GOOD + "warmup = [3, -1]", "[space.training] warmup: warmup must be a whole number"),
        (GOOD + "schedule = ['cosine', 'square']", "schedule must be one of"),
        (GOOD + "schedule = {low = 1, high = 2}", "it is not a number"),
        (GOOD + "warmup = {low = 1}", "needs low and high"),
        (GOOD + "warmup = {low = 1, high = 2, stride = 1}", "a range has no 'stride'"),
        (GOOD + "warmup = {low = 1, high = 2.5}", "high must be a whole number"),
        (GOOD + "learning_rate = {low = 'a', high = 2}", "low must be a number"),
        (GOOD + "learning_rate = {low = nan, high = 2}", "low must be a number"),
        (GOOD + "learning_rate = {low = 2, high = 1}", "low must be below high, not 2 and 1"),
        (GOOD + "learning_rate = {low = 1, high = 1}", "low must be below high"),
        (GOOD + "learning_rate = {low = 0.1, high = 1, log = 1}", "log must be true or false"),
        (GOOD + "warmup = {low = 0, high = 9, log = true}", "log needs low above 0"),
        (GOOD + "warmup = {low = 1, high = 9, log = true, step = 2}", "log and step do not go together"),
        (GOOD + "warmup = {low = 1, high = 9, step = 3}", "steps of 3 do not lead from 1 to 9"),
        (GOOD + "warmup = {low = 1, high = 9, step = 0}", "step must be above 0"),
        (GOOD + "average = {low = 0, high = 1}", "average must be a number from 0"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text, "my.toml")
    assert str(caught.value).startswith("my.toml: ")
    assert message in str(caught.value)


def test_decimal_steps_lead_where_they_seem_to() -> None:
    sweep = parse("trials = 1\n[space.distortion]\nshear = {low = 0, high = 0.3, step = 0.1}", "my.toml")
    assert sweep.space[0].space == Range(0.0, 0.3, 0.1, log=False, whole=False)


numbers = st.one_of(st.integers(-3, 200), st.floats(), st.integers())
values = st.one_of(
    numbers, st.booleans(), st.sampled_from(["cosine", "constant", "relu", ""]), st.lists(numbers, max_size=3)
)
spaces = st.one_of(
    values,
    st.lists(values, max_size=4),
    st.dictionaries(st.sampled_from(["low", "high", "step", "log", "x"]), values, max_size=4),
)
names = st.sampled_from(["learning_rate", "epochs", "average", "schedule", "maps", "shift", "seed", "other"])
sections = st.sampled_from(["training", "network", "distortion", "more"])


def toml(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return f'"{value}"'
        case list():
            return f"[{', '.join(map(toml, value))}]"
        case dict():
            return "{" + ", ".join(f"{name} = {toml(each)}" for name, each in value.items()) + "}"
    return repr(value)


@given(st.dictionaries(sections, st.dictionaries(names, spaces, max_size=3), max_size=3), st.floats(0, 1))
def test_whatever_is_accepted_makes_settings(space: dict[str, Any], share: float) -> None:
    try:
        sweep = parse(f"trials = 5\nspace = {toml(space)}", "my.toml")
    except UsageError as error:
        refusal = str(error)
        assert refusal.startswith("my.toml: ")
        assert len(refusal.splitlines()) == 1
        return
    drawn: dict[str, Any] = {}
    for setting in sweep.space:
        made = setting.space
        if isinstance(made, Choices):
            drawn[setting.key] = list(made.values)[int(share * (len(made.values) - 1))]
        else:
            drawn[setting.key] = made.low + share * (made.high - made.low)
    settings = sweep.settings(drawn)
    assert Settings.from_dict(tomllib.loads(settings.to_toml())) == settings


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^my.toml: "):
        parse(text, "my.toml")


# a sweep -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def done(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, subprocess.CompletedProcess[str]]:
    """Return the file and the folder of a sweep of 14 trials, one after the other, and what it printed."""
    folder = tmp_path_factory.mktemp("done")
    file = write(folder, trials=14, epochs=12)
    result = lenet(*arguments(file, folder / "out", data))
    assert result.returncode == 0, result.stderr
    return file, folder / "out", result


def test_what_it_prints_and_writes(done: tuple[Path, Path, subprocess.CompletedProcess[str]]) -> None:
    _, path, result = done
    lines = result.stderr.splitlines()
    assert [line.split()[0] for line in lines] == [f"{number}/14" for number in range(1, 15)]
    assert f"lenet train --settings {path / 'best.toml'}" in result.stdout
    assert set(digest(path)) == {"best.toml", JOURNAL, "sweep.png", "trials.csv"}
    assert (path / "sweep.png").read_bytes().startswith(b"\x89PNG")
    table = [line.split() for line in result.stdout.splitlines()]
    head = next(place for place, words in enumerate(table) if words and words[0] == "trial" and "spread" in words)
    found = sorted(rows(path), key=lambda row: (-float(row["validation_accuracy"]), int(row["trial"])))
    assert [words[0] for words in table[head + 1 : head + 11]] == [row["trial"] for row in found[:10]]


def test_the_best_settings_train_to_the_accuracy_that_is_told(
    done: tuple[Path, Path, subprocess.CompletedProcess[str]], data: Path, tmp_path: Path
) -> None:
    _, path, _ = done
    best = max(rows(path), key=lambda row: float(row["validation_accuracy"]))
    options = ("--settings", path / "best.toml", "--validation", "48", "--data", data, "--backend", "numpy")
    result = lenet("train", "--path", tmp_path / "net", *options)
    assert result.returncode == 0, result.stderr
    with (tmp_path / "net" / "history.csv").open() as file:
        *_, last = csv.DictReader(file)
    assert float(last["validation_accuracy"]) == pytest.approx(float(best["validation_accuracy"]), abs=1e-6)


def test_stopped_and_continued_equals_undisturbed(
    done: tuple[Path, Path, subprocess.CompletedProcess[str]], data: Path, tmp_path: Path
) -> None:
    file, path, _ = done
    with started(file, tmp_path / "out", data) as process:
        heard(process, 11)  # beyond the first ten, which are drawn without regard to the others
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the workers hear it too
        begun = time.monotonic()
        _, printed = process.communicate(timeout=60)
        assert time.monotonic() - begun < 10
    assert process.returncode == 130
    assert "Traceback" not in printed
    assert printed.splitlines()[-1].startswith(f"Stopped. {tmp_path / 'out'} keeps every trial")
    assert "lenet sweep" in printed
    assert "running" not in {row["outcome"] for row in rows(tmp_path / "out")}
    assert len(counted(tmp_path / "out")) < 14
    result = lenet(*arguments(file, tmp_path / "out", data))
    assert result.returncode == 0, result.stderr
    assert counted(tmp_path / "out") == counted(path)
    assert len({row[0] for row in counted(path)}) == 14


def test_more_trials_continue_and_enough_are_enough(data: Path, tmp_path: Path) -> None:
    file = write(tmp_path, trials=2)
    assert lenet(*arguments(file, tmp_path / "out", data)).returncode == 0
    first = counted(tmp_path / "out")
    write(tmp_path, trials=3)
    assert lenet(*arguments(file, tmp_path / "out", data)).returncode == 0
    assert counted(tmp_path / "out")[:2] == first
    assert len(counted(tmp_path / "out")) == 3
    again = lenet(*arguments(file, tmp_path / "out", data))
    assert (again.returncode, again.stderr) == (0, "")


def test_the_test_images_play_no_part(data: Path, tmp_path: Path) -> None:
    assert len(load_place(Place(data, 48, "numpy")).test_images) == 0
    other = tmp_path / "other"
    other.mkdir()
    for file in data.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    images = bytearray((other / "t10k-images-idx3-ubyte").read_bytes())
    images[16:] = bytes(len(images) - 16)  # after the header
    (other / "t10k-images-idx3-ubyte").write_bytes(images)
    file = write(tmp_path / "sweep", trials=2)
    found = []
    for folder in (data, other):
        path = tmp_path / f"of-{folder.name}"
        assert lenet(*arguments(file, path, folder)).returncode == 0
        found.append(counted(path))
    assert found[0] == found[1]


def test_seeds_are_averaged(data: Path, tmp_path: Path) -> None:
    file = write(tmp_path, trials=1, more="seeds = 3", epochs=1)
    assert lenet(*arguments(file, tmp_path / "out", data)).returncode == 0
    (row,) = rows(tmp_path / "out")
    reached = []
    for seed in (1, 2, 3):
        options = ("--validation", "48", "--data", data, "--backend", "numpy", "--seed", str(seed))
        path = tmp_path / f"net{seed}"
        assert lenet("train", "--settings", tmp_path / "out" / "best.toml", "--path", path, *options).returncode == 0
        with (path / "history.csv").open() as history:
            *_, last = csv.DictReader(history)
        reached.append(float(last["validation_accuracy"]))
    assert float(row["validation_accuracy"]) == pytest.approx(sum(reached) / 3, abs=1e-6)
    assert float(row["last"]) == pytest.approx(reached[0], abs=1e-6)


def test_what_diverges_or_is_no_network_is_told_and_the_sweep_goes_on(data: Path, tmp_path: Path) -> None:
    space = '[space.training]\noptimizer = ["gd", "adam"]\nlearning_rate = [0.01, 1e38]\n'
    space += "[space.network]\nactivation = ['relu', 'sigmoid']\nmaps = [[6, 16], [5, 7]]"
    file = write(tmp_path, trials=16, epochs=1, space=space)
    result = lenet(*arguments(file, tmp_path / "out", data, jobs=2))
    assert result.returncode == 0, result.stderr
    found = rows(tmp_path / "out")
    assert len(found) == 16
    assert all(("connects 6 maps" in row["note"]) == (row["network.maps"] == "(5, 7)") for row in found)
    diverged = [row for row in found if "diverged in epoch 1" in row["note"]]
    assert diverged
    assert {row["training.learning_rate"] for row in diverged} == {"1e+38"}
    assert {row["outcome"] for row in found} == {"complete", "hopeless"}


# whoever dies --------------------------------------------------------------------------------------------------------


def workers(process: subprocess.Popen[str]) -> list[int]:
    """Return the processes that train for a sweep."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if parent == process.pid and b"spawn_main" in command:
            found.append(int(folder.name))
    return found


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in /proc")


@needs_proc
def test_a_killed_worker_does_not_count_and_is_replaced(data: Path, tmp_path: Path) -> None:
    file = write(tmp_path, trials=4, epochs=60)
    with started(file, tmp_path / "out", data, jobs=2) as process:
        heard(process, 1)
        os.kill(workers(process)[0], signal.SIGKILL)
        _, printed = process.communicate(timeout=120)
    assert process.returncode == 0, printed
    assert "is lost and does not count: its process was killed" in printed
    outcomes = sorted(row["outcome"] for row in rows(tmp_path / "out"))
    assert outcomes == ["complete"] * 4 + ["unfinished"]


@needs_proc
def test_sigterm_ends_search_and_workers(data: Path, tmp_path: Path) -> None:
    file, path = write(tmp_path, trials=3, epochs=100_000), tmp_path / "out"
    with started(file, path, data, jobs=2) as process:
        children = wait_for(lambda: workers(process) if len(workers(process)) == 2 else None)
        process.send_signal(signal.SIGTERM)
        _, printed = process.communicate(timeout=20)
    assert process.returncode == 143
    assert printed.startswith(f"Stopped. {path} keeps every trial")
    assert not any(Path(f"/proc/{child}").exists() for child in children)
    assert not (path / FOLDER).exists()
    assert {row["outcome"] for row in rows(path)} <= {"unfinished"}


@needs_proc
def test_a_killed_search_leaves_no_worker_and_is_continued(data: Path, tmp_path: Path) -> None:
    file, path = write(tmp_path, trials=3, epochs=60), tmp_path / "out"
    with started(file, path, data) as process:
        heard(process, 1)
        time.sleep(0.3)  # the next trial is under way
        children = workers(process)
        process.kill()
    assert children
    wait_for(lambda: not any(Path(f"/proc/{child}").exists() for child in children))
    (presence,) = (path / FOLDER).iterdir()
    long_ago = time.time() - SILENCE - 5
    os.utime(presence, (long_ago, long_ago))
    result = lenet(*arguments(file, path, data))
    assert result.returncode == 0, result.stderr
    outcomes = sorted(row["outcome"] for row in rows(path))
    assert outcomes == ["complete"] * 3 + ["unfinished"]


def test_two_searches_share_a_folder(data: Path, tmp_path: Path) -> None:
    file, path = write(tmp_path, trials=8, epochs=10), tmp_path / "out"
    with started(file, path, data) as one, started(file, path, data) as two:
        outputs = [process.communicate(timeout=120) for process in (one, two)]
    assert (one.returncode, two.returncode) == (0, 0), outputs
    found = rows(path)
    assert {row["outcome"] for row in found} == {"complete"}
    assert len(found) in (8, 9)  # both may begin the last one
    assert len({row["machine"] for row in found}) == 2
    assert len({row["training.learning_rate"] for row in found}) == len(found)


def test_a_torn_line_of_the_journal_is_cut_off(data: Path, tmp_path: Path) -> None:
    file, path = write(tmp_path, trials=2, epochs=1), tmp_path / "out"
    assert lenet(*arguments(file, path, data)).returncode == 0
    with (path / JOURNAL).open("ab") as journal:
        journal.write(b'{"op_code":6,"worker_id":"x","tri')
    write(tmp_path, trials=3, epochs=1)
    result = lenet(*arguments(file, path, data))
    assert result.returncode == 0, result.stderr
    assert len(counted(path)) == 3
    assert lenet(*arguments(file, path, data)).returncode == 0


# the memory ----------------------------------------------------------------------------------------------------------


def open_study(path: Path, more: str = "", trials: int = 20) -> Study:
    sweep = parse(f"trials = {trials}\n{more}\n{SPACE}", "my.toml")
    with present(path) as presence:
        return Study(path, sweep, {"file": "digest"}, presence)


def test_pruning_gives_up_what_is_below_the_median(tmp_path: Path) -> None:
    study = open_study(tmp_path, "[pruning]\ntrials = 3\nepochs = 2")
    for accuracy in (0.7, 0.8, 0.9):
        number, _ = study.begin()
        assert all(study.report(number, epoch, accuracy) for epoch in range(1, 5))
        assert study.end(number, "complete", accuracies=[accuracy])
    number, _ = study.begin()
    assert [study.report(number, epoch, 0.79) for epoch in (1, 2, 3)] == [True, True, False]
    assert study.end(number, "pruned")
    number, _ = study.begin()
    assert all(study.report(number, epoch, 0.81) for epoch in range(1, 5))
    assert study.end(number, "complete", accuracies=[0.8, 0.9])
    assert study.counted == 5
    best, second, *_ = ranked(study.trials())
    assert (best.accuracy, second.accuracy) == (0.9, pytest.approx(0.85))
    assert study.trials()[3].outcome == "pruned"
    assert study.trials()[3].last == 0.79


def test_a_trial_of_a_silent_search_is_given_up_and_comes_back_in_vain(tmp_path: Path) -> None:
    with present(tmp_path) as sleeper:
        slow = Study(tmp_path, parse(f"trials = 2\n{SPACE}", "my.toml"), {}, sleeper)
        number, _ = slow.begin()
        with present(tmp_path) as other:
            study = Study(tmp_path, parse(f"trials = 2\n{SPACE}", "my.toml"), {}, other)
            study.give_up_silent()
            assert study.running == 1
            long_ago = time.time() - SILENCE - 5
            os.utime(tmp_path / FOLDER / sleeper.name, (long_ago, long_ago))
            study.give_up_silent()
            assert study.running == 0
        assert not slow.report(number, 1, 0.5)
        assert not slow.end(number, "complete", accuracies=[0.9])
    assert [trial.outcome for trial in study.trials()] == ["unfinished"]
    assert study.counted == 0


@pytest.mark.parametrize(
    ("more", "name"),
    [("seed = 2", "seed"), ("seeds = 2", "seeds"), ("validation = 9", "validation"), ("recipe = 'fast'", "recipe")],
)
def test_another_sweep_in_the_folder_is_refused(tmp_path: Path, more: str, name: str) -> None:
    open_study(tmp_path)
    open_study(tmp_path, "jobs = 3", trials=30)  # not another one
    with pytest.raises(LenetError, match=f"another {name}; choose another --path"):
        open_study(tmp_path, more)


@pytest.mark.parametrize("text", ["hello\n\nhello\n", '{"op_code": 99}\n{}\n', "[1]\n2\n", "\x00\x01\n\x02\n"])
def test_a_damaged_journal_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / JOURNAL).write_text(text)
    with pytest.raises(LenetError, match="no journal of a sweep, or damaged"):
        open_study(tmp_path)


def test_of_equals_the_earlier_trial_is_better() -> None:
    def trial(number: int, *accuracies: float) -> Trial:
        return Trial(number, "complete", {}, accuracies, None, 1, 1.0, "", "")

    order = [trial(0, 0.8), trial(1, 0.9), trial(2, 0.8, 1.0), trial(3)]
    assert [each.number for each in ranked(order)] == [1, 2, 0]
    assert trial(0, 0.8, 1.0).spread == pytest.approx(0.1 * 2**0.5)


# refusals ------------------------------------------------------------------------------------------------------------


def test_without_optuna_one_line_says_what_to_install(tmp_path: Path) -> None:
    file = write(tmp_path)
    code = f"import sys; sys.modules['optuna'] = None; from lenet.cli import main; main(['sweep', {str(file)!r}])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert 'pip install "optuna>=' in one_line(result, 1)
    assert not (tmp_path / "sweep").exists()


def test_folders_that_are_no_sweep_are_left_alone(data: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "sweep")
    assert "not empty" in one_line(lenet(*arguments(file, tmp_path / "sweep", data)), 1)
    assert "is not a folder" in one_line(lenet(*arguments(file, file, data)), 1)
    assert "too long" in one_line(lenet(*arguments(file, tmp_path / ("x" * 300), data)), 1)
    assert set(digest(tmp_path)) == {"sweep/start.toml", "sweep/sweep.toml"}


@pytest.mark.parametrize(
    ("more", "options", "code", "message"),
    [
        ("", ("--jobs", "0"), 2, "--jobs must be 1 or more"),
        ("", ("--backend", "torch"), 2, "--backend is one of"),
        ("validation = 5000", (), 2, "validation"),
        ("", ("--data", "nowhere"), 1, "nowhere"),
    ],
)
def test_what_cannot_be_searched_is_told_before_anything_is_written(
    data: Path, tmp_path: Path, more: str, options: tuple[str, ...], code: int, message: str
) -> None:
    file = write(tmp_path)
    file.write_text(file.read_text().replace("validation = 48", more))
    line = one_line(lenet(*arguments(file, tmp_path / "out", data), *options), code)
    assert message in line
    assert not (tmp_path / "out").exists()
