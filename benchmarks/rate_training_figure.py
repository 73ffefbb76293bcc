"""Networks trained for the size of their files, in one picture with what others published: size against error.

Called by ``rate_training_table.py``; ``results/rate_training.png``. Published points are the sources' own claims, of
weights alone; ours are whole files, a dot for each seed.
"""
from textwrap import fill

import gluon_compress as gc  # before mxnet: see gluon_compress/runtime
from gluon_compress.files.writing import write_atomically
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

TITLES = {"lenet_300_100_mnist": "LeNet-300-100, MNIST", "lenet5_caffe_mnist": "LeNet-5 Caffe, MNIST"}
# {network: (source, times smaller, test error in percent)}
PUBLISHED = {
    "lenet_300_100_mnist": [("Han 2016", 40, 1.58), ("EPR 2020", 124, 1.9)],
    "lenet5_caffe_mnist": [("Han 2016", 39, 0.74), ("EPR 2020", 606, 1.0), ("MIRACLE 2019", 555, 0.69),
                           ("MIRACLE 2019", 1110, 0.96), ("Bayesian Compression 2017", 771, 1.0)]}
WIDTH = 16  # letters in a line of a name
CROWDED = 700  # times smaller: from here on names stand to the right, where those of others are to the left


def draw(rows, path):
    """The networks that others published, too; ``rows``: {(network, aim): results of the seeds}."""
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(TITLES)), TITLES):
        points = [(each["ratio"], 100 * each["test_error"]) for (network, _), results in rows.items()
                  if network == name for each in results]
        axes.scatter([times for times, _ in points], [error for _, error in points], color="tab:blue", zorder=3,
                     label="ours: whole files")
        axes.axhline(100 * (1 - gc.params.manifest()[name]["test_accuracy"]), color="tab:gray", linestyle="--",
                     linewidth=1, label="the dense network")
        for source, times, error in PUBLISHED.get(name, ()):
            axes.scatter(times, error, color="tab:orange", marker="D")
            axes.annotate(fill(source, WIDTH), (times, error), xytext=(0, 6), textcoords="offset points",
                          fontsize="small", horizontalalignment="right" if times < CROWDED else "left")
        axes.set(title=TITLES[name], xlabel="times smaller than .params", ylabel="test error (%)", xscale="log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.margins(x=0.55, y=0.2)
        axes.grid(alpha=0.3)
    axes.scatter([], [], color="tab:orange", marker="D", label="published: weights alone, as their authors count")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize="small")
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=110))
