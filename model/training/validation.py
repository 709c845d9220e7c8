"""Scores and pictures of a network while it trains."""

from collections.abc import Sequence

import torch

from model.datasets.records import Annotations, picture_names, read_photo
from model.evaluate.scores import evaluate
from model.interface.categories import Labels
from model.interface.overlay import draw_overlay
from model.interface.panoptic import Pixels
from model.network.upsnet import UPSNet
from model.predictor import Analysis, to_analysis, to_tensor
from model.training.history import History

PICTURES = 3


class EagerAnalyzer:
    """A network in training that can be evaluated like a predictor.

    Args:
        network: the network, in eval mode as its builder leaves it.
        categories: the classes that it tells apart.
    """

    def __init__(self, network: UPSNet, categories: Labels) -> None:
        self.network = network
        self.categories = categories

    def analyze(self, images: Sequence[Pixels]) -> list[Analysis]:
        """Everything found in each image."""
        device = self.network.transform.mean.device
        with torch.inference_mode():
            found = self.network.analyze([to_tensor(image, device) for image in images])
        return [to_analysis(one, self.categories) for one in found]


class Validation:
    """Scores a network on photos that it is not trained on.

    Args:
        annotations: the photos to score on, annotated, under the labels that the network is trained on.
    """

    def __init__(self, annotations: Annotations) -> None:
        self.annotations = annotations

    def __call__(self, network: UPSNet, history: History, step: int) -> None:
        """Write PQ, mIoU and overlays of the first photos to the history, as those after `step` steps."""
        analyzer = EagerAnalyzer(network, self.annotations.categories)
        result = evaluate(analyzer, self.annotations, with_ap=False, progress=False).result()
        scores = {"pq": result["all"]["pq"], "pq_stuff": result["stuff"]["pq"], "pq_things": result["things"]["pq"]}
        scores["miou"] = result["miou"]
        history.add_scores(step, scores)
        print(f"\nstep {step}: " + ", ".join(f"{name} {score:.1f}" for name, score in scores.items()))  # noqa: T201
        names = picture_names(self.annotations.images)
        for record in self.annotations.images[:PICTURES]:
            photo = read_photo(record)
            picture = draw_overlay(photo, analyzer.analyze([photo])[0].panoptic, self.annotations.categories.colors)
            history.add_picture(step, names[record.id], picture)
