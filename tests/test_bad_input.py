"""Mistakes that people make: each is refused with a sentence that names what is wrong, and nothing is changed."""
import numpy as np
import pytest

from gluon_compress.arguments import check_flag


@pytest.mark.parametrize("value", ["no", "False", None, 0, 1, [], np.array([True])])
def test_a_flag_is_true_or_false(value):
    with pytest.raises(TypeError, match="correct is .*; accepted: True or False"):
        check_flag("correct", value)


@pytest.mark.parametrize("value", [True, False, np.True_, np.bool_(False)])
def test_numpy_flags_are_flags(value):
    check_flag("correct", value)
