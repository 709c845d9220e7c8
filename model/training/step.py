"""One training step: the parts of the network, put together for losses instead of answers."""

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from model.network import boxes as box_ops
from model.network.instance_head import pool
from model.network.rpn import drop_padding, propose
from model.network.structures import Pyramid, RpnOutputs
from model.network.upsnet import UPSNet
from model.training import targets
from model.training.dataset import Sample
from model.training.recipe import Recipe

Losses = dict[str, Tensor]
CROWDED = 0.5  # share of a proposal from which crowds cover it: what it shows is not known


def smooth_l1(difference: Tensor, sigma: float) -> Tensor:
    """Sum of the smooth L1 penalty, which is quadratic below 1 / sigma^2."""
    return F.smooth_l1_loss(difference, torch.zeros_like(difference), reduction="sum", beta=1 / sigma**2)


class TrainingStep(nn.Module):
    """Samples in, weighted losses out.

    Args:
        network: the network to train.
        recipe: gives numbers of samples and weights of losses.
        class_weights: (S,) weights of the semantic classes; None weighs all alike, as published.
    """

    def __init__(self, network: UPSNet, recipe: Recipe, class_weights: Tensor | None = None) -> None:
        super().__init__()
        self.network = network
        self.recipe = recipe
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.stuff = network.panoptic_head.stuff

    def forward(self, samples: list[Sample]) -> Losses:
        """Weighted losses by name, and their sum as `total`.

        The sum is not a number where an activation is not finite, even if no loss sees it: the host need not wait.

        Args:
            samples: one or more, all of one padded size.
        """
        network = self.network
        pixels = torch.stack([sample.pixels for sample in samples]).contiguous(memory_format=torch.channels_last)
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=self.recipe.bfloat16):
            pyramid = network.pyramid(network.backbone(pixels))
            features = network.semantic_head.features(pyramid)
            semantic_logits = network.semantic_head.logits(features).float()
            outputs = network.rpn.head(pyramid)
        outputs = RpnOutputs([x.float() for x in outputs.logits], [x.float() for x in outputs.deltas])
        pyramid = Pyramid(*(level.float() for level in pyramid))
        losses = self.proposal_losses(outputs, pyramid, samples)
        losses |= self.instance_losses(outputs, pyramid, samples)
        losses["semantic"] = self.semantic_loss(semantic_logits, samples)
        if self.recipe.roi_semantic:
            losses["roi_semantic"] = self.roi_semantic_loss(features.float(), samples)
        losses["panoptic"] = self.panoptic_loss(semantic_logits, pyramid, samples)
        weighted = {name: loss * self.recipe.loss_weights.get(name, 1.0) for name, loss in losses.items()}
        total = torch.stack(list(weighted.values())).sum()
        activations = [*pyramid, *outputs.logits, *outputs.deltas, semantic_logits]
        finite = torch.stack([each.detach().isfinite().all() for each in activations]).all()
        return {**weighted, "total": torch.where(finite, total, torch.nan)}

    def proposal_losses(self, outputs: RpnOutputs, pyramid: Pyramid, samples: list[Sample]) -> Losses:
        """Cross entropy, always divided by 256, and smooth L1 (sigma 3) of sampled anchors; the mean over images."""
        anchors = torch.cat(self.network.rpn.level_anchors(pyramid))
        logits = torch.cat([level.permute(0, 2, 3, 1).flatten(1) for level in outputs.logits], dim=1)
        deltas = torch.cat([level.permute(0, 2, 3, 1).reshape(len(samples), -1, 4) for level in outputs.deltas], dim=1)
        classification, regression = logits.new_zeros(()), logits.new_zeros(())
        for i, sample in enumerate(samples):
            boxes = sample.boxes * sample.scale
            labels, nearest = targets.prelabel_anchors(anchors, boxes, sample.size)
            labels = self.sample_anchors(labels)
            wanted = targets.anchor_deltas(anchors, boxes, labels, nearest)
            used, on_object = labels >= 0, labels == 1
            entropy = F.binary_cross_entropy_with_logits(logits[i][used], labels[used].float(), reduction="sum")
            classification = classification + entropy / targets.ANCHORS_SAMPLED
            regression = regression + smooth_l1(deltas[i][on_object] - wanted, 3) / used.sum().clamp(min=1)
        return {"rpn_class": classification / len(samples), "rpn_box": regression / len(samples)}

    def instance_losses(self, outputs: RpnOutputs, pyramid: Pyramid, samples: list[Sample]) -> Losses:
        """Losses of the box head and of the mask head on sampled regions."""
        regions = self.sample_regions(outputs, pyramid, samples)
        box_head = self.network.box_head
        pooled = pool(pyramid, [r.boxes for r in regions], box_head.side, self.network.canonical_side)
        logits, deltas = box_head(pooled)
        labels = torch.cat([r.labels for r in regions])
        on_object = torch.where(labels > 0)[0]
        moves = deltas.unflatten(1, (-1, 4))[on_object, labels[on_object]]
        box_loss = smooth_l1(moves - torch.cat([r.deltas for r in regions]), 1) / max(len(labels), 1)
        class_loss = F.cross_entropy(logits, labels) if len(labels) else logits.sum() * 0  # crowds may cover them all
        objects = [r.boxes[r.labels > 0] for r in regions]
        drawn = self.mask_logits(pyramid, objects, labels[on_object])
        wanted = [
            mask_targets(boxes, sample)
            for boxes, sample in zip(objects, samples, strict=True)
            if len(sample.boxes) and len(boxes)
        ]
        mask_loss = drawn.sum() * 0
        if wanted and len(torch.cat(wanted)) == len(drawn):
            mask_loss = F.binary_cross_entropy_with_logits(drawn, torch.cat(wanted))
        return {"class": class_loss, "box": box_loss, "mask": mask_loss}

    def sample_anchors(self, labels: Tensor) -> Tensor:
        """Labels of the anchors that are used, -1 for the others."""
        return targets.sample_anchors(labels)

    def sample_regions(self, outputs: RpnOutputs, pyramid: Pyramid, samples: list[Sample]) -> list[targets.Regions]:
        """Regions of each image for the box head, drawn from its objects and the network's proposals."""
        recipe = self.recipe
        detached = RpnOutputs([x.detach() for x in outputs.logits], [x.detach() for x in outputs.deltas])
        rpn, limits = self.network.rpn, box_ops.limits([sample.size for sample in samples], pyramid.p2)
        anchors = rpn.level_anchors(pyramid)
        proposals = propose(detached, anchors, limits, recipe.pre_nms, recipe.post_nms, rpn.nms_threshold)
        regions = []
        for sample, found in zip(samples, proposals, strict=True):
            proposed = drop_padding(found).boxes
            proposed = proposed[proposed.isfinite().all(1)]  # `forward` reports the others
            objects, classes = sample.boxes, sample.classes
            if recipe.crowd_proposals:  # quirk Q19
                objects, classes = torch.cat([objects, sample.crowd_boxes]), torch.cat([classes, sample.crowd_classes])
            else:
                proposed = proposed[targets.covered_share(proposed, sample.crowds) < CROWDED]
            candidates = torch.cat([sample.boxes, proposed / sample.scale])
            chosen = targets.choose_regions(targets.match_regions(candidates, objects)[0], recipe.rois)
            regions.append(targets.describe_regions(candidates[chosen], objects, classes, sample.scale))
        return regions

    def draw_objects(self, sample: Sample) -> Tensor:
        """Indices of the objects that get a channel in the panoptic loss: 70 % of them, in random order."""
        count = max(int(len(sample.boxes) * 0.7), 1)
        return targets.draw(torch.arange(len(sample.boxes), device=sample.boxes.device), count)

    def mask_logits(self, pyramid: Pyramid, boxes: list[Tensor], classes: Tensor) -> Tensor:
        """(R, 28, 28) mask logits of each region, of its class."""
        mask_head = self.network.mask_head
        return mask_head.of_class(pool(pyramid, boxes, mask_head.side, self.network.canonical_side), classes)

    def semantic_loss(self, logits: Tensor, samples: list[Sample]) -> Tensor:
        """Cross entropy at full size, mean over labelled pixels."""
        full = F.interpolate(logits, scale_factor=4.0, mode="bilinear", align_corners=False)
        target = torch.stack([sample.semantic for sample in samples])
        loss = F.cross_entropy(full, target, self.class_weights, ignore_index=255)
        return torch.where((target != 255).any(), loss, 0.0)  # the mean over no pixels is not a number

    def roi_semantic_loss(self, features: Tensor, samples: list[Sample]) -> Tensor:
        """Cross entropy of the semantic head on the objects' boxes; the mean counts ignored cells too (quirk Q20)."""
        boxes = [sample.boxes * sample.scale for sample in samples]
        if sum(len(b) for b in boxes) == 0:
            return features.sum() * 0
        pooled = torchvision.ops.roi_align(features, boxes, 28, 0.25, 2, False)
        wanted = []
        for sample, scaled in zip(samples, boxes, strict=True):
            for x1, y1, x2, y2 in scaled.round().int().tolist():
                window = sample.semantic[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)]
                wanted.append(F.interpolate(window[None, None].float(), (28, 28), mode="nearest")[0, 0].long())
        logits = self.network.semantic_head.logits(pooled).float()
        losses = F.cross_entropy(logits, torch.stack(wanted), reduction="none", ignore_index=255)
        return losses.mean()

    def panoptic_loss(self, logits: Tensor, pyramid: Pyramid, samples: list[Sample]) -> Tensor:
        """Cross entropy of the panoptic channels at stride 4; the mean counts ignored pixels too (quirk Q20)."""
        kept = [self.draw_objects(sample) for sample in samples]
        boxes = [s.boxes[k] * s.scale for s, k in zip(samples, kept, strict=True)]
        classes = [s.classes[k] for s, k in zip(samples, kept, strict=True)]
        drawn = self.mask_logits(pyramid, boxes, torch.cat(classes)).split([len(b) for b in boxes])
        total = logits.new_zeros(())
        for i, sample in enumerate(samples):
            channels = targets.panoptic_logits(logits[i], boxes[i], classes[i], drawn[i], self.stuff)
            target = targets.panoptic_target(sample.semantic, sample.masks, kept[i], sample.size, self.stuff)
            losses = F.cross_entropy(channels[None], target[None], reduction="none", ignore_index=targets.IGNORE)
            total = total + losses.mean()
        return total / len(samples)


def mask_targets(regions: Tensor, sample: Sample) -> Tensor:
    """(F, 28, 28) masks that the mask head should draw, from polygons where the data set has them."""
    if sample.polygons:
        return targets.rasterise(regions, sample.polygons, sample.scale)
    return targets.mask_targets(regions, sample.boxes * sample.scale, sample.masks)
