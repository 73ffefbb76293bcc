# %% [markdown]
# # 10. The way out: one file, and two other engines
#
# - **You will be able to** export a network as ONNX, a file format that most engines read; read what is in the file,
#   compute one of its integer layers by hand, run it in ONNX Runtime and OpenVINO, and compare all of it in one report.
# - **You need to know** pruned channels, [tutorial 5](05_structured_pruning_simple_cnn.py), and networks on integers,
#   [tutorial 7](07_int8_inference.py). The articles end in MXNet.
# - **Time on two cores:** <!-- time.10: begin -->70 seconds; with `--long` 6 CPU minutes<!-- time.10: end -->
# - **Downloads:** CIFAR-10, about 170 MB, once. If an engine is missing: `pip install onnx onnxruntime openvino`.
#
# *What you will see:* a trained ResNet leaves MXNet. It is pruned, goes over to integers, and is written as one ONNX
# file. You read that file: which operators carry integers, which scales they have. You compute one of its layers by
# hand, and get the file's own tensors. ONNX Runtime and OpenVINO run the file, and one report has the accuracies, sizes
# and times. At the end five commands do the same without a line of Python.
#
# Run `python tutorials/10_the_way_out.py`: accuracies are on the first 1,000 test images, with `--long` on the first
# 4,000. Or open it as a notebook.

# %%
import shlex
import shutil
import subprocess
import sys
from collections import Counter

from course import LONG, Results

import gluon_compress as gc
from gluon_compress.measuring.plots import plot_before_after, plot_curves

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

train, test = gc.datasets.cifar10()
test = test.subset(slice(0, 4000 if LONG else 1000))
results = Results("10_the_way_out", test.batches(100))
example = results.example


def classes(net):
    return np.concatenate([net(images).asnumpy().argmax(axis=1) for images, _ in results.test_data])


def accuracy(classes):
    return float((classes == test.labels).mean())


# %% [markdown]
# ## Smaller, and on integers
#
# The techniques are those of tutorials 5 to 7. At least a quarter of the multiplications go (`macs=0.75` is the share
# that stays at most), and BatchNorm's statistics are estimated again. Nothing is trained here, so that this tutorial
# stays short; what that costs is in the table at the end, and [tutorial 6](06_prune_a_resnet.py) wins it back.

# %%
original, small = gc.params.load("resnet18_cifar10"), gc.params.load("resnet18_cifar10")
original.hybridize(static_alloc=True, static_shape=True)
results.add("ResNet-18, as trained", original, accuracies=[accuracy(classes(original))])
plan = gc.pruning.prune_channels(small, example, macs=0.75)
gc.pruning.reestimate_batch_norm(small, train.batches(128), batches=20)
int8 = gc.quantization.quantize(small, train.subset(slice(0, 256 if LONG else 128)).batches(64))
answers = {"fp32": classes(small), "int8": classes(int8)}
results.add("a quarter of the multiplications removed", small, plan, accuracies=[accuracy(answers["fp32"])])
results.add("... and on integers", int8, accuracies=[accuracy(answers["int8"])])

# %% [markdown]
# ## One call, one file
#
# `to_onnx` takes a network in fp32, or one on integers. Pruned layers are as small in the file as they are in the
# network. Before the file is put in its place, it is checked, run, and compared with the network. The number of images
# in a batch stays open. (In fp32 a `.gcz` is shorter, as in the table at the end: it codes the numbers without loss,
# ONNX does not.)

# %%
files = {"fp32": gc.export.to_onnx(small, results.path("-fp32.onnx"), example),
         "int8": gc.export.to_onnx(int8, results.path("-int8.onnx"), example)}
for precision, file in files.items():
    print(f"{precision}: {file.stat().st_size:,} bytes")

# %% [markdown]
# ## What is in the file
#
# ONNX has no integer convolution that all engines know. It has a convention: layers are written in fp32, each between a
# `DequantizeLinear`, which makes numbers of codes, and a `QuantizeLinear`, which makes codes of numbers.
#
#     codes -> DequantizeLinear -> Conv -> QuantizeLinear -> codes
#
# An engine that finds this pattern computes all of it as one layer on integers. One that does not know the pattern
# computes what is written, in fp32, and gets the same numbers. So count the operators (`Gemm` is the dense layer; each
# layer reads its input, its weights and its bias through a `DequantizeLinear`; there is no BatchNorm, it is in the
# weights), and read all that stands around the first layer. An `initializer` is a constant that the file holds; `maker`
# says which node makes a tensor:

# %%
model = onnx.load(files["int8"])
for operator, count in Counter(node.op_type for node in model.graph.node).most_common():
    print(f"{count:4d} x {operator}")

tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
maker = {name: node for node in model.graph.node for name in node.output}
layer = next(node for node in model.graph.node if node.op_type == "Conv")
read, weight_read, bias_read = (maker[name] for name in layer.input)
first = maker[read.input[0]]                                                  # makes codes of the images
last = next(node for node in model.graph.node if layer.output[0] in node.input)   # makes codes of the layer's output
for node in (first, read, weight_read, bias_read, layer, last):
    print(f"{node.op_type}: {', '.join(node.input)} -> {node.output[0]}")

# %% [markdown]
# Each `QuantizeLinear` has two numbers besides what it reads, a scale and a zero point, the code that stands for zero:
#
#     code = clip(round(x / scale) + zero_point, 0, 255)
#
# and `DequantizeLinear` goes back, `x = (code - zero_point) * scale`. The list below shows three kinds. Behind a ReLU
# no number is negative, zero has the code 0, and there is no ReLU in the file: the codes end there anyway. The images
# have the code 128 for zero. A layer whose output is added to a shortcut (`..._before`) is rounded before the addition,
# too, and its zero lies where its range needs it. Where it is 255, no number is above zero: a constant was subtracted
# from this branch and added to the other, see tutorial 7. (So in a block with a convolution in its shortcut, which is
# the branch with `_before`, `body.3_codes` begin at 0 though no ReLU is before them. A `MaxPool` whose output ends in
# `..._places_codes` only picks every second place, for the shortcut convolution behind it, which has a stride of two:
# OpenVINO would not find the pattern otherwise.) Weights are signed codes with the zero point 0 and a scale for each
# channel.

# %%
for node in model.graph.node:
    if node.op_type == "QuantizeLinear":
        _, scale, zero_point = node.input
        print(f"{node.output[0]:36s} scale {tensors[scale].item():.6f}, zero point {tensors[zero_point].item()}")

# %% [markdown]
# ## One layer by hand: the constants
#
# Where do scales and zero points come from? Calibration found a threshold for each tensor, and the record has it. The
# images have a sign: their threshold gets the code 127, and 128 is added to all codes. The layer's output has none, so
# that its threshold gets the code 255. The weights of each output channel reach 127.5 steps, as in tutorial 7: the
# largest of them is rounded to 128 and cut to 127. (Without the factor of tutorial 7 a code could differ here and
# there; the last line counts them.) Before that, BatchNorm's factor went into them:
#
#     alpha = gamma / sqrt(variance + epsilon)
#     s_x = threshold / 127        s_out = threshold / 255        s_w = max |alpha * w| / 127.5

# %%
record = int8.record.layers["features.0"]
(threshold_in, signed_in), (threshold_out, signed_out) = record["input"], record["output"]
assert signed_in and not signed_out
scale_in, zero_in = np.float32(threshold_in / 127), 128
scale_out, zero_out = np.float32(threshold_out / 255), 0

convolution, norm = small.features[0], small.features[1]
gamma, beta, mean, variance = (parameter.data().asnumpy() for parameter in (
    norm.gamma, norm.beta, norm.running_mean, norm.running_var))
alpha = gamma / np.sqrt(variance + 1e-5)
weight = convolution.weight.data().asnumpy() * alpha.reshape(-1, 1, 1, 1)
scale_weight = np.abs(weight).max(axis=(1, 2, 3)) / np.float32(127.5)
codes_weight = np.clip(np.rint(weight / scale_weight.reshape(-1, 1, 1, 1)), -128, 127).astype(np.int32)

for title, mine, name in (("scale of the images", scale_in, first.input[1]), ("zero point", zero_in, first.input[2]),
                          ("largest scale of the weights", scale_weight, weight_read.input[1]),
                          ("scale of the output", scale_out, last.input[1]), ("zero point", zero_out, last.input[2])):
    np.testing.assert_allclose(np.ravel(mine), tensors[name], rtol=1e-5)
    print(f"{title}: by hand {np.max(mine):.6g}, in the file {np.max(tensors[name]):.6g}")
differ = int((codes_weight != tensors[weight_read.input[0]]).sum())
results.numbers["codes of the weights"] = {"all": codes_weight.size, "not as by hand": differ}
print(f"codes of the weights: {differ} of {codes_weight.size} are not those of the file")

# %% [markdown]
# ## One layer by hand: the rounding
#
# Now compute. Codes are multiplied and added as integers; the bias is an integer too, of the scale `s_w * s_x`. It is
# `beta - alpha * mean`, and the mean error that the rounding of the weights makes is taken off; we read it from the
# file. There is one rounding, at the end:
#
#     code_out = clip(round((sum(code_w * code_x) + code_bias) * s_w * s_x / s_out) + zero_point, 0, 255)
#
# To see the file's own codes between two layers, we make them an output. We switch the optimizations of ONNX Runtime
# off: then it computes the file as it is written, node by node, and the codes are there to be read.

# %%
def integer_convolution(codes, weights):
    """3x3 kernels, zeros around: (images, channels, h, w), (outputs, channels, 3, 3) -> (images, outputs, h, w)."""
    padded = np.pad(codes, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return np.einsum("nchwij,ocij->nohw", windows, weights, optimize=True)


def of_channels(vector):
    return vector.reshape(1, -1, 1, 1)


images = example[:8].asnumpy()
codes_in = np.clip(np.rint(images / scale_in) + zero_in, 0, 255).astype(np.int32)
codes_bias = tensors[bias_read.input[0]]
sums = integer_convolution(codes_in - zero_in, codes_weight) + of_channels(codes_bias)
exact = sums * of_channels(scale_weight * scale_in / scale_out)
codes_out = np.clip(np.rint(exact) + zero_out, 0, 255).astype(np.uint8)

model.graph.output.append(onnx.helper.make_tensor_value_info(last.output[0], onnx.TensorProto.UINT8, None))
options = onnxruntime.SessionOptions()
options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
codes_of_file, = session.run([last.output[0]], {session.get_inputs()[0].name: images})

steps = np.abs(codes_out.astype(int) - codes_of_file)
results.numbers["codes by hand"] = {"same": float((steps == 0).mean()), "most steps apart": int(steps.max())}
others = f", the others at most {steps.max()} apart" if steps.any() else ""
print(f"{(steps == 0).mean():.4%} of the {steps.size:,} codes are the same{others}")

# %% [markdown]
# The figure shows the rounding, for a channel with many small values: the straight line is what the layer computes, in
# steps of its output's scale, and the stairs are the codes. Each step is one wide, with its middle at a whole number.
# Left of zero all codes are 0, and that is the ReLU.

# %%
small_values = (exact > 0.5) & (exact < 8)
channel = int(small_values.sum(axis=(0, 2, 3)).argmax())
values, codes = exact[:, channel].ravel(), codes_of_file[:, channel].ravel()
order = [index for index in np.argsort(values) if -3 < values[index] < 8][::10]
plot_curves({"before the rounding": [(float(values[index]), float(values[index])) for index in order],
             "codes, by hand and in the file": [(float(values[index]), int(codes[index])) for index in order]},
            results.path(".png"), xlabel="sum * s_w * s_x / s_out", ylabel="code",
            title="One channel of the first layer: rounded, and cut at zero")

# %% [markdown]
# ## Two other engines
#
# `gc.export.engine` opens a file in another engine and returns a network that you call like any other. Both run the
# same file. On integers their answers are not all those of MXNet: the file rounds before an addition where MXNet's
# kernels do not, and where a value lies half-way between two codes, each engine's fp32 decides. (Processors without
# VNNI add pairs of products in 16 bits, and engines cut such sums. For them `weights="narrow"` writes a file whose
# weights have codes of a smaller range, see tutorial 7.)

# %%
if int8.record.processor:   # notes for a processor without VNNI
    files["int8"] = gc.export.to_onnx(int8, results.path("-narrow.onnx"), example, weights="narrow")
names = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
engines = {(runtime, precision): gc.export.engine(file, runtime) for precision, file in files.items()
           for runtime in names}
results.numbers["agreement with MXNet"] = {}
for (runtime, precision), engine in engines.items():
    found = classes(engine)
    agreement = float((found == answers[precision]).mean())
    results.numbers["agreement with MXNet"][f"{names[runtime]}, {precision}"] = agreement
    print(f"{engine.engine}, {precision}: the same answer as MXNet for {agreement:.2%} of the test images")
    row = results.rows[2 if precision == "int8" else 1]
    results.add_engine(f"{names[runtime]}, {precision}", engine, accuracy(found), written_of=row)

# %% [markdown]
# ## One report
#
# `gc.report` takes networks of all engines. Give it what you compared before, and it prints one table; `write_html`
# makes a page of it, which needs nothing but a browser. Milliseconds are for a batch of 100 images on the same number
# of threads. The figure shows these: the integers are far below fp32 in each engine. Here one network is timed after
# the other, and on a machine that others use, too, the first may look slower than it is. The last table of this
# tutorial times all of them once more, in turn, which is fairer. There MXNet takes as long for the pruned network in
# fp32 as for the original, or longer: the first stage has 28 channels left, as the library goes down to multiples of 4
# where multiples of 8 would leave a layer whole, and the kernels are slow at 28. In the table here `bytes` counts an
# integer weight as one byte and every other number as four, `entropy` is what a simple entropy coder makes of them, and
# `file` is the size of the file. (In the quick version accuracies here are those of 500 images.)

# %%
some = results.test_data if LONG else test.subset(slice(0, 500)).batches(100)


def reported(net, file, **beside):
    return gc.report(net, example, data=some, path=file, latency=True, repeats=20 if LONG else 3, **beside)


reports = {"MXNet, as trained": reported(original, results.path("-0.params")),
           "MXNet, fp32": reported(small, results.path("-1.gcz")),
           "MXNet, int8": reported(int8, results.path("-2.gcz"))}
*others, (runtime, precision) = engines
reports |= {f"{names[runtime]}, {precision}": reported(engines[runtime, precision], files[precision])
            for runtime, precision in others}
report = reported(engines[runtime, precision], files[precision], compared_with=reports,
                  name=f"{names[runtime]}, {precision}")
print(report)
print("Made:", report.write_html(results.path("-report.html")).name)
times = {name: each.timing.median for name, each in report.networks.items()}
plot_before_after(times, results.path("-times.png"), ylabel="ms, batch of 100", title="One network in three engines")

# %% [markdown]
# ## Five commands
#
# The command line does all of this: `prune`, `quantize`, `inspect` for the report, `export`, `evaluate`. In place of
# `params:resnet18_cifar10` give your own files (`model` for `model-symbol.json` and `model-0000.params`), in place of
# `cifar10` a folder with a directory of images for each class. `--limit` keeps it short here: it takes that many
# images, and of those for training or calibration a tenth is held out to measure the accuracy on. On so few images that
# is a rough number, and a high one, as `resnet18_cifar10` was trained on all training images: test images, which
# `evaluate` reads at the end, tell how good the network is. On 450 images BatchNorm's statistics are rougher, too, than
# above. `--epochs 2` would fine-tune.

# %%
folder = results.path("-commands")
shutil.rmtree(folder, ignore_errors=True)
folder.mkdir()


def run(line):
    print(f"\n$ {line}", flush=True)
    done = subprocess.run([sys.executable, "-m", "gluon_compress", *shlex.split(line)[1:]], cwd=folder, text=True,
                          capture_output=True)
    print(done.stdout.rstrip())
    assert done.returncode == 0, done.stderr


run("gluon-compress prune params:resnet18_cifar10 --macs 0.75 --data cifar10 --limit 500 -o small.gcz")
run("gluon-compress quantize small.gcz --data cifar10 --limit 256 -o int8.gcz")
run("gluon-compress inspect int8.gcz --compare-with params:resnet18_cifar10 --html report.html")
run("gluon-compress export int8.gcz -o int8.onnx")
run("gluon-compress evaluate int8.gcz int8.onnx openvino:int8.onnx --data cifar10:test --limit 300")
results.finish()

# %% [markdown]
# ## What this shows
#
# - The file has the network's own integers: the codes, scales and zero points that you computed by hand.
# - A layer on integers is one sum of products and one rounding. By hand at least 99.9 % of its codes are those of the
#   file, and the others are next to them: there the exact value lies between two codes, and fp32 decides.
# - Both engines give the same answer as MXNet's integers for at least 98 % of the images, and the accuracy is the same
#   within a point. In fp32 they give the same answer for all but one in a thousand.
# - The file on integers is about a quarter as long as that of the same network in fp32.
# - What costs accuracy is the pruning without training. The way out costs none.
#
# ## What to try next
#
# - Fine-tune before `quantize` (tutorial 6), and compare with the original after the same training. With `round_to=16`
#   in `prune_channels` the pruned network is faster in fp32 as well.
# - `gc.export.to_onnx(small, path, example, weights="int8")`: fp32 computes, but the file is a quarter as long.
# - Open `10_the_way_out-int8.onnx` in Netron, a viewer of graphs in the browser, and find the layer you computed.
