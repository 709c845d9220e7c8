"""The fast forms of the operators: for a CPU, and in Triton for a GPU. `model.ops` chooses among them."""
