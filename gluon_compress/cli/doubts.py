"""What makes an accuracy doubtful: images that the network was trained on, and a network that seems to guess."""
from __future__ import annotations

from .data import Data
from .data_options import BUILT_IN
from .networks import Opened
from .run import Run

FEWEST = 30  # images of which a share says something
ABOVE_CHANCE = 0.05  # so little more than guessing is taken for guessing, or half as much where there are many classes


def note_training_images(run: Run, opened: Opened, data: Data) -> None:
    """Say it when an earlier command trained the network on these very images."""
    digest = run.digest(data.text)
    if any(digest == other if digest else name == data.text for name, other in opened.trained_on.items()):
        run.note(f"{opened.text} was trained on {data.text} (see {opened.recipe}): its accuracy there may be higher "
                 f"than on new images")


def note_guessing(run: Run, opened: Opened, data: Data, accuracy: float | None) -> None:
    """Say it when the network is hardly better than chance, and what the reason may be."""
    if accuracy is None or data.dataset is None or len(data.dataset) < FEWEST:
        return
    classes = len(data.dataset.classes) or int(data.dataset.labels.max()) + 1
    if accuracy > 1 / classes + min(ABOVE_CHANCE, 0.5 / classes):
        return
    reason = ""
    if data.text.partition(":")[0] not in BUILT_IN:
        height, width = data.dataset.images.shape[1:3]
        reason = (f"; are the images normalized as in its training (--normalize; here {_normalized(data)}), of that "
                  f"size (--resize, --crop; here {height}x{width}), and the classes in the order of its outputs "
                  f"(--labels)?")
    run.note(f"{opened.text} is right for {100 * accuracy:.2f}% of {len(data.dataset):,} images of {classes} classes, "
             f"hardly better than guessing, if at all{reason}")


def _normalized(data: Data) -> str:
    mean, std = (", ".join(f"{value:.3g}" for value in values) for values in (data.dataset.mean, data.dataset.std))
    return f"by mean {mean} and std {std}"
