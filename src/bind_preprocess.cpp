// Pre-processing: resize, letterbox, and the description of it that a detector takes.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <string>
#include <utility>

#include "preprocess_call.hpp"
#include "register.hpp"
#include "swiftdet/ops/letterbox.hpp"
#include "swiftdet/ops/resize.hpp"

namespace swiftdet::python {
namespace {

using ops::Preprocess;
using ops::ResizeMode;
using namespace py::literals;

template <typename Enum, std::size_t kCount>
const char* name_of(const std::array<Choice<Enum>, kCount>& choices, Enum value) {
  for (const auto& [choice, candidate] : choices) {
    if (candidate == value) return choice;
  }
  return "";
}

Preprocess make_preprocess(const std::string& mode, const std::string& interpolation, int pad_value, float divisor,
                           const std::array<float, 3>& mean, const std::array<float, 3>& std) {
  if (pad_value < 0 || pad_value > 255) {
    throw InvalidArgument("pad_value: expected 0 to 255, got " + std::to_string(pad_value));
  }
  return {.mode = parse(kModes, mode, "mode"),
          .interpolation = parse(kInterpolations, interpolation, "interpolation"),
          .pad_value = static_cast<std::uint8_t>(pad_value),
          .divisor = divisor,
          .mean = mean,
          .std = std};
}

py::array resize(const py::array& image, const std::pair<int, int>& size, const std::string& interpolation) {
  return resize_array(image, size, interpolation, ops::resize);
}

py::tuple letterbox(const py::array& image, const std::pair<int, int>& size, const Preprocess& preprocess,
                    const std::string& color, const std::string& dtype, const py::object& out) {
  const auto run = [&](const ImageView& source, ChannelOrder order, Size target, auto* tensor) {
    // The tables and row buffers of the last sizes, for the next call of this thread.
    thread_local ops::Letterbox letterbox;
    return letterbox.run(source, order, preprocess, target, tensor);
  };
  return letterbox_array(image, size, color, dtype, out, run);
}

}  // namespace

void register_preprocess(py::module_& m) {
  const Preprocess defaults;
  py::class_<Preprocess>(m, "Preprocess", "From source pixels to the network's input: spec.Preprocess for the core.")
      .def(py::init(&make_preprocess), py::kw_only(), "mode"_a = "letterbox", "interpolation"_a = "linear",
           "pad_value"_a = int{defaults.pad_value}, "divisor"_a = defaults.divisor, "mean"_a = defaults.mean,
           "std"_a = defaults.std)
      .def_property_readonly("mode", [](const Preprocess& p) { return name_of(kModes, p.mode); })
      .def_property_readonly("interpolation",
                             [](const Preprocess& p) { return name_of(kInterpolations, p.interpolation); })
      .def_readonly("pad_value", &Preprocess::pad_value)
      .def_readonly("divisor", &Preprocess::divisor)
      .def_readonly("mean", &Preprocess::mean)
      .def_readonly("std", &Preprocess::std);

  m.def("resize", &resize, "Resizes a uint8 image as cv2.resize does. `size` is (height, width). Releases the GIL.",
        "image"_a, "size"_a, py::kw_only(), "interpolation"_a = "linear");

  m.def(
      "letterbox", &letterbox,
      "The network's input [3, height, width], RGB, from a uint8 image, and (scale_x, scale_y, pad_left, pad_top).\n\n"
      "dtype 'float32': scaled; 'uint8': before scaling. Fills and returns `out` if given. Releases the GIL.",
      "image"_a, "size"_a, "preprocess"_a, py::kw_only(), "color"_a = "bgr", "dtype"_a = "float32",
      "out"_a = py::none());
}

}  // namespace swiftdet::python
