"""What a served model is, for those who do not have its network."""

import pickle

from model.interface import categories
from model.interface.metadata import Metadata
from model.interface.served import ServedModel

METADATA = Metadata("demo", "camvid_demo", categories.load("camvid"), {}, {"short_side": 360, "long_side": 640})
SERVED = ServedModel("demo@00000000", METADATA, "cpu", "float32", "gather")


def test_the_padded_size_is_that_of_its_test_scale() -> None:
    assert SERVED.padded_size(720, 960) == (384, 480)  # 360 x 480, padded to multiples of 32
    assert SERVED.padded_size(100, 1000) == (64, 640)  # the long side is the limit


def test_it_crosses_a_pipe() -> None:
    assert pickle.loads(pickle.dumps(SERVED)) == SERVED
