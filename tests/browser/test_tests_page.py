"""The test images: every filter, against what the server says of all 10,000 of them."""

from collections.abc import Callable
from typing import Any

import pytest
from studio_page import StudioPage


@pytest.fixture
def gallery(open_page: Callable[..., StudioPage], shared: Any) -> StudioPage:
    page = open_page(f"{shared.address}/tests")
    page.settle()
    return page


def found(page: StudioPage) -> list[dict[str, str]]:
    page.settle()
    return list(page.page.locator("#images li").evaluate_all("all => all.map(item => ({...item.dataset}))"))


def total(page: StudioPage) -> int:
    return int(page.text("#total").split()[0].replace(",", ""))


def test_all_images_are_there_page_by_page(gallery: StudioPage) -> None:
    assert total(gallery) == 10_000
    assert [int(image["index"]) for image in found(gallery)] == list(range(120))
    gallery.click("#more")
    assert [int(image["index"]) for image in found(gallery)] == list(range(240))


def test_only_wrong_answers(gallery: StudioPage) -> None:
    gallery.page.get_by_role("switch", name="Only wrong answers").press("Space")
    images = found(gallery)
    accuracy = gallery.ask("/api/network")["accuracy"]
    assert total(gallery) == len(images) == round(10_000 * (1 - accuracy))
    assert all(image["label"] != image["answer"] for image in images)
    assert gallery.page.url.endswith("?wrong=1")
    assert gallery.page.locator("#more").is_hidden()
    gallery.page.get_by_role("button", name="Show all").click()
    found(gallery)
    assert total(gallery) == 10_000


def test_label_answer_and_confidence(gallery: StudioPage) -> None:
    gallery.click("#label button:nth-child(8)")
    assert {image["label"] for image in found(gallery)} == {"7"}
    assert total(gallery) == 1028  # sevens in MNIST's test images
    gallery.click("#answer button:nth-child(3)")
    assert {(image["label"], image["answer"]) for image in found(gallery)} == {("7", "2")}
    gallery.click("#answer button:nth-child(3)")  # once more: any
    gallery.page.locator("#below").fill("90")
    images = found(gallery)
    assert images
    assert all(float(image["confidence"]) < 0.9 for image in images)
    assert gallery.text("#below-said") == "below 90 %"


def test_a_cell_of_the_confusion_matrix_shows_its_images(gallery: StudioPage) -> None:
    counts = gallery.ask("/api/confusion")["counts"]
    assert sum(map(sum, counts)) == 10_000
    cell = gallery.page.locator("#confusion button[data-label='5'][data-answer='3']")
    assert int(cell.inner_text()) == counts[5][3]
    assert cell.get_attribute("aria-label") == f"{counts[5][3]} times 5 taken for 3"
    cell.click()
    assert [(image["label"], image["answer"]) for image in found(gallery)] == [("5", "3")] * counts[5][3]
    assert cell.get_attribute("aria-pressed") == "true"


def test_the_address_holds_the_choice_and_an_image_leads_to_the_studio(
    open_page: Callable[..., StudioPage], shared: Any
) -> None:
    page = open_page(f"{shared.address}/tests?label=4&wrong=1")
    images = found(page)
    assert {image["label"] for image in images} == {"4"}
    assert page.page.locator("#wrong").is_checked()
    page.click("#images li:first-child a")
    page.page.wait_for_url("**/?test=*")
    page.settle()
    assert page.said.endswith("Wrong: it is labeled 4.")


def test_no_image_is_said(open_page: Callable[..., StudioPage], shared: Any) -> None:
    page = open_page(f"{shared.address}/tests?label=0&answer=0&wrong=1")
    assert found(page) == []
    assert page.text("#total") == "No such image"
