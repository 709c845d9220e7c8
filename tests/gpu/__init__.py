"""What a GPU makes of the project, in one table: `python -m tests.gpu`."""
