"""Networks as people trained them with ``Module``, saved by MXNet itself: what the tests of other formats open."""
import gluon_compress  # before mxnet  # noqa: F401

import mxnet as mx  # noqa: I001
import numpy as np

sym = mx.sym
IMAGES = {"data": (8, 3, 12, 12)}


def lenet(head=sym.SoftmaxOutput, classes=5):
    """LeNet as in MXNet's first tutorials: tanh, two convolutions, two dense layers."""
    data = sym.var("data")
    for number, filters in ((1, 6), (2, 8)):
        data = sym.Convolution(data, kernel=(3, 3), num_filter=filters, name=f"conv{number}")
        data = sym.Activation(data, act_type="tanh", name=f"tanh{number}")
        data = sym.Pooling(data, pool_type="max", kernel=(2, 2), stride=(2, 2))
    data = sym.Activation(sym.FullyConnected(sym.Flatten(data), num_hidden=12, name="fc1"), act_type="tanh")
    return head(sym.FullyConnected(data, num_hidden=classes, name="fc2"), name="softmax")


def face_network(classes=7):
    """In the style of insightface: BatchNorm with fix_gamma, PReLU, a residual unit, Dropout, an embedding, a label."""
    def norm(data, name, fix_gamma=True):
        return sym.BatchNorm(data, fix_gamma=fix_gamma, eps=2e-5, momentum=0.9, name=name)

    def prelu(data, name):
        return sym.LeakyReLU(data, act_type="prelu", name=name)
    data = (sym.identity(sym.var("data"), name="id") - 0.1) * 0.9
    body = prelu(norm(sym.Convolution(data, num_filter=8, kernel=(3, 3), pad=(1, 1), no_bias=True, name="conv0"),
                      "bn0", fix_gamma=False), "relu0")
    unit = norm(body, "unit_bn1")
    unit = prelu(norm(sym.Convolution(unit, num_filter=12, kernel=(3, 3), pad=(1, 1), no_bias=True, name="unit_conv1"),
                      "unit_bn2"), "unit_relu1")
    unit = norm(sym.Convolution(unit, num_filter=12, kernel=(3, 3), stride=(2, 2), pad=(1, 1), no_bias=True,
                                name="unit_conv2"), "unit_bn3")
    short = norm(sym.Convolution(body, num_filter=12, kernel=(1, 1), stride=(2, 2), no_bias=True, name="unit_sc"),
                 "unit_sc_bn")
    body = sym.Dropout(norm(unit + short, "bn1"), p=0.4)
    embedding = norm(sym.FullyConnected(body, num_hidden=16, name="pre_fc1"), "fc1")
    return sym.SoftmaxOutput(sym.FullyConnected(embedding, num_hidden=classes, name="fc7"), name="softmax",
                             normalization="valid")


def two_inputs():
    """An image and a vector; regression."""
    image = sym.Flatten(sym.Convolution(sym.var("image"), num_filter=4, kernel=(3, 3), name="conv"))
    both = sym.concat(sym.Activation(image, act_type="relu"),
                      sym.FullyConnected(sym.var("vector"), num_hidden=6, name="side"), dim=1)
    return sym.LinearRegressionOutput(sym.FullyConnected(both, num_hidden=2, name="out"), name="lro")


def detector(train=True, classes=2):
    """An SSD as MXNet's example builds it, and SageMaker trains: one scale. In training it puts out losses, too."""
    body = sym.Activation(sym.Convolution(sym.var("data"), num_filter=8, kernel=(3, 3), stride=(2, 2), pad=(1, 1),
                                          name="conv1"), act_type="relu")
    anchors = 2
    classes_at = sym.Convolution(body, num_filter=anchors * (classes + 1), kernel=(3, 3), pad=(1, 1), name="cls_conv")
    boxes_at = sym.Convolution(body, num_filter=anchors * 4, kernel=(3, 3), pad=(1, 1), name="loc_conv")
    loc_preds = sym.Flatten(sym.transpose(boxes_at, axes=(0, 2, 3, 1)), name="multibox_loc_pred")
    cls_preds = sym.Reshape(sym.Flatten(sym.transpose(classes_at, axes=(0, 2, 3, 1))), shape=(0, -1, classes + 1))
    cls_preds = sym.transpose(cls_preds, axes=(0, 2, 1), name="multibox_cls_pred")
    boxes = sym.contrib.MultiBoxPrior(body, sizes=(0.3, 0.6), ratios=(1,), clip=False, name="anchors")
    if not train:
        cls_prob = sym.SoftmaxActivation(cls_preds, mode="channel", name="cls_prob")
        return sym.contrib.MultiBoxDetection(cls_prob, loc_preds, boxes, name="detection", nms_threshold=0.5)
    target = sym.contrib.MultiBoxTarget(boxes, sym.var("label"), cls_preds, overlap_threshold=0.5, ignore_label=-1,
                                        negative_mining_ratio=3, minimum_negative_samples=0,
                                        negative_mining_thresh=0.5, variances=(0.1, 0.1, 0.2, 0.2), name="target")
    cls_prob = sym.SoftmaxOutput(cls_preds, target[2], ignore_label=-1, use_ignore=True, multi_output=True,
                                 normalization="valid", name="cls_prob")
    loc_loss = sym.MakeLoss(sym.smooth_l1(target[1] * (loc_preds - target[0]), scalar=1.0), normalization="valid",
                            name="loc_loss")
    label = sym.MakeLoss(target[2], grad_scale=0, name="cls_label")
    found = sym.contrib.MultiBoxDetection(cls_prob, loc_preds, boxes, name="detection", nms_threshold=0.5)
    return sym.Group([cls_prob, loc_loss, label, sym.MakeLoss(found, grad_scale=0, name="det_out")])


def trained(symbol, shapes=None, label_shape=(8,), labels=("softmax_label",), steps=3, seed=0):
    """``(module, inputs)``: a Module after a few steps, and a batch of its inputs as NDArrays."""
    shapes = shapes or IMAGES
    chance = np.random.RandomState(seed)
    mx.random.seed(seed)
    module = mx.mod.Module(symbol, data_names=list(shapes), label_names=list(labels) or None)
    inputs = [mx.nd.array(chance.randn(*shape)) for shape in shapes.values()]
    classes = 5 if len(label_shape) == 1 else None
    label = mx.nd.array(chance.randint(0, classes, label_shape) if classes else chance.rand(*label_shape))
    module.bind(list(shapes.items()), [(name, label_shape) for name in labels] or None)
    module.init_params(mx.init.Xavier(magnitude=2))
    module.init_optimizer(optimizer_params={"learning_rate": 0.05})
    for _ in range(steps):
        module.forward_backward(mx.io.DataBatch(inputs, [label] * len(labels)))
        module.update()
    return module, inputs


def predicted(prefix, epoch, shapes, inputs, labels=("softmax_label",), label_shape=None):
    """What ``Module.load(...).predict`` gives for one batch: a list of arrays. Some need to know the label's shape."""
    module = mx.mod.Module.load(prefix, epoch, data_names=list(shapes), label_names=list(labels) or None)
    module.bind(list(shapes.items()), label_shape and [(name, label_shape) for name in labels], for_training=False)
    module.forward(mx.io.DataBatch(inputs), is_train=False)
    return [output.asnumpy() for output in module.get_outputs()]
