"""Low-latency, thread-safe object detection.

    import swiftdet

    det = swiftdet.Detector("yolov8s.onnx")
    for box, score, cls in zip(*(lambda r: (r.xyxy, r.conf, r.cls))(det("street.jpg"))):
        ...
"""
