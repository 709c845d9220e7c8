"""The schemas that /docs shows fit what is answered."""

import dataclasses
import json

import numpy as np

from model.interface.panoptic import Panoptic, Segment
from service.errors import QueueFullError
from service.http import problems
from service.http.forms import Json
from service.http.responses import build
from service.http.schemas import PanopticResponse, Problem, SegmentInfo

CAR = Segment(1, 26, "car", True, 0.9, area=2, bbox=(0, 0, 2, 1))


def test_a_segment_has_the_fields_of_the_models_and_iscrowd() -> None:
    assert list(SegmentInfo.model_fields) == [*(field.name for field in dataclasses.fields(Segment)), "iscrowd"]


def test_an_answer_has_the_fields_of_its_schema_and_no_other() -> None:
    body = build(Json(), Panoptic(np.array([[1, 1]], np.uint8), (CAR,)), "halves@0", "abc")
    assert set(json.loads(body)) == set(PanopticResponse.model_fields)
    assert PanopticResponse.model_validate_json(body).segments_info[0].bbox == (0, 0, 2, 1)


def test_an_answer_without_a_picture_beside_it_fits_too() -> None:
    facts = {"image": {"width": 1, "height": 1}, "segments_info": [], "void_area": 1, "model": "m", "request_id": "r"}
    assert PanopticResponse.model_validate(facts).png is None


def test_a_problem_has_the_members_of_rfc_9457() -> None:
    described = problems.describe(QueueFullError(3), "abc").model_dump()
    assert {"type", "title", "status", "detail"} < set(described) == set(Problem.model_fields)
