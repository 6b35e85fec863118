// The operations on a GPU, for arrays of the host: what _core has for the CPU, and the index of a GPU.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "postprocess_call.hpp"
#include "preprocess_call.hpp"
#include "register.hpp"
#include "swiftdet/ops/cuda/one_shot.hpp"

namespace swiftdet::python {
namespace {

using namespace py::literals;

py::array_t<std::int64_t> nms(const py::array& boxes, const py::array& scores, const py::array& classes,
                              float iou_threshold, bool class_agnostic, int max_det, int gpu) {
  return nms_arrays(boxes, scores, classes, [&](const auto&... values) {
    return ops::cuda::nms_once(gpu, values..., {iou_threshold, class_agnostic, max_det});
  });
}

py::tuple letterbox(const py::array& image, const std::pair<int, int>& size, const ops::Preprocess& preprocess,
                    const std::string& color, const std::string& dtype, const py::object& out, int gpu) {
  const auto run = [&](const ImageView& source, ChannelOrder order, Size target, auto* tensor) {
    return ops::cuda::letterbox_once(gpu, source, order, preprocess, target, tensor);
  };
  return letterbox_array(image, size, color, dtype, out, run);
}

py::array resize(const py::array& image, const std::pair<int, int>& size, const std::string& interpolation, int gpu) {
  return resize_array(image, size, interpolation,
                      [&](const auto&... arguments) { ops::cuda::resize_once(gpu, arguments...); });
}

DecodedArrays decode(const std::vector<py::array>& outputs, const ops::HeadSpec& head, float conf, bool multi_label,
                     const std::vector<std::uint8_t>& classes, int max_candidates, int image, int gpu) {
  return decode_arrays(outputs, head, [&](std::span<const TensorView> views, ops::Candidates& candidates) {
    ops::cuda::decode_once(gpu, views, head, image, {conf, multi_label, classes, max_candidates}, candidates);
  });
}

}  // namespace

void register_cuda_ops(py::module_& m) {
  m.def("nms", &nms, "boxes"_a, "scores"_a, "classes"_a, py::kw_only(), "iou_threshold"_a, "class_agnostic"_a,
        "max_det"_a, "gpu"_a, "As swiftdet._core.nms, on the GPU of an index. Releases the GIL; thread-safe.");
  m.def("letterbox", &letterbox, "image"_a, "size"_a, "preprocess"_a, py::kw_only(), "color"_a = "bgr",
        "dtype"_a = "float32", "out"_a = py::none(), "gpu"_a,
        "As swiftdet._core.letterbox, on the GPU of an index. Releases the GIL; thread-safe.");
  m.def("resize", &resize, "image"_a, "size"_a, py::kw_only(), "interpolation"_a = "linear", "gpu"_a,
        "As swiftdet._core.resize, on the GPU of an index. Releases the GIL; thread-safe.");
  m.def("decode", &decode, "outputs"_a, "head"_a, py::kw_only(), "conf"_a, "multi_label"_a, "classes"_a,
        "max_candidates"_a, "image"_a, "gpu"_a,
        "As swiftdet._core.decode, on the GPU of an index. Releases the GIL; thread-safe.");
}

}  // namespace swiftdet::python
