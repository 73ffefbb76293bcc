"""How the features of a student differ from a teacher's: four measures from four papers.

Each is a function of ``F`` (``mx.nd`` or ``mx.sym``), the student's and the teacher's features, whose first axis is
the batch, and gives one loss per sample ``(batch,)``. The mean over the batch is the paper's loss, divided where the
docstring says so: weights then need not follow the size of a layer.

Sums over features are matrix products with ones: MXNet's own, along one axis, take up to a hundred times as long.
"""
from __future__ import annotations

from typing import Any

SMALL = 1e-12  # added to squared norms, and what means of distances are at least: 0 / 0 stays 0
ROUNDING = 1e-6  # of the squared norms: squared distances below are what float32 leaves of zero


def hint(F: Any, student: Any, teacher: Any) -> Any:
    """Romero et al., "FitNets: Hints for Thin Deep Nets", 2015, equation 3, over the number of elements.

    ``student`` is what the adapter (the paper's regressor ``r``) made of the student's features. Both are of one
    shape.
    """
    # 1/2 ||u_h(x) - r(v_g(x))||**2
    squares = F.flatten(F.square(student - teacher))
    one_per_element = _ones_like_first(F, squares, axis=0)                                    # (1, elements)
    number = F.dot(one_per_element, one_per_element, transpose_b=True)
    return 0.5 * F.reshape(F.broadcast_div(F.dot(squares, one_per_element, transpose_b=True), number), (-1,))  # (B,)


def attention(F: Any, student: Any, teacher: Any) -> Any:
    """Zagoruyko & Komodakis, "Paying More Attention to Attention", 2017, equation 2 with p = 2.

    As in the authors' code, the norm of the difference is squared and divided by the number of positions; their
    weight is 1000. Features are ``(batch, channels, height, width)`` of any numbers of channels.
    """
    # Q / ||Q||, Q = vec(sum over the channels of A**2)
    maps = [_sum_over_channels(F, F.square(features)) for features in (student, teacher)]     # (B, H * W)
    of_student, of_teacher = (F.L2Normalization(each, mode="instance", eps=SMALL) for each in maps)
    return F.mean(F.square(of_student - of_teacher), axis=1)                                  # (B,)


def similarity(F: Any, student: Any, teacher: Any) -> Any:
    """Tung & Mori, "Similarity-Preserving Knowledge Distillation", 2019, equation 4; features of any shape.

    It compares the samples of a batch with each other: its value depends on who is in the batch.
    """
    of_student, of_teacher = (_similarities(F, features) for features in (student, teacher))
    # 1/b**2 ||G_T - G_S||_F**2, of which each row's share is 1/b
    return F.mean(F.square(of_teacher - of_student), axis=1)                                  # (B,)


def relational(F: Any, student: Any, teacher: Any) -> Any:
    """Park et al., "Relational Knowledge Distillation", 2019, section 3.2: RKD-D over the number of pairs.

    As in the authors' code these are all b**2 pairs of the batch, and the mean distance is that of samples which
    differ. It compares the samples of a batch with each other; one alone has no loss. Features of any shape.
    """
    of_student, of_teacher = (_distances(F, features) for features in (student, teacher))
    # Huber loss with delta 1: x**2 / 2 up to |x| = 1, then |x| - 1/2
    return F.mean(F.smooth_l1(of_student - of_teacher, scalar=1), axis=1)                     # (B,)


def _ones_like_first(F: Any, array: Any, axis: int) -> Any:
    """Ones in the shape of the first slice along this axis, which stays, as 1."""
    return F.ones_like(F.slice_axis(array, axis=axis, begin=0, end=1))


def _sum_over_channels(F: Any, features: Any) -> Any:
    """(B, C, H, W) -> (B, H * W)"""
    positions = F.reshape(features, (0, 0, -1))                                               # (B, C, H * W)
    one_per_channel = _ones_like_first(F, positions, axis=2)                                  # (B, C, 1)
    return F.flatten(F.batch_dot(one_per_channel, positions, transpose_a=True))


def _similarities(F: Any, features: Any) -> Any:
    """G: Q Q^T with rows of norm 1; (B, B)."""
    rows = F.flatten(features)
    return F.L2Normalization(F.dot(rows, rows, transpose_b=True), mode="instance", eps=SMALL)


def _distances(F: Any, features: Any) -> Any:
    """||t_i - t_j|| over the mean of these distances; (B, B)."""
    rows = F.flatten(features)
    one_per_sample = _ones_like_first(F, rows, axis=1)                                        # (B, 1)
    number = F.dot(one_per_sample, one_per_sample, transpose_a=True)
    mean_row = F.broadcast_div(F.dot(one_per_sample, rows, transpose_a=True), number)         # (1, elements)
    rows = F.broadcast_sub(rows, mean_row)                             # the same distances, less to round off
    products = F.dot(rows, rows, transpose_b=True)
    squares = F.expand_dims(F.diag(products), axis=1)                                         # (B, 1)
    norms = F.broadcast_add(squares, F.transpose(squares))                                    # (B, B)
    squared = norms - 2 * products                              # ||a - b||**2 = ||a||**2 + ||b||**2 - 2 ab
    differ = F.BlockGrad(squared > ROUNDING * norms)            # not on the diagonal
    distances = F.sqrt(F.where(differ, squared, F.ones_like(squared))) * differ  # sqrt has no gradient at 0
    mean = F.sum(distances) / F.maximum(F.sum(differ), 1)
    return F.broadcast_div(distances, F.maximum(mean, SMALL))


KINDS = {"hint": hint, "attention": attention, "similarity": similarity, "relational": relational}
