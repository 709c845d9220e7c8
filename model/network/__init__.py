"""The network of Xiong et al. 2019 (UPSNet), inference only; every part scripts."""
