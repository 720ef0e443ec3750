"""All that one studio holds: the network in use, the drawings, what teaches, what trains."""

from pathlib import Path
from typing import Any

from lenet import storage
from lenet.studio import wire
from lenet.studio.drawings import MAX_SHOWN, Collection
from lenet.studio.jobs import Workshop
from lenet.studio.model import Model
from lenet.studio.teach import Teacher
from lenet.studio.watch import Trainer


class Session:
    """Everything behind the pages.

    Parameters
    ----------
    model : the network in use, to begin with
    drawings : the folder that labeled drawings are kept in
    threads : CPU threads to train with; None for all

    Raises
    ------
    LenetError
        When the folder of drawings cannot be used.
    """

    def __init__(self, model: Model, drawings: Path, threads: int | None = None) -> None:
        self.model = model
        description = model.saved.description
        self.collection = Collection(drawings, description.height, description.width, description.classes)
        self.workshop = Workshop(threads)
        self.teacher = Teacher(self.workshop, self.collection)
        self.trainer = Trainer(self.workshop, model.dataset)

    def close(self) -> None:
        """End what runs in the background."""
        self.workshop.close()

    def drawings(self) -> dict[str, Any]:
        """Return the collected drawings, the newest first."""
        newest = self.collection.drawings()[: -MAX_SHOWN - 1 : -1]
        return {
            "folder": str(self.collection.folder),
            "counts": self.collection.counts(),
            "drawings": [
                {
                    "id": drawing.id,
                    "label": drawing.label,
                    "pixels": wire.pixels(drawing.image),
                    "held_out": drawing.held_out,
                }
                for drawing in newest
            ],
        }

    def add_drawing(self, body: dict[str, Any]) -> dict[str, Any]:
        """Keep a labeled drawing, prepared, with what the network made of it."""
        label = wire.integer(body, "label", 0, self.collection.classes - 1)
        if "strokes" not in body:
            raise wire.Refusal(400, "a drawing is made of strokes")
        subject = self.model.subject({"strokes": body["strokes"]})
        if subject.problem == "blank":
            raise wire.Refusal(400, "there is nothing on the paper")
        answer = self.model.think(subject)["answer"]
        strokes = [{"tool": stroke["tool"], "points": stroke["points"]} for stroke in body["strokes"]]  # nothing else
        drawing = self.collection.add(label, subject.image, strokes=strokes, answer=answer)
        return {"id": drawing.id, "counts": self.collection.counts(), "held_out": drawing.held_out}

    def keep(self) -> None:
        """Save the fine-tuned network, and use it from now on."""
        folder = self.teacher.keep(self.model)
        self.model = Model(folder, storage.load(folder), self.model.dataset)
