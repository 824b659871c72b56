"""How a detector is run: by torch, by a trace of it, by CUDA graphs or by onnxruntime."""
