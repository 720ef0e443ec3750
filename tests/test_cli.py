"""The command line as a user runs it: in a process of its own, with its exit codes, messages and files."""

import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lenet.data import write_idx
from lenet.settings import Settings

FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
SMALL = ("--backend", "numpy", "--batch-size", "16")


def lenet(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lenet", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=300,
    )


def one_line(result: subprocess.CompletedProcess[str], code: int) -> str:
    """Check that a command failed with ``code`` and one line on stderr, and return the line."""
    assert result.returncode == code, result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("Error: ")
    return lines[0]


def digest(folder: Path) -> dict[str, str]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def make_data(folder: Path, images: int = 96, size: int = 16) -> Path:
    """Write a data set of three classes: a bright square in a corner that the label decides."""
    rng = np.random.default_rng(3)
    folder.mkdir()
    for image_file, label_file in FILES.values():
        labels = (np.arange(images) % 3).astype(np.uint8)
        pixels = rng.integers(0, 60, (images, size, size), dtype=np.uint8)
        for image, label in zip(pixels, labels, strict=True):
            row, column = divmod(int(label), 2)
            image[2 + 7 * row : 7 + 7 * row, 2 + 7 * column : 7 + 7 * column] += 180
        write_idx(folder / image_file, pixels)
        write_idx(folder / label_file, labels)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data") / "corners")


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trained") / "network"
    result = lenet("train", "--path", path, "--data", data, "--epochs", "3", *SMALL)
    assert result.returncode == 0, result.stderr
    return path


# help ------------------------------------------------------------------------------------------------------------


def test_help_names_the_commands_and_exit_codes() -> None:
    result = lenet("--help")
    assert result.returncode == 0
    for word in ("train", "test", "info", "130"):
        assert word in result.stdout
    for command in ("train", "test", "info"):
        assert lenet(command, "--help").returncode == 0


def test_help_is_quick() -> None:
    code = (
        "import resource, subprocess, sys; "
        "subprocess.run([sys.executable, '-m', 'lenet', '--help'], stdout=subprocess.DEVNULL, check=True); "
        "used = resource.getrusage(resource.RUSAGE_CHILDREN); print(used.ru_utime + used.ru_stime)"
    )
    seconds = [float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(5)]
    assert min(seconds) < 0.2


def test_defaults_in_the_help_are_the_defaults() -> None:
    text = " ".join(lenet("train", "--help", COLUMNS="200").stdout.split())
    training = Settings().training
    for option, value in {
        "--epochs": training.epochs,
        "--optimizer": training.optimizer,
        "--lr": training.learning_rate,
        "--schedule": training.schedule,
        "--batch-size": training.batch_size,
        "--seed": training.seed,
    }.items():
        assert f"[default: {value}]" in text.partition(option)[2].partition(" --")[0], option


def test_version() -> None:
    assert lenet("--version").stdout.startswith("lenet ")


# train -----------------------------------------------------------------------------------------------------------


def test_train_writes_a_network_and_says_what_next(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "net"
    result = lenet("train", "--path", path, "--data", data, "--epochs", "2", *SMALL)
    assert result.returncode == 0, result.stderr
    assert "corners" in result.stdout
    assert f"lenet test --path {path}" in result.stdout
    lines = [line for line in result.stderr.splitlines() if not line.startswith("warning")]
    assert [line.split()[0] for line in lines] == ["epoch", "1/2", "2/2"]
    assert "\x1b" not in result.stdout + result.stderr
    assert {"network.json", "history.csv", "curves.png", "C3.weight.npy", "output.bias.npy"} <= set(digest(path))
    with (path / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["epoch", "learning_rate", "cost", "train_accuracy", "test_accuracy", "seconds"]
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert np.load(path / "C3.weight.npy").shape == (60, 5, 5)


def test_train_on_the_bundled_mnist(tmp_path: Path) -> None:
    result = lenet("train", "--path", tmp_path / "net", "--epochs", "1", "--validation", "5000")
    assert result.returncode == 0, result.stderr
    assert "55,000 training · 5,000 validation · 10,000 test" in result.stdout
    description = json.loads((tmp_path / "net" / "network.json").read_text())
    found = json.loads(lenet("test", "--path", tmp_path / "net", "--json").stdout)
    assert found["images"] == 10_000
    assert found["accuracy"] > 0.9
    assert description["format"] == 1


def test_an_existing_network_is_not_overwritten_unasked(trained: Path, data: Path) -> None:
    before = digest(trained)
    line = one_line(lenet("train", "--path", trained, "--data", data, *SMALL), 1)
    assert "--resume" in line
    assert "--overwrite" in line
    assert digest(trained) == before


def test_overwrite(data: Path, tmp_path: Path) -> None:
    for seed in ("1", "2"):
        result = lenet(
            "train", "--path", tmp_path / "net", "--data", data, "--epochs", "1", "--seed", seed, "--overwrite", *SMALL
        )
        assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "net" / "network.json").read_text())["settings"]["training"]["seed"] == 2


def test_a_folder_with_other_files_is_left_alone(data: Path, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear friend")
    assert "not empty" in one_line(lenet("train", "--path", tmp_path, "--data", data, *SMALL), 1)
    assert list(digest(tmp_path)) == ["letter.txt"]


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_killed_and_resumed_equals_undisturbed(data: Path, tmp_path: Path, backend: str) -> None:
    options = ("--data", data, "--backend", backend, "--batch-size", "16", "--schedule", "cosine", "--epochs", "8")
    assert lenet("train", "--path", tmp_path / "whole", *options).returncode == 0
    kill_after(tmp_path / "parts", options, epochs=4, number=signal.SIGKILL)
    result = lenet("train", "--path", tmp_path / "parts", "--resume")
    assert result.returncode == 0, result.stderr
    whole, parts = (digest(tmp_path / name) for name in ("whole", "parts"))
    arrays = [name for name in whole if name.endswith(".npy")]
    assert len(arrays) == 13  # ten parameters; raw parameters, moments and average of the checkpoint
    assert {name: whole[name] for name in arrays} == {name: parts[name] for name in arrays}


def kill_after(path: Path, options: tuple[str | Path, ...], epochs: int, number: int) -> tuple[int, str]:
    """Start a training, send it a signal once so many epochs are printed, and return exit code and all of stderr."""
    command = [sys.executable, "-u", "-m", "lenet", "train", "--path", path, *options]
    with subprocess.Popen(
        [str(part) for part in command], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stderr is not None
        seen = ""
        for line in process.stderr:
            seen += line
            if line.strip().startswith(f"{epochs}/"):
                break
        process.send_signal(number)
        seen += process.stderr.read()
        return process.wait(60), seen


def test_ctrl_c_keeps_the_last_epoch_and_exits_130(data: Path, tmp_path: Path) -> None:
    options = ("--data", data, "--epochs", "100000", *SMALL)
    code, printed = kill_after(tmp_path / "net", options, epochs=3, number=signal.SIGINT)
    assert code == 130
    assert "Traceback" not in printed
    assert "lenet train --resume --path" in printed
    done = len((tmp_path / "net" / "history.csv").read_text().splitlines()) - 1
    assert f"holds epoch {done}." in printed
    assert (tmp_path / "net" / "curves.png").exists()
    result = lenet("train", "--path", tmp_path / "net", "--resume", "--epochs", str(done + 1))
    assert result.returncode == 0, result.stderr


def test_ctrl_c_before_the_first_epoch_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "net"
    process = subprocess.Popen(
        [sys.executable, "-m", "lenet", "train", "--path", str(path), "--backend", "numpy"],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    while "device" not in process.stdout.readline():
        pass
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in printed
    assert not path.exists()


def test_resume_of_a_finished_run_has_nothing_to_do(trained: Path) -> None:
    before = digest(trained)
    result = lenet("train", "--path", trained, "--resume")
    assert result.returncode == 0
    assert "all 3 epochs are done" in result.stdout
    assert digest(trained) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--lr", "0.5"), "only --epochs can change"),
        (("--epochs", "2"), "has 3 epochs already"),
        (("--settings", "original"), "does not go with"),
        (("--validation", "7"), "holds 0 images out"),
    ],
)
def test_resume_changes_nothing_else(trained: Path, options: tuple[str, ...], message: str) -> None:
    assert message in one_line(lenet("train", "--path", trained, "--resume", *options), 2)


def test_resume_wants_the_same_data(trained: Path, tmp_path: Path) -> None:
    other = make_data(tmp_path / "other", images=60)
    line = one_line(lenet("train", "--path", trained, "--resume", "--epochs", "9", "--data", other), 1)
    assert "not the data set" in line


def test_print_settings_is_a_file_that_train_takes(data: Path, tmp_path: Path) -> None:
    printed = lenet("train", "--print-settings", "--lr", "0.25").stdout
    assert tomllib.loads(printed)["training"]["learning_rate"] == 0.25
    file = tmp_path / "mine.toml"
    file.write_text(printed)
    assert lenet("train", "--settings", file, "--print-settings").stdout == printed
    result = lenet("train", "--settings", file, "--path", tmp_path / "n", "--data", data, "--epochs", "1", *SMALL)
    assert result.returncode == 0, result.stderr


def test_recipe_by_name() -> None:
    printed = tomllib.loads(lenet("train", "--settings", "original", "--print-settings").stdout)
    assert printed["training"]["average"] == 0
    assert printed["training"]["learning_rate"] == 0.01


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--epochs", "-3"), "epochs must be a whole number from 1"),
        (("--epochs", "many"), "'many' is not a valid integer"),
        (("--lr", "nan"), "learning_rate must be a number"),
        (("--lr", "0"), "learning_rate must be a number"),
        (("--batch-size", "0"), "batch_size must be"),
        (("--optimizer", "sgd"), "optimizer must be one of adam, momentum, gd"),
        (("--schedule", "linear"), "schedule must be one of"),
        (("--seed", "-1"), "seed must be"),
        (("--threads", "0"), "--threads must be 1 or more"),
        (("--backend", "torch"), "--backend is one of numpy, numba"),
        (("--device", "tpu"), "--device is auto, cpu or gpu"),
        (("--device", "gpu", "--backend", "numpy"), "contradicts"),
        (("--settings", "nowhere.toml"), "No such file"),
        (("--resume", "--overwrite"), "does not go with"),
        (("--frobnicate",), "No such option"),
    ],
)
def test_wrong_usage_is_exit_code_2(data: Path, tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    result = lenet("train", "--path", tmp_path / "net", "--data", data, *options)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "net").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[training]\nepochs = 'ten'", "epochs must be a whole number"),
        ("[training]\nspeed = 3", "has no setting speed"),
        ("[trainning]\nepochs = 3", "no section [trainning]"),
        ("[training", "not a valid TOML file"),
        ("[network]\nmaps = [5, 16]", "connects 6 maps with 16"),
    ],
)
def test_bad_settings_file(data: Path, tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(text)
    line = one_line(lenet("train", "--settings", file, "--path", tmp_path / "net", "--data", data), 2)
    assert message in line


def test_the_gpu_is_never_replaced_silently(tmp_path: Path) -> None:
    environment = {"CUDA_VISIBLE_DEVICES": ""}
    one_line(lenet("train", "--path", tmp_path / "net", "--device", "gpu", **environment), 3)
    assert not (tmp_path / "net").exists()


def test_path_below_a_file(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    one_line(lenet("train", "--path", tmp_path / "file", "--data", data, *SMALL), 1)
    result = lenet("train", "--path", tmp_path / "file" / "net", "--data", data, "--epochs", "1", *SMALL)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("Error: ")
    assert "Traceback" not in result.stderr


def test_divergence_is_said(data: Path, tmp_path: Path) -> None:
    settings = tmp_path / "wild.toml"
    settings.write_text('[network]\nactivation = "relu"\n[training]\noptimizer = "gd"\nlearning_rate = 1e30\n')
    result = lenet("train", "--settings", settings, "--path", tmp_path / "net", "--data", data, *SMALL)
    assert result.returncode == 1
    assert "no longer finite in epoch 1; nothing was written" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "net").exists()


def test_a_plateau_is_said(data: Path, tmp_path: Path) -> None:
    result = lenet("train", "--path", tmp_path / "net", "--data", data, "--epochs", "1", "--lr", "1e-12", *SMALL)
    assert result.returncode == 0
    assert "still no better than chance" in result.stderr


# bad data --------------------------------------------------------------------------------------------------------


def _truncate(folder: Path) -> None:
    file = folder / FILES["train"][0]
    file.write_bytes(file.read_bytes()[:-1])


def _grow(folder: Path) -> None:
    file = folder / FILES["train"][0]
    file.write_bytes(file.read_bytes() + b"x")


def _swap(folder: Path) -> None:
    images, labels = (folder / name for name in FILES["train"])
    images.rename(folder / "aside")
    labels.rename(images)
    (folder / "aside").rename(labels)


def _lose(folder: Path) -> None:
    (folder / FILES["test"][1]).unlink()


def _miscount(folder: Path) -> None:
    write_idx(folder / FILES["train"][1], np.zeros(95, np.uint8))


def _strange_label(folder: Path) -> None:
    write_idx(folder / FILES["test"][1], np.full(96, 9, np.uint8))


def _odd_size(folder: Path) -> None:
    for name in ("train", "test"):
        write_idx(folder / FILES[name][0], np.zeros((96, 30, 30), np.uint8))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_truncate, FILES["train"][0]),
        (_grow, FILES["train"][0]),
        (_swap, FILES["train"][0]),
        (_lose, FILES["test"][1]),
        (_miscount, "95"),
        (_strange_label, "9"),
    ],
)
def test_bad_data_is_one_line(tmp_path: Path, spoil: Callable[[Path], None], message: str) -> None:
    folder = make_data(tmp_path / "corners")
    spoil(folder)
    line = one_line(lenet("train", "--path", tmp_path / "net", "--data", folder, *SMALL), 1)
    assert message in line
    assert not (tmp_path / "net").exists()


def test_images_of_a_size_that_does_not_fit(tmp_path: Path) -> None:
    folder = make_data(tmp_path / "corners")
    _odd_size(folder)
    line = one_line(lenet("train", "--path", tmp_path / "net", "--data", folder, *SMALL), 2)
    assert "multiples of 4" in line


def test_data_that_is_not_there(tmp_path: Path) -> None:
    one_line(lenet("train", "--path", tmp_path / "net", "--data", tmp_path / "nothing", *SMALL), 1)


# test ------------------------------------------------------------------------------------------------------------


def test_test_prints_a_report(trained: Path) -> None:
    result = lenet("test", "--path", trained, "--backend", "numpy")
    assert result.returncode == 0
    assert result.stderr == ""
    for word in ("network", "test", "cost", "class", "mistaken"):
        assert word in result.stdout


def test_json_is_the_contract(trained: Path) -> None:
    found = json.loads(lenet("test", "--path", trained, "--backend", "numpy", "--json").stdout)
    assert 0 <= found["accuracy"] <= 1
    assert found["cost"] > 0
    assert found["first_5000"] is None
    assert found["last_5000"] is None
    assert np.sum(found["confusion"]) == found["images"] == 96
    assert np.trace(found["confusion"]) == found["correct"]


def test_min_accuracy(trained: Path) -> None:
    assert lenet("test", "--path", trained, "--backend", "numpy", "--min-accuracy", "0").returncode == 0
    too_high = lenet("test", "--path", trained, "--backend", "numpy", "--min-accuracy", "1")
    accuracy = json.loads(lenet("test", "--path", trained, "--backend", "numpy", "--json").stdout)["accuracy"]
    assert too_high.returncode == (0 if accuracy == 1 else 4)
    one_line(lenet("test", "--path", trained, "--min-accuracy", "99"), 2)


def test_a_missed_accuracy_is_exit_code_4(tmp_path: Path, data: Path) -> None:
    path = tmp_path / "net"
    assert lenet("train", "--path", path, "--data", data, "--epochs", "1", "--lr", "1e-12", *SMALL).returncode == 0
    line = one_line(lenet("test", "--path", path, "--backend", "numpy", "--min-accuracy", "0.9"), 4)
    assert "below --min-accuracy 0.9" in line


def test_backends_agree(trained: Path) -> None:
    found = [
        json.loads(lenet("test", "--path", trained, "--backend", name, "--json").stdout) for name in ("numpy", "numba")
    ]
    assert found[0]["confusion"] == found[1]["confusion"]
    assert found[0]["cost"] == pytest.approx(found[1]["cost"], rel=1e-4)


def test_no_network(tmp_path: Path) -> None:
    assert "lenet train" in one_line(lenet("test", "--path", tmp_path / "nothing"), 1)


@pytest.mark.parametrize("name", ["C3.weight.npy", "F5.bias.npy", "network.json"])
def test_a_damaged_file_is_named(trained: Path, tmp_path: Path, name: str) -> None:
    import shutil

    for damage in (lambda file: file.unlink(), lambda file: file.write_bytes(file.read_bytes()[:-3] + b"xyz")):
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(trained, copy)
        damage(copy / name)
        line = one_line(lenet("test", "--path", copy, "--backend", "numpy"), 1)
        assert name in line or "no network" in line


def test_test_against_images_of_another_size(trained: Path, tmp_path: Path) -> None:
    other = make_data(tmp_path / "larger", size=20)
    assert "20 x 20" in one_line(lenet("test", "--path", trained, "--data", other), 1)


# info ------------------------------------------------------------------------------------------------------------


def test_info() -> None:
    result = lenet("info")
    assert result.returncode == 0
    for word in ("lenet", "numpy", "numba", "processor"):
        assert word in result.stdout
    found = json.loads(lenet("info", "--json").stdout)
    assert set(found) == {"versions", "machine", "backends", "folders"}


def test_a_reader_that_leaves_is_no_error(trained: Path) -> None:
    command = f'"{sys.executable}" -m lenet test --path "{trained}" --backend numpy | true'
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert "Traceback" not in result.stderr
    assert "Exception" not in result.stderr


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    result = lenet("test", "--path", tmp_path / "nothing", "--debug")
    assert "Traceback" in result.stderr
