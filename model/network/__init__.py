"""The network of Xiong et al. 2019 (UPSNet), inference only; every part scripts.

Where a comment names a quirk by its number, docs/network.md says what it is and why it is kept or not.
"""
