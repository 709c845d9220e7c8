"""Training (SPEC 15 of Xiong et al. 2019); never loaded to serve."""
