"""Fine-tuning on drawings and training from the page: what they bring, what they leave, and that they stop."""

import hashlib
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from studio_cases import client, dataset, get, model, numbers, post, session

from lenet import drawing, storage
from lenet.data import load_dataset
from lenet.errors import LenetError
from lenet.evaluation import evaluate
from lenet.executors import EagerExecutor, State
from lenet.lock import locked
from lenet.settings import Settings
from lenet.studio import jobs, teach
from lenet.studio.app import create_watch_app
from lenet.studio.jobs import Stopped, Workshop, new_folder
from lenet.studio.model import describe_network
from lenet.studio.security import Guard
from lenet.studio.watch import View
from lenet.studio.wire import Refusal

PATIENCE = 300  # seconds, for kernels may have to be compiled first


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder in which lenet was started."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def european_one(rng: np.random.Generator) -> list[Any]:
    """Return a 1 with a long upstroke, which a network that learned from Americans takes for a 7."""
    points = np.array([[0.2, 0.5], [0.6, 0.15], [0.6, 0.85]]) + rng.normal(0, 0.025, (3, 2))
    return [{"tool": "pen", "points": points.tolist()}]


def collect(studio: FlaskClient, count: int) -> None:
    rng = np.random.default_rng(7)
    for _ in range(count):
        post(studio, "/api/drawings", {"strokes": european_one(rng), "label": 1}, 201)


def wait(studio: FlaskClient, path: str, until: Callable[[Any], bool]) -> Any:
    started = time.monotonic()
    while time.monotonic() - started < PATIENCE:
        found = get(studio, path)
        if until(found):
            return found
        time.sleep(0.02)
    raise AssertionError(found)


def ended(found: Any) -> bool:
    return found["state"] != "running"


def digest(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir() if file.is_file()}


# fine-tuning ---------------------------------------------------------------------------------------------------------


def test_a_network_learns_a_hand_and_is_kept_beside_the_one_it_came_from(here: Path) -> None:
    studio = client(session(here))
    collect(studio, 20)
    before = digest(storage.PRETRAINED)
    assert get(studio, "/api/finetune") == {
        "state": "none", "progress": 0, "message": "", "before": None, "after": None, "saved": None
    }  # fmt: skip
    assert post(studio, "/api/finetune", status=202)["state"] == "running"
    found = wait(studio, "/api/finetune", ended)
    assert (found["state"], found["progress"], found["saved"]) == ("done", 1, None)
    assert found["before"]["drawings"] < found["after"]["drawings"] == 1  # 4 are held out
    assert found["after"]["test"] > found["before"]["test"] - 0.02
    assert get(studio, "/api/network")["name"] == "pretrained"  # until it is kept

    kept = post(studio, "/api/finetune/keep")
    assert kept["saved"] == "pretrained-finetuned"
    assert get(studio, "/api/network")["name"] == "pretrained-finetuned"
    assert digest(storage.PRETRAINED) == before
    folder = here / "pretrained-finetuned"
    saved = storage.load(folder, with_state=True)
    assert saved.description.settings.training.epochs == len(saved.history) == len(model().saved.history) + 1
    assert saved.history[-1].test_accuracy == found["after"]["test"]
    assert (saved.weights != model().saved.weights).any()
    origin = json.loads((folder / teach.ORIGIN).read_text())
    assert origin["network"] == str(storage.PRETRAINED.resolve())
    assert origin["drawings"] == {"learned": 16, "held_out": 4}
    assert origin["after"] == found["after"]

    executor = EagerExecutor(saved.network, model().inspector._backend)
    executor.write(State.of(saved.weights))
    labels = dataset().test_labels
    accuracy = evaluate(executor, executor.upload(dataset().test_images, labels), labels).accuracy
    assert accuracy == pytest.approx(found["after"]["test"], abs=1 / len(labels))

    assert "nothing to keep" in post(studio, "/api/finetune/keep", status=409)["error"]
    assert "nothing to discard" in post(studio, "/api/finetune/discard", status=409)["error"]
    post(studio, "/api/finetune", status=202)  # and on from there
    assert wait(studio, "/api/finetune", ended)["before"]["drawings"] == 1
    assert post(studio, "/api/finetune/keep")["saved"] == "pretrained-finetuned-2"


def test_a_discarded_network_leaves_nothing(here: Path) -> None:
    studio = client(session(here))
    collect(studio, 6)
    post(studio, "/api/finetune", status=202)
    wait(studio, "/api/finetune", ended)
    assert post(studio, "/api/finetune/discard")["state"] == "none"
    assert {file.name for file in here.iterdir()} == {"drawings"}
    assert get(studio, "/api/network")["name"] == "pretrained"


def test_too_few_drawings(here: Path) -> None:
    studio = client(session(here))
    collect(studio, 5)  # of which the third is held out
    assert "5 drawings to learn from; there are 4" in post(studio, "/api/finetune", status=409)["error"]
    assert get(studio, "/api/finetune")["state"] == "none"


def test_fine_tuning_stops(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teach, "ROUNDS", 100_000)
    studio = client(session(here))
    collect(studio, 6)
    post(studio, "/api/finetune", status=202)
    wait(studio, "/api/finetune", lambda found: found["progress"] > 0)
    assert "running" in post(studio, "/api/finetune", status=409)["error"]
    assert "running" in post(studio, "/api/training", {"epochs": 1}, 409)["error"]
    assert "nothing to keep" in post(studio, "/api/finetune/keep", status=409)["error"]
    assert get(studio, "/api/training")["state"] == "none"
    post(studio, "/api/finetune/stop", status=202)
    found = wait(studio, "/api/finetune", ended)
    assert (found["state"], found["message"], found["after"]) == ("none", "stopped", None)
    assert {file.name for file in here.iterdir()} == {"drawings"}


def test_the_studio_ends_while_something_runs(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teach, "ROUNDS", 100_000)
    opened = session(here)
    studio = client(opened)
    collect(studio, 6)
    post(studio, "/api/finetune", status=202)
    opened.close()
    assert not opened.workshop.busy


@pytest.mark.parametrize(
    ("error", "message"),
    [(LenetError("no memory is left"), "no memory is left"), (ValueError("odd"), "unexpected ValueError: odd")],
)
def test_what_goes_wrong_is_said(here: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str) -> None:
    def fail(*arguments: Any) -> None:
        raise error

    monkeypatch.setattr(Workshop, "executor", fail)
    studio = client(session(here))
    collect(studio, 6)
    post(studio, "/api/finetune", status=202)
    found = wait(studio, "/api/finetune", ended)
    assert (found["state"], found["message"]) == ("failed", message)
    post(studio, "/api/training", {"epochs": 1}, 202)
    found = wait(studio, "/api/training", ended)
    assert (found["state"], found["message"]) == ("failed", message)
    assert {file.name for file in here.iterdir()} == {"drawings"}


def test_a_folder_that_cannot_be_made_loses_no_result(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    studio = client(session(here))
    collect(studio, 6)
    post(studio, "/api/finetune", status=202)
    wait(studio, "/api/finetune", ended)

    def refuse(*arguments: Any, **options: Any) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as broken:
        broken.setattr(Path, "mkdir", refuse)
        assert "Permission denied" in post(studio, "/api/finetune/keep", status=500)["error"]
    with monkeypatch.context() as broken:
        broken.setattr(storage, "save", refuse)
        assert "Permission denied" in post(studio, "/api/finetune/keep", status=500)["error"]
    assert not (here / "pretrained-finetuned").exists()
    assert post(studio, "/api/finetune/keep")["saved"] == "pretrained-finetuned"


def test_what_is_kept_is_written_under_the_lock_and_with_its_origin(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    studio = client(session(here))
    collect(studio, 6)
    post(studio, "/api/finetune", status=202)
    wait(studio, "/api/finetune", ended)
    save, seen = storage.save, []

    def watched(path: Path, *arguments: Any) -> None:
        with pytest.raises(LenetError, match="another training is at work"), locked(path):
            pass
        seen.append(json.loads((path / teach.ORIGIN).read_text())["drawings"])
        save(path, *arguments)

    monkeypatch.setattr(storage, "save", watched)
    post(studio, "/api/finetune/keep")
    assert seen == [{"learned": 5, "held_out": 1}]
    assert not (here / "pretrained-finetuned" / ".lock").exists()


def test_many_who_start_at_once_need_not_wait_for_each_other(here: Path) -> None:
    workshop, ending = Workshop(1), threading.Event()
    workshop.start(lambda: None, ending.wait, lambda reason: None)

    def press() -> None:
        with pytest.raises(Refusal):
            workshop.start(lambda: None, ending.wait, lambda reason: None)

    others = [threading.Thread(target=press) for _ in range(40)]
    started = time.monotonic()
    for other in others:
        other.start()
    for other in others:
        other.join()
    ending.set()
    assert time.monotonic() - started < 40 * jobs.A_MOMENT / 4


@pytest.mark.parametrize(("drawings", "images"), [(5, 60_000), (7, 3000), (1000, 60_000), (3, 10)])
def test_a_round_mixes_drawings_with_eight_times_as_many_images(drawings: int, images: int) -> None:
    settings = teach.lesson_settings(model().saved)
    first, second = (teach.plan_round(settings, number, drawings, images, 28, 28) for number in (1, 2))
    shown, replayed = first.order[first.order < drawings], first.order[first.order >= drawings]
    assert len(replayed) == min(images, 8 * 512) == len(set(replayed.tolist()))
    assert replayed.max() < drawings + images
    assert len(shown) == -(-len(replayed) // 8)
    times = np.bincount(shown, minlength=drawings)
    assert times.max() - times.min() <= 1
    assert (first.order != second.order).any()
    assert first.transforms is not None
    assert len(first.transforms) == len(first.order)
    assert first.hyper[:, 0].max() <= teach.LEARNING_RATE
    # shuffled: drawings are in all parts of the round
    assert len(first.order) < 100 or all((part < drawings).any() for part in np.array_split(first.order, 8))


def test_without_replay_a_network_forgets() -> None:
    """Show that eight images of the first training for each drawing are worth their time."""
    whole, saved, drawings = load_dataset(), model().saved, 10
    settings = teach.lesson_settings(saved)
    rng = np.random.default_rng(1)
    ones = [drawing.prepare(drawing.parse_strokes({"strokes": european_one(rng)})).image for _ in range(drawings)]
    executor = Workshop(2).executor(settings, whole, 10)
    mixture = executor.upload(
        np.concatenate([np.stack(ones), whole.train_images]),
        np.concatenate([np.ones(drawings, np.int32), whole.train_labels]),
    )
    accuracy = {}
    for replay in (True, False):
        executor.write(teach._start(saved, settings))
        for number in range(1, teach.ROUNDS + 1):
            plan = teach.plan_round(settings, number, drawings, len(whole.train_labels), 28, 28)
            if not replay:
                plan.order[:] %= drawings
            executor.train_epoch(mixture, plan)
        test = executor.upload(whole.test_images, whole.test_labels)
        accuracy[replay] = evaluate(executor, test, whole.test_labels).accuracy
    assert accuracy[True] > 0.99
    assert accuracy[False] < accuracy[True] - 0.005


# training ------------------------------------------------------------------------------------------------------------


def test_a_training_from_the_page(here: Path) -> None:
    (here / "network").mkdir()
    studio = client(session(here))
    assert get(studio, "/api/training")["state"] == "none"
    assert post(studio, "/api/training", {"epochs": 3}, 202)["state"] == "running"
    seen = wait(studio, "/api/training", lambda found: found["history"])
    assert seen["epochs"] == 3
    found = wait(studio, "/api/training", ended)
    assert found["state"] == "done"
    assert "network-2" in found["message"]
    assert not list((here / "network").iterdir())

    saved = storage.load(here / "network-2", with_state=True)
    assert [record["test_accuracy"] for record in found["history"]] == [r.test_accuracy for r in saved.history]
    assert [record["epoch"] for record in found["history"]] == [1, 2, 3]
    assert (found["epoch"], found["done"]) == (3, 1)
    kernels = numbers(found["kernels"]["values"], *found["kernels"]["shape"])
    assert kernels.shape == (6, 1, 5, 5)
    np.testing.assert_array_equal(kernels.reshape(6, 5, 5), saved.network.views(saved.weights)[0].weight)
    assert get(studio, "/api/network")["name"] == "pretrained"


def test_a_training_stops_and_keeps_its_last_epoch(here: Path) -> None:
    studio = client(session(here))
    post(studio, "/api/training", {"epochs": 1000}, 202)
    assert "running" in post(studio, "/api/training", {"epochs": 1}, 409)["error"]
    wait(studio, "/api/training", lambda found: len(found["history"]) >= 2)
    post(studio, "/api/training/stop", status=202)
    found = wait(studio, "/api/training", ended)
    assert found["state"] == "stopped"
    epochs = len(storage.load(here / "network", with_state=True).history)
    assert len(found["history"]) == epochs
    assert found["message"] == f"network holds epoch {epochs}"
    assert (here / "network" / "curves.png").exists()


def test_a_training_stopped_while_it_is_prepared_leaves_no_folder(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiling, compiled, prepare = threading.Event(), threading.Event(), Workshop.executor

    def slowly(*arguments: Any) -> Any:
        executor = prepare(*arguments)
        compiling.set()
        compiled.wait(PATIENCE)
        return executor

    monkeypatch.setattr(Workshop, "executor", slowly)
    studio = client(session(here))
    assert "preparing" in post(studio, "/api/training", {"epochs": 3}, 202)["message"]
    compiling.wait(PATIENCE)
    post(studio, "/api/training/stop", status=202)
    compiled.set()
    assert wait(studio, "/api/training", ended)["state"] == "stopped"
    assert not list(here.iterdir())


def test_a_training_stopped_within_its_first_epoch_leaves_no_folder(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop_at_once(self: View, done: int, cost: float) -> None:
        raise Stopped

    monkeypatch.setattr(View, "watch", stop_at_once)
    monkeypatch.setattr(View, "finish", stop_at_once)
    monkeypatch.setattr("lenet.training.storage.save", lambda *arguments, **options: None)
    studio = client(session(here))
    post(studio, "/api/training", {"epochs": 3}, 202)
    assert wait(studio, "/api/training", ended)["state"] == "stopped"
    assert not (here / "network").exists()


@pytest.mark.parametrize("epochs", [0, -1, 1001, 1.5, "3", None, True])
def test_epochs_that_make_no_sense(here: Path, epochs: Any) -> None:
    assert "epochs" in post(client(session(here)), "/api/training", {"epochs": epochs}, 400)["error"]


def test_folders_are_new(here: Path) -> None:
    (here / "network").write_text("a file")
    assert [new_folder("network").name for _ in range(3)] == ["network-2", "network-3", "network-4"]


def test_stopping_what_does_not_run_stops_nothing_later(here: Path) -> None:
    studio = client(session(here))
    post(studio, "/api/training/stop", status=202)
    post(studio, "/api/finetune/stop", status=202)
    post(studio, "/api/training", {"epochs": 1}, 202)
    assert wait(studio, "/api/training", ended)["state"] == "done"


# watching ------------------------------------------------------------------------------------------------------------


def test_kernels_are_looked_at_only_for_a_page_that_asks(float64: Any) -> None:
    executor = EagerExecutor(model().saved.network, float64)
    executor.write(State.of(model().saved.weights))
    view = View()
    view.begin(executor, images=100, epochs=2)
    view.watch(40, 0.5)
    assert view._kernels is None
    assert view.to_dict() | {"kernels": None} == {
        "state": "running", "message": "", "epoch": 1, "epochs": 2, "done": 0.4, "cost": 0.5, "history": [],
        "kernels": None,
    }  # fmt: skip
    view.watch(60, 0.4)
    found = view.to_dict()
    assert found["done"] == 0.6
    kernels = numbers(found["kernels"]["values"], 6, 1, 5, 5)
    np.testing.assert_array_equal(kernels.ravel(), model().saved.weights[:150])


def test_a_cost_that_is_no_number_is_no_cost(float64: Any) -> None:
    view = View()
    view.begin(EagerExecutor(model().saved.network, float64), images=100, epochs=2)
    view.watch(40, float("nan"))
    assert view.to_dict()["cost"] is None


def test_a_page_that_looks_is_told_the_end() -> None:
    saved, view = model().saved, View()
    network = describe_network(Path("net"), saved.network, saved.description, dataset(), accuracy=None)
    studio = create_watch_app(view, network, Guard("127.0.0.1")).test_client()
    view.prepare("", 1)
    started = time.monotonic()
    view.end("done", "saved")
    view.wait_until_seen()
    assert time.monotonic() - started < 0.5  # nobody looks
    view.prepare("", 1)
    studio.get("/api/training").close()
    view.end("done", "saved")
    waiting = threading.Thread(target=view.wait_until_seen)
    waiting.start()
    answer = studio.get("/api/training")
    time.sleep(0.1)
    assert waiting.is_alive()  # the answer is not sent yet
    assert answer.json["message"] == "saved"
    answer.close()
    waiting.join(1)
    assert not waiting.is_alive()


def test_the_page_of_a_command_only_shows() -> None:
    saved, view = model().saved, View()
    network = describe_network(Path("net"), saved.network, saved.description, dataset(), accuracy=None)
    studio = create_watch_app(view, network, Guard("127.0.0.1")).test_client()
    assert studio.get("/").headers["Location"] == "/training"
    assert studio.get("/training").status_code == 200
    assert get(studio, "/api/training")["state"] == "none"
    assert get(studio, "/api/network")["name"] == "net"
    for path in ("/api/training", "/api/training/stop", "/api/think", "/api/finetune", "/api/drawings"):
        assert studio.post(path, json={"epochs": 1}).status_code in (404, 405)
    assert studio.get("/api/network", headers={"Host": "evil.example"}).status_code == 403


def test_settings_of_a_lesson_keep_the_architecture_and_distort() -> None:
    saved = model().saved
    settings = teach.lesson_settings(saved)
    assert settings.network == saved.description.settings.network
    assert settings.distortion == Settings().distortion
    assert settings.training.learning_rate == teach.LEARNING_RATE < Settings().training.learning_rate


def test_threads_reach_the_backend() -> None:
    assert "1 thread)" in jobs.Workshop(1).executor(Settings(), dataset(), 10).backend.device
