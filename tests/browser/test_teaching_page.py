"""What the pages change on disk: drawings kept, networks fine-tuned and trained; and a server that goes away."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from studio_page import StudioPage, recorded

from lenet import storage
from lenet.data import load_dataset


def label(page: StudioPage, digit: int, number: int) -> None:
    """Draw a digit, and say what it is."""
    before = page.seq("#teach")
    page.draw(recorded(digit, number))
    page.click(f"#labels button:nth-child({digit + 1})")
    page.wait_for("#teach", before + 1)
    page.click("#clear")
    page.settle()


def test_a_labeled_drawing_is_kept_and_deleted(own: Any, open_page: Callable[..., StudioPage], tmp_path: Path) -> None:
    page = open_page(own.address)
    page.wait_for("#teach", 2)
    page.settle()
    assert page.page.locator("#labels button:disabled").count() == 10  # nothing drawn yet
    label(page, 4, 0)
    label(page, 7, 1)
    assert page.text("#teach-said") == "Kept as 7."
    assert page.page.locator("#collection li").count() == 2
    record = (tmp_path / "drawings" / "drawings.jsonl").read_text(encoding="utf-8").splitlines()
    kept = [json.loads(line) for line in record]
    assert [entry["label"] for entry in kept] == [4, 7]
    assert len(kept[0]["strokes"][0]["points"]) > 10
    assert load_dataset(tmp_path / "drawings").train_labels.tolist() == [4, 7]
    before = page.seq("#teach")
    page.page.locator("#collection li").nth(0).hover()
    page.page.get_by_role("button", name="Delete this 7").click()
    page.wait_for("#teach", before + 1)
    assert page.page.locator("#collection li").count() == 1
    assert load_dataset(tmp_path / "drawings").train_labels.tolist() == [4]
    page.click("#finetune")
    page.wait_for("#teach", before + 2)
    assert "5 drawings" in page.text("#finetune-said")  # too few; the server says how many it takes
    assert all("409" in complaint for complaint in page.complaints)  # Chromium logs every refusal
    page.complaints.clear()


def test_fine_tuning_is_measured_and_kept_in_a_new_folder(
    own: Any, open_page: Callable[..., StudioPage], tmp_path: Path
) -> None:
    page = open_page(own.address)
    for digit in (1, 7):
        for number in range(3):  # the third one is held out
            label(page, digit, number)
    if page.page.locator("#collection li:not(.held-out)").count() < 5:
        label(page, 4, 0)
    assert page.page.locator("#collection li.held-out").count() == 2
    page.click("#finetune")
    page.page.locator("#teach[data-state=done]").wait_for(timeout=180_000)
    shares = {
        name: page.text(f"#{name}") for name in ("before-test", "after-test", "before-drawings", "after-drawings")
    }
    assert shares["before-test"] == f"{100 * storage.load().history[-1].test_accuracy:.2f} %"
    assert float(shares["after-test"].removesuffix(" %")) > 98.5
    assert shares["after-drawings"].endswith(" %")
    assert not list(tmp_path.glob("*finetuned*"))  # nothing is saved unless it is kept
    page.click("#keep")
    page.page.locator("#teach[data-state=kept]").wait_for()
    assert (tmp_path / "pretrained-finetuned" / "network.json").exists()
    page.page.locator("#about-name", has_text="pretrained-finetuned").wait_for()
    page.draw(recorded(1))
    assert page.digit == "1"


def test_a_training_is_watched(own: Any, open_page: Callable[..., StudioPage], tmp_path: Path) -> None:
    page = open_page(f"{own.address}/training")
    page.wait_for("#training", 1)
    page.page.locator("#epochs").fill("2")
    page.page.get_by_role("button", name="Train").click()
    page.page.locator("#training[data-state=done]").wait_for(timeout=180_000)
    assert page.page.locator("#history tbody tr").count() == 2
    assert page.page.locator("#kernels canvas").count() == 6
    assert len(set(page.pixels("#kernels canvas:first-child"))) > 5
    points = page.page.locator("#wrong-chart polyline.test").get_attribute("points").split()
    assert len(points) == 2
    assert page.text("#epoch") == "2 of 2"
    assert (tmp_path / "network" / "network.json").exists()
    assert "lenet selftest --path network" in page.text("#message")


def test_a_server_that_has_gone_is_missed_and_found_again(
    start_server: Callable[..., Any], open_page: Callable[..., StudioPage], tmp_path: Path
) -> None:
    server = start_server(tmp_path)
    page = open_page(server.address)
    page.settle()
    assert page.page.locator("#gone").is_hidden()
    server.stop()
    page.draw(recorded(6))
    assert page.page.get_by_role("alert").inner_text().startswith("The studio has stopped answering.")
    port = server.address.rpartition(":")[2]
    start_server(tmp_path, "selftest", "--no-browser", "--port", port)
    page.page.locator("#gone").wait_for(state="hidden")
    page.settle()
    assert page.digit == "6"  # the drawing was not lost
    assert all("ERR_CONNECTION_REFUSED" in complaint for complaint in page.complaints)
    page.complaints.clear()


def test_a_training_in_the_terminal_is_watched(
    start_server: Callable[..., Any], open_page: Callable[..., StudioPage], tmp_path: Path
) -> None:
    """The page comes alone, without links to what this server does not have; that it ends is no mishap."""
    server = start_server(tmp_path, "train", "--watch", "--no-browser", "--port", "0", "--epochs", "8")
    page = open_page(server.address)
    page.page.locator("#training[data-state=done]").wait_for()
    assert page.page.locator("nav").count() == page.page.get_by_role("button", name="Train").count() == 0
    assert page.page.locator("#history tbody tr").count() == 8
    server.process.communicate(timeout=60)
    assert page.page.locator("#gone").is_hidden()
