"""The picture of a training run: cost and accuracy over its epochs."""

import io
from collections.abc import Sequence

from lenet.storage import EpochRecord


def draw(history: Sequence[EpochRecord]) -> bytes:
    """Return a PNG, 1200 x 480 pixels, of the cost and of the errors on training, validation and test images."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    epochs = [record.epoch for record in history]
    marker = "o" if len(history) == 1 else None
    figure = Figure(figsize=(10, 4), dpi=120, layout="constrained")
    cost, error = figure.subplots(1, 2)
    cost.plot(epochs, [record.cost for record in history], color="#0072b2", marker=marker)
    cost.set(title="Cost on the training batches", xlabel="epoch", ylabel="mean cross-entropy (nats)", yscale="log")

    lines: dict[str, tuple[str, list[float | None]]] = {
        "training": ("#0072b2", [record.train_accuracy for record in history]),
        "validation": ("#009e73", [record.validation_accuracy for record in history]),
        "test": ("#d55e00", [record.test_accuracy for record in history]),
    }
    for name, (color, accuracies) in lines.items():
        wrong = [100 * (1 - accuracy) for accuracy in accuracies if accuracy is not None]
        if wrong:
            error.plot(epochs, wrong, color=color, marker=marker, label=f"{name}: {wrong[-1]:.2f} %")
    error.set(title="Wrong answers", xlabel="epoch", ylabel="% of the images", ylim=(0, None))
    error.legend(frameon=False)
    for axes in (cost, error):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()
