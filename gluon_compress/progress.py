"""Progress bars on standard error, where somebody can watch them."""
import sys

from tqdm import tqdm


def progress_bar(iterable=None, show=True, **options):
    """A ``tqdm`` bar that goes away when it is done.

    Without ``show`` there is none, and none either where standard error is neither a terminal nor a notebook: in a
    file each state of a bar would stay as a line.
    """
    watched = sys.stderr.isatty() or "ipykernel" in sys.modules
    return tqdm(iterable, disable=not (show and watched), leave=False, **options)
