"""Mistakes that people make: each is refused with a sentence that names what is wrong, and nothing is changed.

The table: :data:`FUNCTIONS` has, for each public function, a call that works and of which kind its arguments are;
:data:`MISTAKES` has, for each kind, what people give instead, and what the message then names. A public name that
stands neither there nor in :data:`NOTHING_TO_GET_WRONG` fails the last test.
"""
import atexit
import functools
import inspect
import os
import re
import shutil
import tempfile
from pathlib import Path

import click
import gluon_compress as gc
import mxnet as mx
import numpy as np
import pytest
from gluon_compress import (
    checkpoint, coding, datasets, distillation, export, measuring, models, network, params, pruning, quantization,
    training, workers)
from gluon_compress.files import download, transfer
from gluon_compress.measuring import plots
from gluon_compress.workers import launch
from gluon_compress.arguments import check_flag
from gluon_compress.errors import GluonCompressError
from gluon_compress.network.values import value_of
from gluon_compress.records import Record
from mistakes import DATA, EXAMPLE, LABELS, MISTAKES, Plain, Tiny, tiny
from mxnet.gluon import HybridBlock, nn
from networks import identical
from PIL import Image

@pytest.mark.parametrize("value", ["no", "False", None, 0, 1, [], np.array([True])])
def test_a_flag_is_true_or_false(value):
    with pytest.raises(TypeError, match="correct is .*; accepted: True or False"):
        check_flag("correct", value)


@pytest.mark.parametrize("value", [True, False, np.True_, np.bool_(False)])
def test_numpy_flags_are_flags(value):
    check_flag("correct", value)


FIT = {"net": "trained net", "train_data": "data", "epochs": "positive", "trainer": "trainer", "schedule": "schedule",
       "loss": "loss", "targets": "targets", "validation_data": "optional inputs", "seed": "integer",
       "state_path": "optional path", "progress": "flag", "run_details": "details"}
WHICH = {"select": "select", "exclude": "exclude"}
CHANNELS = {"net": "net", "example": "example", "ratio": "share", "criterion": "choice", **WHICH,
            "scope": "choice", "max_ratio": "share", "round_to": "optional positive"}
MAGNITUDE = {"net": "finite net", "scope": "choice", **WHICH, "masks": "optional masks"}
CALIBRATION = {"net": "finite net", "calibration_data": "inputs", "bits": "integer", "method": "choice",
               **WHICH, "batches": "optional positive", "percentile": "number", "progress": "flag"}
QUIET = {"progress": False}
ROW = {"stage": "original", "bytes": 1, "accuracy": 1.0, "drop": 0.0, "standard_error": 0.0, "fits": True}


IMAGES = {"path": "path of data", "resize": "size of images", "crop": "size of images", "mean": "optional channels",
          "std": "optional channels", "limit": "optional positive", "seed": "integer"}
READ = {**IMAGES, "grey": "flag", "skip_bad": "flag", "progress": "flag"}
BATCHES = {"batch_size": "positive", "shuffle": "flag", "augment": "function", "size": "optional positive",
           "rank": "integer", "workers": "positive"}


def plan():
    return pruning.prune_channels(tiny(), EXAMPLE, 0.5, round_to=1)


def penalty():
    return pruning.ChannelPenalty(tiny(), EXAMPLE, 1e-4)


def masks_of(net):
    return pruning.prune_magnitude(net, 0.5)


def taylor(net, example, data, loss=None):
    return pruning.prune_channels(net, example, 0.5, pruning.Taylor(data, loss))


def macs(net, example, macs):
    return pruning.prune_channels(net, example, macs=macs)


def latency(net, example, latency):
    return pruning.prune_channels(net, example, latency=latency)


def amount(net, amount):
    return pruning.prune_magnitude(net, amount=amount)


def steps(**arguments):
    return pruning.prune_channels_in_steps(tiny(), EXAMPLE, steps=2, **arguments)


def channel_curves(net, example):
    return pruning.measure_sensitivity(net, lambda net: 1.0, example, "channels", fractions=[0.5], progress=False)


def within(evaluate, max_accuracy_drop):
    return quantization.quantize(tiny(), DATA, simulate=True, evaluate=evaluate, max_accuracy_drop=max_accuracy_drop,
                                 progress=False)


def in_steps(**arguments):
    return list(pruning.prune_channels_in_steps(**arguments))


def trainer_of(net, masks, optimizer, optimizer_params):
    return pruning.MaskedTrainer(net, masks, optimizer, optimizer_params)


def compose(augment):
    return datasets.compose(*augment)


def batch_of(augment):
    return next(iter(toy().batches(4, augment=augment)))


@functools.cache
def files_of_images():
    """A folder of a class with an image, a RecordIO file and an ``.npz`` file, outside the working directory."""
    place = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, place)
    pixels = np.zeros((6, 6, 3), np.uint8)
    (place / "photos" / "cat").mkdir(parents=True)
    Image.fromarray(pixels).save(place / "photos" / "cat" / "1.png")
    records = mx.recordio.MXRecordIO(str(place / "images.rec"), "w")
    content = (place / "photos" / "cat" / "1.png").read_bytes()
    records.write(mx.recordio.pack(mx.recordio.IRHeader(0, 1, 0, 0), content))
    records.close()
    np.savez(place / "images.npz", images=pixels[None], labels=[1])
    return place


def toy():
    return datasets.ImageDataset(np.zeros((4, 6, 6, 3), np.uint8), [0, 1, 1, 0], (0.5,) * 3, (0.5,) * 3)


@functools.cache
def int8():
    return quantization.quantize(tiny(), DATA, simulate=True, progress=False)


@functools.cache
def measured():
    return pruning.measure_sensitivity(tiny(), lambda net: 1.0, fractions=[0.5], progress=False)


def staged(stage):
    return coding.compress(tiny(), DATA, 1.0, DATA, stages=[stage], progress=False)


def qat():
    return quantization.prepare_qat(tiny(), DATA, progress=False)


def observer():
    found = quantization.RangeObserver()
    found.observe(np.ones(3))
    return found


def masked():
    net = tiny()
    return pruning.MaskedTrainer(net, masks_of(net), "sgd")


def rated():
    return coding.RateTrainer(tiny(), 1.0, "sgd")


def shared():
    net = tiny()
    return net, coding.share_weights(net, 4)


def matcher():
    return distillation.FeatureMatcher(tiny(), tiny(seed=1), [distillation.FeatureLoss("conv", "conv")], EXAMPLE)


def launched(script=("train.py",), **options):
    """The command line, which says in one sentence what is wrong; or the error that it ends with."""
    options = {"hosts": os.devnull, **options} if "ssh" in options else options
    arguments = [text for name, value in options.items() for text in (f"--{name}", value)]
    try:
        launch.main([*arguments, *script], standalone_mode=False)
    except click.ClickException as error:
        raise ValueError(error.format_message()) from error


def loss_of(student_logits, labels, teacher_logits):
    return distillation.DistillationLoss()(student_logits, labels, teacher_logits)


# name: (function, arguments of a call that works, {argument: kind of its mistakes})
FUNCTIONS = {
    "training.fit": (training.fit, {"net": tiny, "train_data": DATA, "epochs": 1, **QUIET}, FIT),
    "training.evaluate": (training.evaluate, {"net": tiny, "data": DATA},
                          {"net": "trained net", "data": "data", "progress": "flag"}),
    "distillation.distill": (
        distillation.distill,
        {"student": tiny, "teacher": lambda: tiny(seed=1), "train_data": DATA, "epochs": 1, **QUIET},
        {"student": "trained net", "teacher": "finite net", "train_data": "data", "epochs": "positive",
         "temperature": "number", "hard_weight": "share", "label_smoothing": "share",
         "teacher_weights": "weights", "features": "features",
         "schedule": "schedule", "trainer": "trainer", "seed": "integer", "progress": "flag", "cache": "optional path",
         "state_path": "optional path"}),
    "distillation.cache_logits": (
        distillation.cache_logits,
        {"teacher": tiny, "data": DATA, "path": "logits", **QUIET},
        {"teacher": "finite net", "data": "inputs", "path": "path", "progress": "flag"}),
    "distillation.DistillationLoss": (
        distillation.DistillationLoss, {}, {"temperature": "number", "hard_weight": "share", "label_smoothing": "share",
                                            "sparse_label": "flag", "teacher_weights": "share"}),
    "distillation.DistillationLoss()": (
        loss_of, {"student_logits": mx.nd.ones((4, 2)), "labels": LABELS, "teacher_logits": mx.nd.ones((4, 2))},
        {"student_logits": "shapes", "labels": "shapes", "teacher_logits": "shapes"}),
    "distillation.FeatureLoss": (
        distillation.FeatureLoss, {"student_layer": "conv", "teacher_layer": "conv"},
        {"student_layer": "layer", "teacher_layer": "layer", "kind": "choice", "weight": "number"}),
    "distillation.FeatureMatcher": (
        distillation.FeatureMatcher,
        {"student": tiny, "teacher": lambda: tiny(seed=1), "features": [distillation.FeatureLoss("conv", "conv")],
         "example": EXAMPLE},
        {"student": "any net", "teacher": "finite net", "features": "features", "example": "example"}),
    "pruning.prune_threshold": (pruning.prune_threshold, {"net": tiny, "threshold": 0.01, "select": None},
                                {"net": "finite net", "threshold": "number", **WHICH}),
    "pruning.prune_magnitude": (pruning.prune_magnitude, {"net": tiny, "sparsity": 0.5},
                                {**MAGNITUDE, "sparsity": "share", "norm": "choice", "criterion": "importance"}),
    "pruning.prune_magnitude(amount)": (amount, {"net": tiny, "amount": 0.5}, {"amount": "optional share"}),
    "pruning.prune_random": (pruning.prune_random, {"net": tiny, "amount": 0.5},
                             {**MAGNITUDE, "net": "whole net", "amount": "share", "seed": "integer"}),
    "pruning.prune_custom": (pruning.prune_custom, {"net": tiny, "kept": {"conv": np.ones((4, 3, 3, 3))}},
                             {"net": "whole net", "kept": "masks"}),
    "pruning.prune_n_m": (pruning.prune_n_m, {"net": tiny, "n": 1, "m": 3, "select": "conv"},
                          {"net": "finite net", "n": "positive", "m": "positive", **WHICH,
                           "criterion": "importance"}),
    "pruning.prune_channels": (pruning.prune_channels, {"net": tiny, "example": EXAMPLE, "ratio": 0.5}, CHANNELS),
    "pruning.prune_channels(macs)": (macs, {"net": tiny, "example": EXAMPLE, "macs": 0.5}, {"macs": "share"}),
    "pruning.prune_channels(latency)": (latency, {"net": tiny, "example": EXAMPLE, "latency": 1e6},
                                        {"latency": "number"}),
    "pruning.prune_channels(taylor)": (taylor, {"net": tiny, "example": EXAMPLE, "data": DATA},
                                       {"data": "data", "loss": "function"}),
    "pruning.prune_channels_in_steps": (
        in_steps, {"net": tiny, "example": EXAMPLE, "ratio": 0.5, "steps": 2},
        {**CHANNELS, "steps": "positive", "schedule": "schedule"}),
    "pruning.prune_channels_in_steps(macs)": (
        lambda macs: next(steps(macs=macs)), {"macs": 0.5}, {"macs": "share"}),
    "pruning.prune_channels_in_steps(latency)": (
        lambda latency: next(steps(latency=latency)), {"latency": 1e6}, {"latency": "number"}),
    "pruning.prune_channels_in_steps(taylor)": (
        lambda data, loss=None: next(steps(ratio=0.5, criterion=pruning.Taylor(data, loss))), {"data": DATA},
        {"data": "data", "loss": "function"}),
    "pruning.WeightCriterion": (pruning.WeightCriterion, {"formula": "l1"}, {"formula": "choice", "over": "choice"}),
    "pruning.BatchNormScale": (pruning.BatchNormScale, {}, {"over": "choice"}),
    "pruning.Taylor": (pruning.Taylor, {"data": DATA}, {"data": "iterable", "loss": "function", "over": "choice"}),
    "pruning.Random": (pruning.Random, {}, {"seed": "integer"}),
    "pruning.reestimate_batch_norm": (
        pruning.reestimate_batch_norm, {"net": tiny, "data": DATA, **QUIET},
        {"net": "whole net", "data": "inputs", "batches": "optional positive", "progress": "flag",
         "keep_outputs": "flag"}),
    "pruning.measure_sensitivity": (
        pruning.measure_sensitivity, {"net": tiny, "evaluate": lambda: lambda net: 1.0, "fractions": [0.5], **QUIET},
        {"net": "finite net", "evaluate": "evaluate", "kind": "choice", "criterion": "choice", "progress": "flag",
         "state_path": "optional path", "fractions": "fractions", **WHICH}),
    "pruning.measure_sensitivity(channels)": (
        channel_curves, {"net": tiny, "example": EXAMPLE}, {"net": "net", "example": "example"}),
    "pruning.GradualPruner": (
        pruning.GradualPruner, {"net": tiny, "final_sparsity": 0.5, "steps": 10},
        {**MAGNITUDE, "final_sparsity": "share", "steps": "positive", "schedule": "schedule", "begin": "integer",
         "frequency": "optional positive", "initial_sparsity": "share"}),
    "pruning.MaskedTrainer": (
        trainer_of, {"net": tiny, "masks": lambda: pruning.Masks({}), "optimizer": "sgd", "optimizer_params": {}},
        {"net": "whole net", "masks": "masks", "optimizer": "optimizer", "optimizer_params": "settings"}),
    "coding.RateTrainer": (
        coding.RateTrainer, {"net": tiny, "penalty": 1.0, "optimizer": "sgd", "optimizer_params": {}},
        {"net": "finite net", "penalty": "number", "optimizer": "optimizer", "optimizer_params": "settings",
         "warmup": "integer", "frequency": "positive", "step_rate": "number", "vectors": "flag", **WHICH}),
    "pruning.ChannelPenalty": (
        pruning.ChannelPenalty, {"net": tiny, "example": EXAMPLE, "strength": 1e-4},
        {"net": "net", "example": "example", "strength": "number", "kind": "choice", **WHICH}),
    "quantization.quantize": (
        quantization.quantize, {"net": tiny, "calibration_data": DATA, "simulate": True, **QUIET},
        {**CALIBRATION, "clip": "choice", "correct_bias": "flag", "equalize": "optional flag", "simulate": "flag"}),
    "quantization.quantize(evaluate)": (
        within, {"evaluate": lambda: lambda net: 1.0, "max_accuracy_drop": 0.1},
        {"evaluate": "evaluate", "max_accuracy_drop": "drop"}),
    "quantization.prepare_qat": (
        quantization.prepare_qat, {"net": tiny, "calibration_data": DATA, **QUIET}, CALIBRATION),
    "quantization.quantize_weights": (
        quantization.quantize_weights, {"net": tiny},
        {"net": "finite net", "bits": "integer", "per_channel": "flag", **WHICH, "clip": "choice",
         "percentile": "percentile"}),
    "quantization.quantize_weights(rate)": (
        quantization.quantize_weights, {"net": tiny, "rate": 1e-2, "calibration_data": DATA, **QUIET},
        {"net": "finite net", "rate": "rate", "calibration_data": "inputs", "seed": "integer", "progress": "flag",
         "outputs": "choice", "per_channel": "flag", **WHICH}),
    "quantization.quantize(rate)": (
        quantization.quantize, {"net": tiny, "calibration_data": DATA, "rate": 1e-2, "simulate": True, **QUIET},
        {"rate": "rate", "outputs": "choice"}),
    "quantization.RateRounding": (
        quantization.RateRounding, {"net": tiny, "calibration_data": DATA, **QUIET},
        {"net": "finite net", "calibration_data": "inputs", "seed": "integer", "progress": "flag", "outputs": "choice",
         "per_channel": "flag", **WHICH}),
    "quantization.RateRounding.round": (
        quantization.RateRounding.round,
        {"self": lambda: quantization.RateRounding(tiny(), DATA, **QUIET), "rate": 1e-2}, {"rate": "rate"}),
    "quantization.fold_batch_norm": (quantization.fold_batch_norm, {"net": tiny, "example": EXAMPLE},
                                     {"net": "finite net", "example": "example", **WHICH}),
    "quantization.quantize_array": (quantization.quantize_array, {"x": np.ones(3)},
                                    {"x": "numbers", "axis": "axis", "bits": "integer", "clip": "choice",
                                     "percentile": "percentile"}),
    "quantization.RangeObserver": (quantization.RangeObserver, {}, {"method": "choice", "bits": "integer",
                                                              "percentile": "percentile"}),
    "coding.share_weights": (coding.share_weights, {"net": tiny, "clusters": 4},
                             {"net": "finite net", "clusters": "clusters", "init": "choice", "seed": "integer",
                              **WHICH}),
    "coding.share_weights(bits)": (lambda bits: coding.share_weights(tiny(), bits=bits), {"bits": 2},
                                   {"bits": "clusters"}),
    "coding.CentroidTrainer": (
        coding.CentroidTrainer, {"net": lambda: shared()[0], "codebooks": lambda: shared()[1], "optimizer": "sgd"},
        {"net": "whole net", "codebooks": "record", "optimizer": "optimizer", "optimizer_params": "settings",
         "masks": "optional masks"}),
    "coding.compress": (
        coding.compress, {"net": tiny, "data": DATA, "max_accuracy_drop": 1.0, "calibration_data": DATA, **QUIET},
        {"net": "finite net", "data": "data", "max_accuracy_drop": "share", "training_data": "optional inputs",
         "calibration_data": "optional inputs of data", "stages": "stages of a compression", "folder": "folder",
         "seed": "integer", "progress": "flag"}),
    "coding.Pruning": (
        lambda **settings: staged(coding.Pruning(**settings)), {"epochs": 1, "bisections": 0},
        {"epochs": "positive", "share": "share", "optimizer": "name of an optimizer", "optimizer_params": "settings",
         "bisections": "integer", **WHICH, "loss": "loss"}),
    "coding.Rounding": (
        lambda **settings: staged(coding.Rounding(**settings)), {"rate": 0.1},
        {"rate": "optional number", "bisections": "integer", "outputs": "choice", **WHICH}),
    "report": (gc.report, {"net": tiny, "example": EXAMPLE},
               {"net": "net", "example": "example", "path": "optional path", "latency": "flag", "repeats": "positive",
                "warmup": "integer", "compared_with": "compared", "baseline": "compared",
                "layer_times": "flag", "progress": "flag",
                "name": "optional text", "data": "optional data", "data_name": "optional text", "records": "records"}),
    "measuring.Report.write_html": (
        gc.measuring.Report.write_html, {"self": lambda: gc.report(tiny(), EXAMPLE), "path": "page.html"},
        {"path": "path", "title": "optional text"}),
    "measuring.Report.write_json": (
        gc.measuring.Report.write_json, {"self": lambda: gc.report(tiny(), EXAMPLE), "path": "report.json"},
        {"path": "path"}),
    "measuring.Report.read_json": (
        gc.measuring.Report.read_json, {"path": "report.json"}, {"path": "path"}),
    "measuring.Report.from_dict": (gc.measuring.Report.from_dict, {
        "record": lambda: gc.report(tiny(), EXAMPLE).to_dict()}, {"record": "record"}),
    "measuring.Report.comparison": (
        gc.measuring.Report.comparison, {"self": lambda: gc.report(tiny(), EXAMPLE, compared_with=tiny())},
        {"name": "optional text"}),
    "measure_latency": (gc.measure_latency, {"net": tiny, "example": EXAMPLE, "repeats": 1},
                        {"net": "net", "example": "example", "repeats": "positive", "warmup": "integer"}),
    "measuring.kernels_of": (measuring.kernels_of, {"net": tiny, "example": EXAMPLE, **QUIET},
                           {"net": "net", "example": "example", "progress": "flag"}),
    "save": (gc.save, {"path": "net.gcz", "net": tiny, "example": EXAMPLE},
             {"path": "path", "net": "whole net", "example": "optional example"}),
    "load": (gc.load, {"path": "missing.gcz"}, {
        "path": "any file", "net": "any net", "simulate": "flag", "ctx": "context", "precision": "choice",
        "epoch": "optional integer", "inputs": "optional names", "outputs": "optional names", "head": "choice"}),
    "checkpoint.describe": (checkpoint.describe, {"path": "missing.gcz"}, {
        "path": "any file", "epoch": "optional integer", "inputs": "optional names", "outputs": "optional names",
        "head": "choice"}),
    "export.write_checkpoint": (
        export.write_checkpoint, {"net": tiny, "path_prefix": "net", "example": EXAMPLE},
        {"net": "net", "path_prefix": "prefix", "example": "example", "epoch": "integer", "loss_head": "choice"}),
    "export.to_onnx": (export.to_onnx, {"net": tiny, "path": "net.onnx", "example": EXAMPLE},
                       {"net": "net", "path": "path", "example": "example", "verify": "flag", "opset": "opset",
                        "metadata": "optional mapping", "weights": "weights of a file"}),
    "export.engine": (export.engine, {"path": "net.onnx"},
                      {"path": "any file", "runtime": "choice", "threads": "optional positive"}),
    "datasets.ImageDataset": (
        datasets.ImageDataset, {"images": np.zeros((4, 6, 6, 3), np.uint8), "labels": [0, 1, 1, 0], "mean": (0.5,) * 3,
                                "std": (0.5,) * 3},
        {"images": "images", "labels": "labels", "mean": "channels", "std": "channels", "classes": "names",
         "skipped": "reasons of files"}),
    "datasets.Shard": (datasets.Shard, {"count": 10, "batch_size": 4},
                      {"count": "positive", "batch_size": "positive", "shuffle": "flag", "rank": "integer",
                       "workers": "positive"}),
    "models.ResNet": (models.ResNet, {"classes": 2, "width": 4},
                      {"depth": "choice", "thumbnail": "flag", "classes": "positive", "width": "positive"}),
    "models.AlexNet": (models.AlexNet, {"classes": 2, "hidden_units": 4},
                       {"classes": "positive", "hidden_units": "positive"}),
    **{f"models.{name}": (getattr(models, name), {"classes": 2}, {"classes": "positive"})
       for name in ("LeNet", "LeNet300100", "LeNet5Caffe", "SimpleCNN", "SmallConvNet")},

    # networks, records and what is made of them, by the methods
    **{f"checkpoint.{name}": (getattr(checkpoint, name), {"net": tiny, "example": EXAMPLE},
                              {"net": "whole net", "example": "optional example"})
       for name in ("coded_size", "coded_sizes")},
    "checkpoint.records": (checkpoint.records, {"path": "missing.gcz"}, {"path": "path"}),
    "network.layers": (network.layers, {"net": tiny}, {"net": "whole net"}),
    "network.parameters": (network.parameters, {"net": tiny}, {"net": "block"}),
    "network.snapshot": (network.snapshot, {"net": tiny}, {"net": "block"}),
    "network.restore_snapshot": (network.restore_snapshot, {"net": tiny, "values": {"conv.bias": np.ones(4)}},
                                 {"net": "block", "values": "values"}),
    "network.select_layers": (network.select_layers, {"net": tiny, "default": ("Dense",)},
                              {"net": "whole net", **WHICH}),
    "pruning.Masks": (pruning.Masks, {"kept": {"conv.weight": np.ones((4, 3, 3, 3))}},
                      {"kept": "kept", "left_out": "reasons"}),
    "pruning.Masks.apply": (pruning.Masks.apply, {"self": lambda: masks_of(tiny()), "net": tiny}, {"net": "whole net"}),
    "pruning.Masks.freeze": (pruning.Masks.freeze, {"self": lambda: masks_of(tiny()), "net": tiny},
                             {"net": "whole net"}),
    "pruning.Masks.from_dict": (pruning.Masks.from_dict, {"record": lambda: masks_of(tiny()).to_dict()},
                                {"record": "record"}),
    "pruning.Masks.check": (pruning.Masks.check, {"self": lambda: pruning.Masks({}), "net": tiny},
                            {"net": "whole net"}),
    "pruning.ChannelPlan.apply": (pruning.ChannelPlan.apply, {"self": plan, "net": tiny}, {"net": "any plan net"}),
    "pruning.ChannelPlan.check": (
        pruning.ChannelPlan.check, {"self": plan, "net": lambda: plan().apply(tiny())},
        {"net": "any plan net"}),
    "pruning.ChannelPlan.from_dict": (pruning.ChannelPlan.from_dict, {"record": lambda: plan().to_dict()},
                                      {"record": "record"}),
    "pruning.Sensitivity.ratios": (pruning.Sensitivity.ratios, {"self": measured, "max_drop": 0.1},
                                   {"max_drop": "drop"}),
    "pruning.Sensitivity.from_dict": (pruning.Sensitivity.from_dict, {"record": lambda: measured().to_dict()},
                                      {"record": "record"}),
    "pruning.MaskedTrainer.replace_masks": (
        pruning.MaskedTrainer.replace_masks, {"self": masked, "masks": lambda: masks_of(tiny())}, {"masks": "masks"}),
    "pruning.MaskedTrainer.restore_extra_state": (
        pruning.MaskedTrainer.restore_extra_state, {"self": masked, "state": lambda: masked().extra_state()},
        {"state": "record"}),
    "coding.SizeGoal": (coding.SizeGoal, {"size": 100, "updates": 10},
                        {"size": "positive", "updates": "positive", "penalty": "number"}),
    "coding.RateTrainer.restore_extra_state": (
        coding.RateTrainer.restore_extra_state, {"self": rated, "state": lambda: rated().extra_state()},
        {"state": "record"}),
    "coding.RateTrainer.restore_state_tensors": (
        coding.RateTrainer.restore_state_tensors, {"self": rated, "tensors": lambda: rated().state_tensors()},
        {"tensors": "values"}),
    "pruning.ChannelPenalty.add_gradients": (
        pruning.ChannelPenalty.add_gradients, {"self": penalty, "batch_size": 4}, {"batch_size": "batch size"}),
    **{f"pruning.{name}": (getattr(pruning, name), {"progress": 0.5}, {"progress": "share"})
       for name in ("cubic", "linear", "one_shot")},
    **{f"training.{name}": (getattr(training, name), {"progress": 0.5}, {"progress": "share"})
       for name in ("constant", "cosine")},
    "training.one_cycle": (training.one_cycle, {"progress": 0.5}, {"progress": "share", "warmup": "share"}),
    "distillation.FeatureMatcher.forward": (
        distillation.FeatureMatcher.forward, {"self": matcher, "inputs": EXAMPLE}, {"inputs": "input"}),
    "quantization.IntegerNetwork.forward": (quantization.IntegerNetwork.forward, {"self": int8, "x": EXAMPLE},
                                         {"x": "input"}),
    "quantization.IntegerNetwork.export": (quantization.IntegerNetwork.export, {"self": int8, "path": "net"},
                                        {"path": "prefix", "epoch": "integer"}),
    "quantization.QatNetwork.convert": (quantization.QatNetwork.convert, {"self": qat, "simulate": True},
                                        {"simulate": "flag"}),
    "quantization.QuantizationRecord.range": (
        quantization.QuantizationRecord.range, {"self": lambda: int8().record, "layer": "conv", "what": "input"},
        {"layer": "names of layers", "what": "choice"}),
    "quantization.QuantizationRecord.from_dict": (
        quantization.QuantizationRecord.from_dict, {"record": lambda: int8().record.to_dict()}, {"record": "record"}),
    "quantization.FoldedNorms.from_dict": (
        quantization.FoldedNorms.from_dict, {"record": {"folded": {"norm": "conv"}, "left_out": {}}},
        {"record": "record"}),
    "coding.Compression.from_dict": (
        coding.Compression.from_dict, {"record": lambda: coding.Compression([ROW], 4, 0.1).to_dict()},
        {"record": "record"}),
    "quantization.Scales.check": (
        quantization.Scales.check, {"self": lambda: quantization.Scales({}), "net": tiny}, {"net": "whole net"}),
    "quantization.Scales.codes": (
        quantization.Scales.codes, {"self": lambda: quantization.Scales({}), "net": tiny}, {"net": "whole net"}),
    "quantization.Scales.from_dict": (
        quantization.Scales.from_dict, {"record": lambda: quantization.quantize_weights(tiny()).to_dict()},
        {"record": "record"}),
    "quantization.RangeObserver.observe": (
        quantization.RangeObserver.observe, {"self": observer, "array": np.ones(3)}, {"array": "numbers"}),
    "quantization.RangeObserver.threshold": (
        quantization.RangeObserver.threshold, {"self": observer}, {"signed": "optional flag"}),
    "quantization.dequantize_array": (
        quantization.dequantize_array, {"codes": np.ones(3, np.int8), "scale": np.float32(1)},
        {"codes": "codes", "scale": "scale", "axis": "axis"}),
    **{f"coding.Codebooks.{name}": (getattr(coding.Codebooks, name), {
        "self": lambda: coding.Codebooks({}), "net": tiny}, {"net": "whole net"})
       for name in ("check", "codes", "updated")},
    "coding.Codebooks.from_dict": (coding.Codebooks.from_dict, {"record": lambda: shared()[1].to_dict()},
                                   {"record": "record"}),
    "measuring.operator_times": (
        measuring.operator_times, {"net": tiny, "example": EXAMPLE, **QUIET},
        {"net": "net", "example": "example", "repeats": "positive", "progress": "flag"}),
    "measuring.measure_islands": (
        measuring.measure_islands, {"net": int8, "example": EXAMPLE, **QUIET},
        {"net": "int8 net", "example": "example", "progress": "flag"}),

    # charts
    "measuring.plots.plot_before_after": (
        plots.plot_before_after, {"values": {"a": 1.0, "b": 2}, "path": "chart.png"},
        {"values": "bars", "path": "picture", "ylabel": "optional text", "title": "optional text"}),
    "measuring.plots.plot_curves": (
        plots.plot_curves, {"curves": {"a": [(0, 1), (1, 2)]}, "path": "chart.png", "xlabel": "x", "ylabel": "y"},
        {"curves": "curves", "path": "picture", "xlabel": "text", "ylabel": "text", "title": "optional text",
         "log": "flag"}),
    "measuring.plots.plot_sensitivity": (
        plots.plot_sensitivity, {"sensitivity": measured, "path": "chart.png"},
        {"sensitivity": "plotted", "path": "picture", "title": "optional text"}),
    "measuring.plots.plot_codebooks": (
        plots.plot_codebooks, {"stages": {"a": np.ones(3)}, "path": "chart.png"},
        {"stages": "stages", "path": "picture", "original": "optional weights", "title": "optional text"}),
    "measuring.plots.plot_quantization": (
        plots.plot_quantization, {"record": lambda: int8().record, "path": "chart.png"},
        {"record": "plotted", "path": "picture", "title": "optional text"}),

    # data, files from elsewhere, processes elsewhere
    "datasets.ImageDataset.subset": (datasets.ImageDataset.subset, {"self": toy, "indices": [0, 1]},
                                     {"indices": "indices"}),
    "datasets.ImageDataset.split": (datasets.ImageDataset.split, {"self": toy, "held_out": 1},
                                    {"held_out": "positive", "seed": "integer"}),
    "datasets.ImageDataset.batches": (datasets.ImageDataset.batches, {"self": toy, "batch_size": 2}, BATCHES),
    "datasets.ImageDataset.batches(augment)": (batch_of, {"augment": lambda: datasets.random_flip},
                                               {"augment": "augmentation"}),
    "datasets.image_folder": (datasets.image_folder, {"path": lambda: files_of_images() / "photos", **QUIET},
                              {**READ, "classes": "optional names of classes"}),
    "datasets.record_file": (datasets.record_file, {"path": lambda: files_of_images() / "images.rec", **QUIET}, READ),
    "datasets.array_file": (datasets.array_file, {"path": lambda: files_of_images() / "images.npz"}, IMAGES),
    **{f"datasets.{name}": (getattr(datasets, name), {}, {"root": "folder"})
       for name in ("mnist", "fashion_mnist", "cifar10")},
    "datasets.Batches": (datasets.Batches, {"dataset": toy, "batch_size": 2}, {"dataset": "data set", **BATCHES}),
    "datasets.random_crop": (datasets.random_crop, {"padding": 2}, {"padding": "integer"}),
    "datasets.cutout": (datasets.cutout, {"side": 2}, {"side": "positive"}),
    "datasets.compose": (compose, {"augment": [datasets.random_flip]}, {"augment": "augmentations"}),
    **{f"datasets.{name}": (augment, {"images": np.zeros((4, 6, 6, 3), np.uint8)}, {"images": "pixels"})
       for name, augment in (("random_flip", datasets.random_flip), ("random_crop()", datasets.random_crop(1)),
                             ("cutout()", datasets.cutout(1)))},
    "params.path": (params.path, {"name": "lenet_mnist"}, {"name": "name", "base_url": "optional address"}),
    "params.load": (params.load, {"name": "simple_cnn_mnist"},
                    {"name": "name", "base_url": "optional address", "ctx": "contexts"}),
    "params.pretrained": (params.pretrained, {"name": "resnet18_v1"}, {"name": "name", "source": "choice"}),
    "download.download": (
        download.download, {"url": "https://127.0.0.1:1/file", "path": "file", "sha256": "0" * 64, **QUIET},
        {"url": "url", "path": "path", "sha256": "digest", "timeout": "seconds", "progress": "flag",
         "limit": "positive", "resume": "optional flag"}),
    "transfer.check_address": (transfer.check_address, {"url": "https://a/b", "verified": True}, {"url": "url"}),
    "workers.of_trainer": (workers.of_trainer, {"trainer": lambda: mx.gluon.Trainer(tiny().collect_params(), "sgd")},
                           {"trainer": "Gluon trainer"}),
    "launch.main": (launched, {}, {"workers": "count", "servers": "count", "hosts": "hosts", "port": "port",
                                   "ssh": "command", "python": "command", "script": "script"}),
}
# mistakes that are none: {(function, argument): {which}}
FINE = {**{(name, "example"): {"two inputs", "data"}  # a warning says that the file then holds no graph
           for name in ("save", "checkpoint.coded_size", "checkpoint.coded_sizes")},
        ("load", "net"): {"None", "uninitialized", "class"}, ("export.write_checkpoint", "example"): {"None"},
        ("distillation.DistillationLoss", "teacher_weights"): {"list"},
        ("distillation.DistillationLoss()", "labels"): {"one class"}}
# calls whose good end is seen in other files: they start processes, need a server or read whole data sets
ELSEWHERE = ("measuring.kernels_of", "measuring.operator_times", "measuring.measure_islands", "datasets.mnist",
             "datasets.fashion_mnist", "datasets.cifar10", "params.pretrained", "download.download", "launch.main")
# {why there are no rows: names}
NO_ROWS = {
    "errors": {"CheckpointError", "DataError", "DownloadError", "GluonCompressError", "NetworkError", "RecordError",
               "WorkerError", "transfer.WrongContent"},
    "records, which functions make, and whose from_dict has rows": {
        "coding.Codebooks", "coding.Compression", "pruning.ChannelPlan", "pruning.Sensitivity",
        "quantization.QuantizationRecord", "quantization.Scales"},
    "what functions return": {
        "distillation.CachedLogits", "measuring.Kernel", "measuring.KernelReport", "measuring.Report",
        "measuring.Timing", "network.Layer",
        "quantization.FoldedNorms", "quantization.IntegerNetwork", "quantization.QatNetwork", "runtime.RuntimeStatus",
        "training.History", "transfer.Answer", "workers.Alone", "workers.Workers"},
    "MXNet's trainers and fit call them": {
        *(f"workers.Workers.{name}" for name in ("broadcast", "pushpull", "from_worker", "check_same", "share",
                                                 "average")),
        *(f"workers.{group}.{name}" for group in ("Alone", "Workers")
          for name in ("check_network", "begin", "step", "meet", "sum", "file_of_first"))},
    "no arguments": {"params.manifest", "params.names", "runtime.status", "runtime.usable_cores", "workers.connect",
                     "workers.in_cluster"},
    "a piece of text in, a piece of text out": {"network.layer_name"},
    "called by other functions, with what they have checked": {
        "coding.Compression.line",
        *(f"coding.{stage}.{name}" for stage in ("Pruning", "Rounding") for name in ("check", "description", "run")),
        "distillation.DistillationLoss.forward", "distillation.DistillationLoss.hybrid_forward",
        "distillation.FeatureMatcher.compare", "pruning.ChannelPlan.shapes", "pruning.Random.of_weights",
        *(f"pruning.{name}.of_channels" for name in ("BatchNormScale", "Random", "Taylor", "WeightCriterion")),
        "coding.SizeGoal.next_penalty", "coding.SizeGoal.wanted", "coding.decode", "coding.encode",
        "pruning.WeightCriterion.of_weights", "pruning.Masks.fitted",
        "pruning.Masks.fitted_masks", "transfer.fetch", "transfer.reason_of",
        *(f"models.{name}.hybrid_forward" for name in models.__all__)},
}


def made(value):
    """What stands in the tables; a function there makes it anew."""
    classes = (Tiny, Plain, mx.gluon.loss.L2Loss)
    function = inspect.isfunction(value) or hasattr(value, "cache_info")
    return value() if function or any(value is each for each in classes) else value


@pytest.fixture
def folder(monkeypatch):
    """An empty working directory; faster than tmp_path."""
    with tempfile.TemporaryDirectory() as name:
        monkeypatch.chdir(name)
        yield Path(name)


def rows():
    for name, (_, _, kinds) in FUNCTIONS.items():
        for argument, kind in kinds.items():
            for mistake in MISTAKES[kind][1]:
                if mistake not in FINE.get((name, argument), ()):
                    yield pytest.param(name, argument, mistake, id=f"{name}-{argument}-{mistake}")


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in ELSEWHERE])
def test_the_calls_without_mistake_work(name, folder):
    function, good, _ = FUNCTIONS[name]
    if name in ("load", "checkpoint.records", "checkpoint.describe"):
        gc.save("missing.gcz", tiny(), example=EXAMPLE)
    if name == "export.engine":
        export.to_onnx(tiny(), "net.onnx", EXAMPLE)
    if name == "measuring.Report.read_json":
        gc.report(tiny(), EXAMPLE).write_json("report.json")
    function(**{key: made(value) for key, value in good.items()})


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "argument", "mistake"), list(rows()))
def test_a_mistake_is_told_in_a_sentence_and_changes_nothing(name, argument, mistake, folder):
    function, good, kinds = FUNCTIONS[name]
    words, mistakes = MISTAKES[kinds[argument]]
    arguments = {**{key: made(value) for key, value in good.items()}, argument: made(mistakes[mistake])}
    nets = [value for value in arguments.values() if isinstance(value, HybridBlock)]
    before = [known_values(net) for net in nets]
    with pytest.raises((TypeError, ValueError, OSError, GluonCompressError)) as raised:
        function(**arguments)
    message = str(raised.value)
    assert re.search(words.format(name=argument), message), message
    assert len(message) < 500 and not re.search(r"src/|Stack trace|\.cc:|0x[0-9a-f]{6}", message), message
    assert all(identical(there, known_values(net)) for there, net in zip(before, nets))
    assert list(folder.iterdir()) == []


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name, (_, _, kinds) in FUNCTIONS.items() if kinds.get("net") in (
    "any net", "net", "whole net", "finite net", "trained net") and name not in ELSEWHERE])
def test_a_network_without_parameters_is_worked_with_or_refused_in_a_sentence(name, folder):
    function, good, _ = FUNCTIONS[name]
    if name == "load":
        nn.Flatten().save_parameters("missing.gcz")
    try:
        function(**{**{key: made(value) for key, value in good.items()}, "net": nn.Flatten()})
    except (TypeError, ValueError, GluonCompressError) as refusal:
        message = str(refusal)
        assert re.search("no (layer|BatchNorm|prunable channels)|has none|are none|parameter|weight", message), message
        assert "\n" not in message


@pytest.mark.parametrize("function", [
    lambda net, example: gc.measure_latency(net, example, repeats=1, warmup=0),
    lambda net, example: gc.training.evaluate(net, [(example, LABELS)]),
    lambda net, example: gc.training.fit(net, [(example, LABELS)], epochs=1, progress=False),
    lambda net, example: gc.pruning.reestimate_batch_norm(net, [(example, LABELS)], progress=False)])
def test_float16_that_a_processor_cannot_compute_is_told_with_what_to_do(function):
    net = tiny()
    net.cast("float16")
    before = known_values(net)
    with pytest.raises(ValueError, match=r"float16, does not fit the network: .*; accepted: float32") as raised:
        function(net, EXAMPLE.astype("float16"))
    assert "\n" not in str(raised.value) and identical(before, known_values(net))


def test_a_network_in_place_of_a_path_is_not_printed_at_length():
    for write in (export.engine, lambda path: gc.save(path, tiny()), lambda path: export.to_onnx(tiny(), path, EXAMPLE),
                  lambda path: export.write_checkpoint(tiny(), path, example=EXAMPLE)):
        with pytest.raises(TypeError, match=r" is a Tiny; accepted: the (path of a|beginning of a) file"):
            write(tiny())


def known_values(net):
    return {name: value_of(parameter) for name, parameter in net._collect_params_with_prefix().items()
            if parameter._data is not None}


def public():
    """(name, function or class) of all that has no underscore in ``gluon_compress`` and the modules of its ``__all__``.

    With the methods that take arguments, and four modules that are used by their names.
    """
    modules = {name: module for name in gc.__all__ if inspect.ismodule(module := getattr(gc, name))}
    modules |= {"measuring.plots": plots, "download": download, "launch": launch, "transfer": transfer}
    top = {name: getattr(gc, name) for name in gc.__all__ if name not in modules}
    yield from top.items()
    for module_name, module in modules.items():
        own = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__
               and not name.startswith("_") and callable(value) and value not in top.values()]
        for name in getattr(module, "__all__", own):
            value = getattr(module, name)
            if inspect.ismodule(value) or value in top.values():
                continue
            yield f"{module_name}.{name}", value
            for method, function in methods_of(value).items() if inspect.isclass(value) else ():
                function = getattr(function, "__func__", function)
                if not method.startswith("_") and inspect.isfunction(function) and \
                        len(inspect.signature(function).parameters) > 1:
                    yield f"{module_name}.{name}.{method}", function


def methods_of(cls):
    """{name: method} of a class; of a record those that users call, and not those that only ``checkpoint`` does."""
    if not issubclass(cls, Record):
        return vars(cls)
    own = {name: method for name, method in vars(cls).items() if name not in vars(Record) or name == "check"}
    return {**own, "from_dict": cls.from_dict}


# {name: arguments without rows}
FREE = {"network.select_layers": {"default"}, "quantization.IntegerNetwork.export": {"remove_amp_cast"},  # MXNet's own
        "transfer.check_address": {"verified"}}


def test_every_public_name_has_rows_for_each_argument():
    covered = {}
    for name, (_, _, kinds) in FUNCTIONS.items():
        covered.setdefault(re.sub(r"\(.*", "", name), set()).update(kinds)
    names = {name for name, _ in public()}
    excused = set().union(*NO_ROWS.values())
    assert names <= covered.keys() | excused, f"without rows: {sorted(names - covered.keys() - excused)}"
    assert excused <= names and covered.keys() <= names, f"gone: {sorted((excused | covered.keys()) - names)}"
    for name, value in public():
        for argument in inspect.signature(value).parameters.values() if name not in excused else ():
            free = {"self", "cls"} | FREE.get(name, set())
            assert argument.kind in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD) or \
                argument.name in covered[name] | free, f"{argument.name} of {name} has no rows"
