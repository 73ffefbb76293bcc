"""In a notebook: below each cell stand the figures that it wrote; a script only writes them."""
import sys


def show_in_notebook(folder):
    """Whenever a cell has run, display the PNG files in ``folder`` that are new or were written anew by it."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is None:
        return
    before = {}

    def times():
        return {file: file.stat().st_mtime_ns for file in folder.glob("*.png")}

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
    shell.events.register("pre_run_cell", remember)
    shell.events.register("post_run_cell", show)
