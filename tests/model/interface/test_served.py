"""What a served model is, for those who do not have its network."""

import pickle
from dataclasses import replace

from model.interface import categories
from model.interface.metadata import Metadata
from model.interface.served import ServedModel

METADATA = Metadata("demo", "camvid_demo", categories.load("camvid"), {}, {"short_side": 360, "long_side": 640})
SERVED = ServedModel("demo@00000000", METADATA, "cpu", "float32", "gather")


def test_it_crosses_a_pipe() -> None:
    fallen = replace(SERVED, fallbacks={"nms": "it raised ValueError: no"})
    assert SERVED.fallbacks == {}
    assert pickle.loads(pickle.dumps(fallen)) == fallen != SERVED
