"""UPSNet: definition, training, evaluation, and the archive that the service reads."""
