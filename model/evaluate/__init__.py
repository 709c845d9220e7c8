"""How good an archive is on annotated photos: `python -m model.evaluate`."""
