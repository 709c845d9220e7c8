"""Photos to a COCO-panoptic folder: `python -m model.predict`."""
