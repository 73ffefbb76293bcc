"""Networks trained for the size of their files, in one picture with what others published: size against error.

Called by ``rate_training_table.py``; ``results/rate_training.png``. Published points are the sources' own claims, of
weights alone; ours are whole files, a dot for each seed.
"""
import gluon_compress as gc  # before mxnet: see gluon_compress/runtime
from gluon_compress.files.writing import write_atomically
from matplotlib.figure import Figure

TITLES = {"lenet_300_100_mnist": "LeNet-300-100, MNIST", "lenet5_caffe_mnist": "LeNet-5 Caffe, MNIST",
          "lenet_mnist": "LeNet, MNIST", "simple_cnn_mnist": "SimpleCNN, MNIST",
          "alexnet_cifar10": "AlexNet, CIFAR-10", "resnet18_cifar10": "ResNet-18, CIFAR-10"}
# {network: (source, times smaller, test error in percent)}
PUBLISHED = {
    "lenet_300_100_mnist": [("Han 2016", 40, 1.58), ("EPR 2020", 124, 1.9)],
    "lenet5_caffe_mnist": [("Han 2016", 39, 0.74), ("EPR 2020", 606, 1.0), ("MIRACLE 2019", 555, 0.69),
                           ("MIRACLE 2019", 1110, 0.96), ("Bayesian Compression 2017", 771, 1.0)]}


def draw(rows, path):
    """``rows``: {(network, aim): results of the seeds}."""
    names = [name for name in TITLES if any(name == network for network, _ in rows)]
    figure = Figure(figsize=(4.6 * min(len(names), 3), 4 * -(-len(names) // 3)), layout="constrained")
    for place, name in enumerate(names):
        axes = figure.add_subplot(-(-len(names) // 3), min(len(names), 3), place + 1)
        points = [(each["ratio"], 100 * each["test_error"]) for (network, _), results in rows.items()
                  if network == name for each in results]
        axes.scatter(*zip(*points), color="tab:blue", zorder=3, label="ours, whole files")
        axes.axhline(100 * (1 - gc.params.manifest()[name]["test_accuracy"]), color="tab:gray", linestyle="--",
                     linewidth=1, label="the dense network")
        for source, times, error in PUBLISHED.get(name, ()):
            axes.scatter(times, error, color="tab:orange", marker="D")
            axes.annotate(source, (times, error), xytext=(4, 4), textcoords="offset points", fontsize="small")
        axes.set(title=TITLES[name], xlabel="times smaller than .params", ylabel="test error (%)", xscale="log")
        axes.margins(x=0.25, y=0.2)
        axes.grid(alpha=0.3, which="both")
        axes.legend(fontsize="small")
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=110))
