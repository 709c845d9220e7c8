"""Triton kernels, imported when first called on a device; `model.ops` says what stands in where Triton is missing."""
