"""NVIDIA's ONNX parser of TensorRT 8 with a SIMULATION of the network that it fills; see check_trt_parser.py."""
