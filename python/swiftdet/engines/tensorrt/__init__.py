"""TensorRT engines: built from models, kept on disk, verified before they are loaded, run by the CUDA part."""
