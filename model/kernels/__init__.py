"""The forms of the operators of `model.ops`: for a CPU, and in Triton, imported when first called on a GPU."""
