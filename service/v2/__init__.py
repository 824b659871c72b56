"""The Open Inference Protocol, version 2 over REST: its tensors, and what they mean to a model.

https://github.com/kserve/open-inference-protocol, with Triton's binary tensors and model repository.
"""
