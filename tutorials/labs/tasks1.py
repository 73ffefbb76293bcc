"""Checks of lab 1: prune."""
import gluon_compress  # before mxnet  # noqa: F401
import mxnet as mx
import numpy as np
from mxnet.gluon import nn

from checking import Wrong, as_array, close, task, untouched

# 25 weights. The tenth and the eleventh largest magnitude are both 0.30, so a threshold cannot keep ten of them.
WEIGHT = np.array([[0.90, -0.05, 0.30, -0.85, 0.10], [0.02, 0.80, -0.12, 0.07, -0.75], [-0.30, 0.15, 0.70, -0.01, 0.20],
                   [0.65, -0.25, 0.03, -0.60, 0.08], [-0.18, 0.04, -0.50, 0.22, 0.45]], np.float32)


@task("1.1")
def check_magnitude_mask(magnitude_mask):
    for sparsity, wanted in ((0.6, 10), (0.2, 20), (0.0, 25), (1.0, 0)):
        given = WEIGHT.copy()
        mask = as_array(magnitude_mask(given, sparsity), WEIGHT.shape, "mask").astype(np.float64)
        untouched(WEIGHT, given)
        if not np.isin(mask, (0, 1)).all():
            raise Wrong("mask_values", value=f"{mask[~np.isin(mask, (0, 1))][0]:g}")
        check_kept(mask.astype(bool), wanted, sparsity)


def check_kept(kept, wanted, sparsity):
    """That a mask keeps ``wanted`` weights, and those of the largest magnitude."""
    magnitudes, count = np.abs(WEIGHT), int(kept.sum())
    if count == WEIGHT.size - wanted != wanted and 0 < sparsity < 1:
        raise Wrong("mask_inverted", kept=count, size=WEIGHT.size, asked=wanted)
    if wanted == 0 and count == WEIGHT.size:
        raise Wrong("mask_minus_zero", kept=count, size=WEIGHT.size, asked=wanted)
    if count != wanted:
        raise Wrong("mask_ties" if abs(count - wanted) <= 2 else "mask_count", kept=count, size=WEIGHT.size,
                    asked=wanted)
    if not 0 < wanted < WEIGHT.size:
        return
    dropped, smallest = WEIGHT[~kept][np.argmax(magnitudes[~kept])], WEIGHT[kept][np.argmin(magnitudes[kept])]
    if abs(dropped) > abs(smallest):
        signed = WEIGHT[kept].min() >= WEIGHT[~kept].max()
        raise Wrong("mask_signed" if signed else "mask_others", dropped=f"{dropped:.2f}", kept=f"{smallest:.2f}")


LAYERS = {"wide": np.linspace(0.01, 0.5, 20).reshape(4, 5), "narrow": np.linspace(-2.0, -0.55, 6).reshape(2, 3)}


@task("1.2")
def check_global_masks(global_masks):
    given = {name: weight.copy() for name, weight in LAYERS.items()}
    masks = global_masks(given, 0.5)
    if masks is None or masks is ...:
        raise Wrong("nothing")
    if not isinstance(masks, dict) or masks.keys() != LAYERS.keys():
        raise Wrong("global_names", expected=", ".join(LAYERS), found=", ".join(map(str, masks)) if isinstance(
            masks, dict) else type(masks).__name__)
    kept = {name: int(as_array(mask, LAYERS[name].shape, f"mask of {name}").astype(bool).sum())
            for name, mask in masks.items()}
    if kept == {"wide": 10, "narrow": 3}:
        raise Wrong("global_per_layer", layers=", ".join(LAYERS))
    if sum(kept.values()) != 13:
        raise Wrong("global_count", kept=sum(kept.values()), size=26, asked=13)
    if kept["narrow"] != 6:
        raise Wrong("global_signed", kept=kept["narrow"])
    largest = np.sort(LAYERS["wide"].ravel())[-7:]
    if not np.array_equal(np.sort(LAYERS["wide"][np.asarray(masks["wide"], bool)]), largest):
        raise Wrong("global_others")


def small_network():
    """A dense layer of 4 units after two steps with momentum, its data, and a mask that keeps half of the weights."""
    rng = np.random.RandomState(0)
    net = nn.Dense(4, in_units=6)
    net.initialize()
    net.weight.set_data(mx.nd.array(rng.normal(size=(4, 6))))
    images, labels = mx.nd.array(rng.normal(size=(8, 6))), mx.nd.array(rng.randint(0, 4, 8))
    trainer = mx.gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1, "momentum": 0.9})
    mask = mx.nd.array(rng.permutation(24).reshape(4, 6) % 2)
    for _ in range(2):
        own_step(net, trainer, images, labels)
    net.weight.set_data(net.weight.data() * mask)
    return net, trainer, images, labels, mask


def own_step(net, trainer, images, labels):
    with mx.autograd.record():
        losses = LOSS(net(images), labels)
    losses.backward()
    trainer.step(len(images))
    return losses


LOSS = mx.gluon.loss.SoftmaxCrossEntropyLoss()


def moved(net, before):
    return net.weight.data().asnumpy() - before


@task("1.4")
def check_masked_step(masked_step):
    net, trainer, images, labels, mask = small_network()
    before, bias = net.weight.data().asnumpy(), net.bias.data().asnumpy()
    masked_step(net, trainer, LOSS, images, labels, {net.weight: mask})
    reference, *rest, _ = small_network()
    own_step(reference, *rest)
    kept = mask.asnumpy().astype(bool)
    expected, found = moved(reference, before)[kept], moved(net, before)[kept]
    if not moved(net, before).any():
        raise Wrong("step_none" if np.array_equal(bias, net.bias.data().asnumpy()) else "step_frozen")
    pruned = net.weight.data().asnumpy()[~kept]
    if pruned.any():
        raise Wrong("step_pruned_move", count=int((pruned != 0).sum()), pruned=pruned.size,
                    largest=f"{np.abs(pruned).max():.3f}")
    if close(found, expected):
        return
    times = float(np.abs(found).sum() / np.abs(expected).sum())
    raise Wrong("step_batch_size" if times > 2 else "step_other", times=f"{times:.1f}", batch=len(images))


CONVOLUTION = np.random.RandomState(1).normal(size=(4, 3, 2, 2)).astype(np.float32)


@task("1.5")
def check_channel_importance(channel_importance):
    given = CONVOLUTION.copy()
    result = channel_importance(given)
    untouched(CONVOLUTION, given)
    if np.shape(result) == (3,):
        raise Wrong("importance_inputs", expected=4, found=3)
    importance = as_array(result, (4,), "importance")
    magnitudes = np.abs(CONVOLUTION).sum(axis=(1, 2, 3))
    if close(importance, magnitudes):
        return
    others = {"importance_signed": np.abs(CONVOLUTION.sum(axis=(1, 2, 3))),
              "importance_l2": np.sqrt(np.square(CONVOLUTION).sum(axis=(1, 2, 3))), "importance_mean": magnitudes / 12}
    for name, values in others.items():
        if close(np.abs(importance), values):
            raise Wrong(name)
    raise Wrong("importance_other", found=f"{importance[0]:.3f}", expected=f"{magnitudes[0]:.3f}")


@task("1.6")
def check_remove_channels(remove_channels):
    rng, kept = np.random.RandomState(2), np.array([0, 2, 3])
    weight, bias, dense = rng.normal(size=(5, 2, 3, 3)), rng.normal(size=5), rng.normal(size=(3, 5 * 4))
    result = remove_channels(weight.copy(), bias.copy(), dense.copy(), kept.copy())
    if result is None or result is ...:
        raise Wrong("nothing")
    if not isinstance(result, (tuple, list)) or len(result) != 3:
        raise Wrong("remove_three")
    if np.shape(result[0]) == (2, 2, 3, 3):
        raise Wrong("remove_complement")
    if np.shape(result[0]) == weight.shape:
        raise Wrong("remove_only_zero")
    if np.shape(result[1]) == bias.shape:
        raise Wrong("remove_bias", kept=3)
    if np.shape(result[2]) == dense.shape:
        raise Wrong("remove_dense_untouched")
    if np.shape(result[2]) == (3, 3):
        raise Wrong("remove_one_column")
    small = [as_array(array, shape, what) for array, shape, what in zip(
        result, ((3, 2, 3, 3), (3,), (3, 12)), ("convolution's weight", "bias", "dense layer's weight"))]
    if not close(small[0], weight[kept]) or not close(small[1], bias[kept]):
        raise Wrong("remove_others")
    if close(small[2], dense.reshape(3, 4, 5)[:, :, kept].reshape(3, 12)):
        raise Wrong("remove_interleaved")
    if not close(small[2], dense.reshape(3, 5, 4)[:, kept].reshape(3, 12)):
        raise Wrong("remove_columns")


def articles_network(prefix):
    """Two convolutions with a BatchNorm between them and a dense layer, all of whose parameters are small numbers."""
    net, rng = nn.HybridSequential(prefix=prefix), np.random.RandomState(4)
    with net.name_scope():
        net.add(nn.Conv2D(4, 3, in_channels=1), nn.BatchNorm(in_channels=4), nn.Conv2D(3, 3, in_channels=4),
                nn.Flatten(), nn.Dense(5, in_units=12))
    net.initialize()
    for parameter in net.collect_params().values():
        parameter.set_data(mx.nd.array(rng.normal(scale=0.1, size=parameter.shape)))
    return net


@task("1.10")
def check_parameter_pruning(parameter_pruning):
    net, named = articles_network("net_"), articles_network("dense_features_")
    before = {parameter: (parameter.grad_req, parameter.data().asnumpy())
              for parameter in [*net.collect_params().values(), *named.collect_params().values()]}
    masks = parameter_pruning(net, 0.1)
    for parameter in net.collect_params().values():
        if parameter.grad_req != before[parameter][0]:
            raise Wrong("repair_frozen", name=parameter.name, kept=int((np.abs(before[parameter][1]) > 0.1).sum()))
    convolutions = [net[0].weight, net[2].weight]
    for parameter in net.collect_params().values():
        if parameter not in convolutions and not np.array_equal(parameter.data().asnumpy(), before[parameter][1]):
            raise Wrong("repair_touched", name=parameter.name)
    parameter_pruning(named, 0.1)
    for parameter in [*convolutions, named[0].weight, named[2].weight]:
        found, old = parameter.data().asnumpy(), before[parameter][1]
        if np.array_equal(found, old):
            raise Wrong("repair_name" if "dense" in parameter.name else "repair_whole", name=parameter.name)
        if not np.array_equal(found, old * (np.abs(old) > 0.1)):
            raise Wrong("repair_others", name=parameter.name)
    check_masks(masks, {parameter: np.abs(before[parameter][1]) > 0.1 for parameter in convolutions})


def check_masks(masks, expected):
    if not isinstance(masks, dict) or masks.keys() != expected.keys():
        raise Wrong("repair_no_masks", found=type(masks).__name__)
    for parameter, kept in expected.items():
        if not np.array_equal(as_array(masks[parameter], kept.shape, "mask"), kept):
            raise Wrong("repair_mask", name=parameter.name)


@task("1.11")
def check_flattened(flattened):
    for channels in (20, 10):
        x = np.random.RandomState(5).normal(size=(64, channels, 4, 4)).astype(np.float32)
        result = flattened(mx.nd.array(x))
        if np.shape(result)[:1] != (64,):
            raise Wrong("repair_rows", channels=channels, found=str(np.shape(result)))
        if not np.array_equal(as_array(result, (64, channels * 16), "rows"), x.reshape(64, -1)):
            raise Wrong("repair_order")
