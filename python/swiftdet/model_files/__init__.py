"""Reading of model files without executing anything in them: ONNX and OpenVINO IR.

`onnx_file` and `openvino_ir` turn a path into a `ModelFile`; `nms_cut` finds the tensors before a suppression that an
export put into the graph. What the tensors mean is decided in `swiftdet.recognition`.
"""
