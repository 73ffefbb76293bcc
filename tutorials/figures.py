"""In a notebook: below each cell stand the figures that it wrote; a script only writes them."""
import sys

_registered = []  # [(event, function)]: a cell that is run again starts anew


def show_in_notebook(folder, pattern="*.png"):
    """Whenever a cell has run, display the figures that it wrote.

    These are the files in ``folder`` whose names match ``pattern`` and that are new or were written anew; another
    tutorial may run at the same time, and write others.
    """
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is None:
        return
    before = {}

    def times():
        return {file: file.stat().st_mtime_ns for file in folder.glob(pattern)}

    def remember(_):
        before.clear()
        before.update(times())

    def show(_):
        from IPython.display import Image, display
        for file in sorted((file for file, time in times().items() if before.get(file) != time), key=times().get):
            display(Image(filename=str(file)))
    remember(None)
    # a cell that ends in plot_curves(...) shows the figure alone, not where it is
    shell.display_formatter.formatters["text/plain"].for_type(
        type(folder), lambda path, printer, _: printer.text("" if path.parent == folder else repr(path)))
    while _registered:
        shell.events.unregister(*_registered.pop())
    _registered.extend([("pre_run_cell", remember), ("post_run_cell", show)])
    for event, function in _registered:
        shell.events.register(event, function)
