"""The RWKV-7 model, its kernels and formats, the online learner and pretraining."""
