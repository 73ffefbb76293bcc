"""What students typically write in the labs, and what they must be told: {task: [(function, sentence, its words)]}."""
import numpy as np

import gluon_compress  # before mxnet  # noqa: F401
import mxnet as mx
from mxnet import autograd

# ---------------------------------------------------------------- lab 1


def at_least_the_threshold(weight, sparsity):
    size = np.sort(np.abs(weight).ravel())
    return (np.abs(weight) >= size[min(round(sparsity * size.size), size.size - 1)]).astype(np.float32)


def above_the_threshold(weight, sparsity):
    size = np.sort(np.abs(weight).ravel())
    return (np.abs(weight) > size[round(sparsity * size.size)]).astype(np.float32)


def by_value(weight, sparsity):
    mask = np.zeros(weight.size)
    mask[np.argsort(weight, axis=None)[round(sparsity * weight.size):]] = 1
    return mask.reshape(weight.shape)


def keeps_the_small(weight, sparsity):
    mask = np.zeros(weight.size)
    mask[np.argsort(np.abs(weight), axis=None)[:round(sparsity * weight.size)]] = 1
    return mask.reshape(weight.shape)


def minus_zero(weight, sparsity):
    mask, kept = np.zeros(weight.size), weight.size - round(sparsity * weight.size)
    mask[np.argsort(np.abs(weight), axis=None)[-kept:]] = 1
    return mask.reshape(weight.shape)


def pruned_weight(weight, sparsity):
    return weight * (np.abs(weight) >= np.quantile(np.abs(weight), sparsity))


def in_place(weight, sparsity):
    mask = np.zeros(weight.size, np.float32)
    mask[np.argsort(np.abs(weight), axis=None)[round(sparsity * weight.size):]] = 1
    weight *= mask.reshape(weight.shape)
    return mask.reshape(weight.shape)


def each_layer_alone(weights, sparsity):
    return {name: np.abs(weight) >= np.quantile(np.abs(weight), sparsity) for name, weight in weights.items()}


def together_by_value(weights, sparsity):
    threshold = np.quantile(np.concatenate([weight.ravel() for weight in weights.values()]), sparsity)
    return {name: weight > threshold for name, weight in weights.items()}


def list_of_masks(weights, sparsity):
    return [np.abs(weight) > 0.5 for weight in weights.values()]


def gradients_masked(net, trainer, loss_function, images, labels, masks):
    with autograd.record():
        losses = loss_function(net(images), labels)
    losses.backward()
    for parameter, mask in masks.items():
        parameter.grad()[:] = parameter.grad() * mask
    trainer.step(len(images))


def step_of_one(net, trainer, loss_function, images, labels, masks):
    with autograd.record():
        losses = loss_function(net(images), labels)
    losses.backward()
    trainer.step(1)
    for parameter, mask in masks.items():
        parameter.set_data(parameter.data() * mask)


def no_step(net, trainer, loss_function, images, labels, masks):
    with autograd.record():
        losses = loss_function(net(images), labels)
    losses.backward()
    for parameter, mask in masks.items():
        parameter.set_data(parameter.data() * mask)


def frozen(net, trainer, loss_function, images, labels, masks):
    before = {parameter: parameter.data().copy() for parameter in masks}
    with autograd.record():
        losses = loss_function(net(images), labels)
    losses.backward()
    trainer.step(len(images))
    for parameter, value in before.items():
        parameter.set_data(value)


def outside_of_record(net, trainer, loss_function, images, labels, masks):
    losses = loss_function(net(images), labels)
    losses.backward()
    trainer.step(len(images))


def dense_as_it_was(conv_weight, conv_bias, dense_weight, kept):
    return conv_weight[kept], conv_bias[kept], dense_weight


def one_column(conv_weight, conv_bias, dense_weight, kept):
    return conv_weight[kept], conv_bias[kept], dense_weight[:, kept]


def interleaved(conv_weight, conv_bias, dense_weight, kept):
    channels = len(conv_bias)
    columns = (np.arange(dense_weight.shape[1] // channels)[:, None] * channels + kept).ravel()
    return conv_weight[kept], conv_bias[kept], dense_weight[:, columns]


def set_to_zero(conv_weight, conv_bias, dense_weight, kept):
    keeps = np.isin(np.arange(len(conv_bias)), kept)
    return conv_weight * keeps[:, None, None, None], conv_bias * keeps, dense_weight


def bias_forgotten(conv_weight, conv_bias, dense_weight, kept):
    pixels = dense_weight.shape[1] // len(conv_bias)
    return conv_weight[kept], conv_bias, dense_weight[:, (kept[:, None] * pixels + np.arange(pixels)).ravel()]


# ---------------------------------------------------------------- lab 2

def error_without_clipping(values, bits):
    q_max, largest = 2 ** (bits - 1) - 1, np.abs(values).max()
    scales = [step * largest / 100 / q_max for step in range(1, 101)]
    return q_max * min(scales, key=lambda scale: np.mean((values - np.rint(values / scale) * scale) ** 2))


def error_instead_of_threshold(values, bits):
    return -1.0


def best_of_a_hundred(values, bits, q_max=None):
    """The right threshold, and its error."""
    q_max, largest = q_max or 2 ** (bits - 1) - 1, np.abs(values).max()

    def error(threshold):
        scale = threshold / q_max
        return np.mean((values - np.clip(np.rint(values / scale), -q_max, q_max) * scale) ** 2)
    threshold = min((step * largest / 100 for step in range(1, 101)), key=error)
    return threshold, error(threshold)


def nothing_for_zeros(weight, bits):
    largest = np.abs(weight).max()
    if largest > 0:
        return largest / (2 ** (bits - 1) - 1)


def largest_value(values, bits):
    """Thresholds up to the largest value, not the largest magnitude."""
    return min((step * values.max() / 100 for step in range(1, 101)), key=lambda threshold: np.mean(
        (values - np.clip(np.rint(values / threshold * (2 ** (bits - 1) - 1)), 1 - 2 ** (bits - 1), 2 ** (bits - 1) - 1)
         * threshold / (2 ** (bits - 1) - 1)) ** 2))


def in_their_own_types(x, weight):
    """uint8 times int8 is int16 in NumPy, and np.einsum adds up in it."""
    rows, columns = x.shape[2] - weight.shape[2] + 1, x.shape[3] - weight.shape[3] + 1
    return sum(np.einsum("ncij,oc->noij", x[:, :, h:h + rows, w:w + columns], weight[:, :, h, w]).astype(np.int32)
               for h in range(weight.shape[2]) for w in range(weight.shape[3]))


def cut_at_127(sums, scale_x, scale_w, scale_out):
    return np.clip(np.rint(sums * (scale_x * scale_w)[:, None, None] / scale_out), 0, 127).astype(np.uint8)


def half_added(w, scale, bits):
    return np.clip(w / scale + 0.5, -127, 127).astype(np.int8)


def rows_and_columns_turned(x, weight):
    return summed(x, weight).transpose(0, 1, 3, 2)


def codes_as_int8(x, weight):
    return summed(x.astype(np.int8), weight)


def summed(x, weight, turned=False, type_=np.int32):
    weight = weight[:, :, ::-1, ::-1] if turned else weight
    rows, columns = x.shape[2] - weight.shape[2] + 1, x.shape[3] - weight.shape[3] + 1
    sums = np.zeros((len(x), len(weight), rows, columns), type_)
    for i in range(rows):
        for j in range(columns):
            window = x[:, None, :, i:i + weight.shape[2], j:j + weight.shape[3]].astype(type_)
            sums[:, :, i, j] = (window * weight.astype(type_)[None]).sum(axis=(2, 3, 4))
    return sums


def without_relu(sums, scale_x, scale_w, scale_out):
    return np.rint(sums * (scale_x * scale_w)[None, :, None, None] / scale_out).astype(np.int64).astype(np.uint8)


def not_clipped(sums, scale_x, scale_w, scale_out):
    real = np.maximum(sums * (scale_x * scale_w)[None, :, None, None], 0)
    return np.rint(real / scale_out).astype(np.int64).astype(np.uint8)


def scale_of_the_weight_forgotten(sums, scale_x, scale_w, scale_out):
    return np.clip(np.rint(np.maximum(sums * scale_x, 0) / scale_out), 0, 255).astype(np.uint8)


def cut(sums, scale_x, scale_w, scale_out):
    real = np.maximum(sums * (scale_x * scale_w)[None, :, None, None], 0)
    return np.clip(real / scale_out, 0, 255).astype(np.uint8)


def only_rounded(x, threshold, bits):
    scale = threshold / (2 ** (bits - 1) - 1)
    return mx.nd.rint(mx.nd.clip(x, -threshold, threshold) / scale) * scale


def straight_through_everywhere(x, threshold, bits):
    return x + mx.nd.BlockGrad(only_rounded(x, threshold, bits) - x)


def of_three_bits(x, threshold, bits):
    clipped = mx.nd.clip(x, -1, 1)
    return clipped + mx.nd.BlockGrad(mx.nd.rint(clipped * 3) / 3 - clipped)


def cut_to_steps(x, threshold, bits):
    scale = threshold / (2 ** (bits - 1) - 1)
    clipped = mx.nd.clip(x, -threshold, threshold)
    return clipped + mx.nd.BlockGrad(mx.nd.floor(clipped / scale) * scale - clipped)


def never_clipped(x, threshold, bits):
    scale = threshold / (2 ** (bits - 1) - 1)
    return x + mx.nd.BlockGrad(mx.nd.rint(x / scale) * scale - x)


def in_numpy(x, threshold, bits):
    return np.rint(x.asnumpy() * 3) / 3


# ---------------------------------------------------------------- lab 3

def softmax(z):
    exponentials = np.exp(z - z.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def exponentials_overflow(z, temperature):
    exponentials = np.exp(z.astype(np.float32) / temperature)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def one_largest_and_sum(z, temperature):
    exponentials = np.exp((z - z.max()) / temperature)
    return exponentials / exponentials.sum()


def parts(s, y, t, temperature):
    hard = -mx.nd.pick(mx.nd.log_softmax(s), y, axis=1)
    return hard, mx.nd.log_softmax(t / temperature), mx.nd.log_softmax(s / temperature)


def no_square(s, y, t, temperature, h):
    hard, p, q = parts(s, y, t, temperature)
    return h * hard + (1 - h) * (p.exp() * (p - q)).sum(axis=1)


def turned_round(s, y, t, temperature, h):
    hard, p, q = parts(s, y, t, temperature)
    return h * hard + (1 - h) * temperature ** 2 * (q.exp() * (q - p)).sum(axis=1)


def mean_of_classes(s, y, t, temperature, h):
    hard, p, q = parts(s, y, t, temperature)
    return h * hard + (1 - h) * temperature ** 2 * (p.exp() * (p - q)).mean(axis=1)


def shares_turned(s, y, t, temperature, h):
    hard, p, q = parts(s, y, t, temperature)
    return (1 - h) * hard + h * temperature ** 2 * (p.exp() * (p - q)).sum(axis=1)


def mean_of_batch(s, y, t, temperature, h):
    hard, p, q = parts(s, y, t, temperature)
    return (h * hard + (1 - h) * temperature ** 2 * (p.exp() * (p - q)).sum(axis=1)).mean()


def teacher_recorded(student, teacher, batches, trainer, loss_function):
    for images, labels in batches:
        with autograd.record():
            losses = loss_function(student(images), labels, teacher(images))
        losses.backward()
        trainer.step(len(images))


def epoch_with_step_one(student, teacher, batches, trainer, loss_function):
    for images, labels in batches:
        targets = teacher(images)
        with autograd.record():
            losses = loss_function(student(images), labels, targets)
        losses.backward()
        trainer.step(1)


def only_backward(student, teacher, batches, trainer, loss_function):
    for images, labels in batches:
        with autograd.record():
            losses = loss_function(student(images), labels, teacher(images).detach())
        losses.backward()


def only_the_first_batch(student, teacher, batches, trainer, loss_function):
    epoch_right(student, teacher, batches[:1], trainer, loss_function)


def epoch_right(student, teacher, batches, trainer, loss_function):
    for images, labels in batches:
        targets = teacher(images)
        with autograd.record():
            losses = loss_function(student(images), labels, targets)
        losses.backward()
        trainer.step(len(images))


def by_rint(w, scale, bits):
    return np.rint(w / scale)


# ---------------------------------------------------------------- the articles' own code, and half of the way from it


def articles_pruning(model, threshold):
    for name, value in model.collect_params().items():
        if 'dense' not in name:
            mask = mx.nd.abs(value.data()) > threshold
            value.set_data(value.data() * mask)
            value.grad_req = 'null'


def unfrozen(model, threshold, kind=""):
    for name, value in model.collect_params().items():
        if 'dense' not in name and name.endswith(kind):
            value.set_data(value.data() * (mx.nd.abs(value.data()) > threshold))


def convolutions_by_name(model, threshold):
    for name, value in model.collect_params().items():
        if 'dense' not in name and 'conv' in name and 'weight' in name:
            value.set_data(value.data() * (mx.nd.abs(value.data()) > threshold))


def convolutions_by_shape(model, threshold):
    for value in model.collect_params().values():
        if len(value.shape) == 4:
            value.set_data(value.data() * (mx.nd.abs(value.data()) > threshold))


def articles_quantization(model, num_bits):
    for value in model.collect_params().values():
        value.set_data(mx.nd.round(value.data() * ((2**num_bits-1) / mx.nd.max(mx.nd.abs(value.data()))))
                       / (2**num_bits-1))


def zeros_left_out(model, num_bits):
    for value in model.collect_params().values():
        if mx.nd.abs(value.data()).max() > 0:
            value.set_data(mx.nd.round(value.data() * ((2**num_bits-1) / mx.nd.max(mx.nd.abs(value.data()))))
                           / (2**num_bits-1))


def nine_bits(model, num_bits):
    for value in model.collect_params().values():
        scale = mx.nd.abs(value.data()).max().asscalar() / (2**num_bits-1) or 1
        value.set_data(mx.nd.round(value.data() / scale) * scale)


def biases_too(model, num_bits):
    for value in model.collect_params().values():
        scale = mx.nd.abs(value.data()).max().asscalar() / (2**(num_bits-1)-1) or 1
        value.set_data(mx.nd.round(value.data() / scale) * scale)


def articles_distillation(large_model, small_model, images, temperature):
    large_model_probabilities = large_model(images).softmax()
    small_model_probabilities = small_model(images).softmax()
    loss = mx.gluon.loss.KLDivLoss()
    with autograd.record():
        output = loss(large_model_probabilities, small_model_probabilities * temperature)
    output.backward()
    return output


def distils(factor, record_teacher=False, backward=True, from_logits=True, swapped=False, temperature_of=lambda t: t):
    """A version of the loop, with mistakes."""
    def distil(large_model, small_model, images, temperature):
        t = temperature_of(temperature)
        with autograd.record(record_teacher):
            targets = mx.nd.softmax(large_model(images) / t)
        with autograd.record():
            outputs = small_model(images) / t
            predicted = mx.nd.log_softmax(outputs) if from_logits else mx.nd.softmax(outputs)
            arguments = (mx.nd.log(targets), mx.nd.softmax(outputs)) if swapped else (predicted, targets)
            output = factor(temperature) * mx.gluon.loss.KLDivLoss()(*arguments)
        if backward:
            output.backward()
        return output
    return distil


MISTAKES = {
    "1.1": [
        (at_least_the_threshold, "mask_ties", "your mask keeps 11 of 25 weights, 10 were asked for: ties?"),
        (above_the_threshold, "mask_ties", "your mask keeps 9 of 25 weights, 10 were asked for: ties?"),
        (by_value, "mask_signed", "you prune -0.85 and keep 0.10: rank the weights by magnitude"),
        (keeps_the_small, "mask_inverted", "your mask keeps 15 of 25 weights, 10 were asked for: 1 keeps and 0 prunes"),
        (minus_zero, "mask_minus_zero", "order[-0:] is all of them"),
        (pruned_weight, "mask_values", "a mask holds 0 and 1 only"),
        (in_place, "changed_argument", "your function changes the array it was given")],
    "1.2": [
        (each_layer_alone, "global_per_layer", "that is one threshold per layer"),
        (together_by_value, "global_signed", "only 0 of 6 are kept"),
        (list_of_masks, "global_names", "a dictionary with a mask for each of wide, narrow")],
    "1.4": [
        (gradients_masked, "step_pruned_move", "after the step 12 of 12 pruned weights are no longer zero"),
        (step_of_one, "step_batch_size", "times as far as they should: the losses are summed over 8 images"),
        (no_step, "step_none", "trainer.step is missing"),
        (frozen, "step_frozen", "the kept weights must train, too"),
        (outside_of_record, "not_recorded", "outside of autograd.record() (in the line: losses.backward())")],
    "1.5": [
        (lambda weight: np.abs(weight).sum(axis=(0, 2, 3)), "importance_inputs", "you have 3 numbers for 4 output"),
        (lambda weight: weight.sum(axis=(1, 2, 3)), "importance_signed", "cancel out"),
        (lambda weight: np.sqrt((weight ** 2).sum(axis=(1, 2, 3))), "importance_l2", "L2 norm"),
        (lambda weight: np.abs(weight).mean(axis=(1, 2, 3)), "importance_mean", "their sum")],
    "1.6": [
        (dense_as_it_was, "remove_dense_untouched", "the columns that read the removed ones must go"),
        (one_column, "remove_one_column", "as many columns as it has pixels"),
        (interleaved, "remove_interleaved", "channel after channel"),
        (set_to_zero, "remove_only_zero", "setting channels to zero removes nothing"),
        (bias_forgotten, "remove_bias", "3 channels are left")],
    "2.1": [
        (lambda weight, bits: np.abs(weight).max() / (2 ** bits - 1), "scale_unsigned", "511 levels, one bit too many"),
        (lambda weight, bits: weight.max() / (2 ** (bits - 1) - 1), "scale_no_abs", "not the largest magnitude"),
        (lambda weight, bits: np.abs(weight).max() / 2 ** (bits - 1), "scale_128", "the largest of 8 bits is 127"),
        (lambda weight, bits: np.abs(weight).max() / (2 ** (bits - 1) - 1), "scale_zero", "return 1"),
        (lambda weight, bits: np.abs(weight).max(keepdims=True) / 127, "one_number", "one number was expected"),
        (nothing_for_zeros, "scale_zero_nothing", "for weights that are all zero your function returns nothing")],
    "2.2": [
        (lambda w, scale, bits: (w / scale).astype(np.int8), "codes_cut", "astype cuts off the fraction"),
        (lambda w, scale, bits: np.rint(w / scale).astype(np.int64).astype(np.int8), "codes_wrap", "wraps around"),
        (lambda w, scale, bits: np.clip(np.rint(w / scale), -128, 127).astype(np.int8), "codes_128", "no +128"),
        (lambda w, scale, bits: np.clip(np.rint(w / scale), -127, 127).astype(np.int8), "codes_bits", "[9, -9]"),
        (half_added, "codes_other", "-0.26 with scale 0.1 has the code -3, and you have -2"),
        (by_rint, "codes_type", "float64; int8 was asked for")],
    "2.3": [
        (lambda weight, bits: np.abs(weight).max() / 127, "channels_one", "one scale for the whole layer"),
        (lambda weight, bits: np.abs(weight).max(axis=(0, 2, 3)) / 127, "channels_inputs", "4 scales for 3 output"),
        (lambda weight, bits: weight.max(axis=(1, 2, 3)) / 127, "channels_no_abs", "not its largest magnitude"),
        (lambda weight, bits: np.abs(weight).max(axis=(1, 2, 3)) / 127, "channels_bits", "with 3 bits channel 0"),
        (lambda weight, bits: np.abs(weight).max(axis=(1, 2, 3)) / (2 ** (bits - 1) - 1), "channels_zero", "as in 2.1"),
        (lambda weight, bits: -weight.min(axis=(1, 2, 3)) / 127, "channels_other", "has the scale")],
    "2.5": [
        (lambda values, bits: np.abs(values).max(), "mse_largest", "Three of 10,003 values are far out"),
        (error_without_clipping, "mse_no_clip", "Clip the codes before you compute it"),
        (error_instead_of_threshold, "mse_range", "the number of the step, or the error?"),
        (lambda values, bits: best_of_a_hundred(values, bits)[1], "mse_error", "return the threshold that has it"),
        (lambda values, bits: best_of_a_hundred(values, bits)[0] / 7, "mse_scale", "q_max times that"),
        (lambda values, bits: best_of_a_hundred(values, bits, 7)[0], "mse_bits", "with 8 bits your threshold"),
        (largest_value, "mse_signed", "instead of the largest magnitude"),
        (lambda values, bits: np.percentile(np.abs(values), 90), "mse_other", "times the least error")],
    "2.6": [
        (lambda x, weight: summed(x, weight, turned=True), "convolution_turned", "turned by 180 degrees"),
        (lambda x, weight: summed(x, weight, type_=np.int16), "convolution_wraps", "too few for sums"),
        (lambda x, weight: summed(x, weight).astype(np.float32), "convolution_float", "Return int32"),
        (in_their_own_types, "convolution_wraps", "into int32 before you multiply"),
        (codes_as_int8, "convolution_signed", "turn uint8 into int32 at once"),
        (rows_and_columns_turned, "convolution_other", "sums["),
        (lambda x, weight: np.broadcast_to(summed(x, weight)[:1], (2, 4, 4, 4)), "convolution_one_image", "first one")],
    "2.7": [
        (without_relu, "requantized_no_relu", "negative sums become large codes"),
        (not_clipped, "requantized_wraps", "clip before astype"),
        (scale_of_the_weight_forgotten, "requantized_no_weight", "scale_x * scale_w"),
        (cut_at_127, "requantized_127", "go up to 255"),
        (cut, "requantized_cut", "round first")],
    "2.9": [
        (only_rounded, "fake_no_gradient", "the gradient is zero everywhere"),
        (straight_through_everywhere, "fake_beyond", "at 1.7, beyond the threshold 1, the gradient is 1"),
        (of_three_bits, "fake_arguments", "with threshold 1.75 and 4 bits"),
        (cut_to_steps, "fake_values", "0.2 with threshold 1 and 3 bits is 0.333, and you have 0.000"),
        (never_clipped, "fake_no_clip", "1.7 is beyond the threshold 1 and becomes 1.667"),
        (in_numpy, "fake_no_ndarray", "stay with NDArrays")],
    "3.1": [
        (lambda z, temperature: softmax(z * temperature), "softened_multiplied", "it divides the logits"),
        (lambda z, temperature: softmax(z) / temperature, "softened_probabilities", "no longer add up to 1"),
        (lambda z, temperature: np.exp(z / temperature) / np.exp(z / temperature).sum(axis=0), "softened_axis",
         "Sum over axis 1"),
        (lambda z, temperature: softmax(z), "softened_not", "the temperature is not used"),
        (exponentials_overflow, "softened_overflow", "subtract the largest logit"),
        (one_largest_and_sum, "softened_rows", "those of each row")],
    "3.2": [
        (no_square, "loss_no_square", "T**2 is missing"), (turned_round, "loss_turned", "KL(teacher || student)"),
        (mean_of_classes, "loss_over_classes", "the divergence is the sum"),
        (shares_turned, "loss_shares", "turned round"),
        (mean_of_batch, "loss_mean", "one loss for each of the 6 images")],
    "3.3": [
        (lambda s, t, temperature: (softmax(t / temperature) - softmax(s / temperature)) / temperature,
         "gradient_sign", "student - teacher"),
        (lambda s, t, temperature: softmax(s / temperature) - softmax(t / temperature), "gradient_no_chain",
         "T is 5 here"),
        (lambda s, t, temperature: (softmax(s / temperature) - softmax(t / temperature)) * temperature,
         "gradient_with_square", "the divergence alone")],
    "3.5": [
        (teacher_recorded, "epoch_teacher_trains", "call it outside of autograd.record()"),
        (epoch_with_step_one, "epoch_batch_size", "8 times too large"),
        (only_backward, "epoch_no_step", "trainer.step for each batch?"),
        (only_the_first_batch, "epoch_other", "after 3 batches")],
    "3.7": [
        (lambda weights, kept, bits: kept * bits / 8, "bytes_no_mask", "one bit for every weight"),
        (lambda weights, kept, bits: (weights * (kept < weights) + kept * bits), "bytes_bits",
         "eight of them are a byte"),
        (lambda weights, kept, bits: (weights + kept * bits) / 8, "bytes_needless_mask", "then no mask is stored"),
        (lambda weights, kept, bits: weights * (kept < weights) + kept * bits / 8, "bytes_mask_bytes", "not one byte")],
    "1.10": [
        (articles_pruning, "repair_frozen", "net_conv0_weight no longer trains: grad_req is 'null' for the whole"),
        (unfrozen, "repair_touched", "a running variance of zero divides by zero"),
        (convolutions_by_name, "repair_name", "dense_features_conv0_weight is the weight of a convolution"),
        (convolutions_by_shape, "repair_no_masks", "it is a NoneType")],
    "1.11": [
        (lambda x: x.reshape((-1, 320)), "repair_rows", "with 4x4 pixels become an array of shape (32, 320)"),
        (lambda x: x.reshape((320, -1)), "repair_rows", "become an array of shape (320, 64)"),
        (lambda x: x.transpose((0, 2, 3, 1)).reshape((len(x), -1)), "repair_order", "one channel after the other")],
    "2.11": [
        (articles_quantization, "repair_nan", "zero divided by zero"),
        (zeros_left_out, "repair_scale", "was 2.5, and is 1.0 now: the scale is lost"),
        (nine_bits, "repair_levels", "255 steps on each side of zero, 511 values in all"),
        (biases_too, "repair_rest", "Biases and what belongs to a BatchNorm"),
        (lambda model, num_bits: None, "repair_unrounded", "was not rounded")],
    "3.10": [
        (articles_distillation, "repair_outside", "not only the loss"),
        (distils(lambda t: 1), "repair_square", "the factor T**2 is missing"),
        (distils(lambda t: t ** 2 / 5), "repair_mean", "you take the mean over the classes"),
        (distils(lambda t: t ** 2, temperature_of=lambda t: 1), "repair_temperature", "softens nothing"),
        (distils(lambda t: t ** 2, from_logits=False), "repair_logarithms", "log_softmax"),
        (distils(lambda t: t ** 2, swapped=True), "repair_swapped", "KL(student || teacher)"),
        (distils(lambda t: t ** 2, record_teacher=True), "repair_teacher", "the teacher has gradients"),
        (distils(lambda t: t ** 2, backward=False), "repair_backward", "backward is missing")],
}
