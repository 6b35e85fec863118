// Pre-processing: resize, letterbox, and the description of it that a detector takes.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <string>
#include <tuple>
#include <utility>

#include "convert.hpp"
#include "gil.hpp"
#include "ops/image_checks.hpp"
#include "register.hpp"
#include "swiftdet/ops/letterbox.hpp"
#include "swiftdet/ops/resize.hpp"

namespace swiftdet::python {
namespace {

using ops::Interpolation;
using ops::Preprocess;
using ops::ResizeMode;
using namespace py::literals;

template <typename Enum>
using Choice = std::pair<const char*, Enum>;

constexpr std::array<Choice<ResizeMode>, 3> kModes{{
    {"letterbox", ResizeMode::kLetterbox},
    {"letterbox-topleft", ResizeMode::kLetterboxTopLeft},
    {"stretch", ResizeMode::kStretch},
}};
constexpr std::array<Choice<Interpolation>, 2> kInterpolations{{
    {"linear", Interpolation::kLinear},
    {"area", Interpolation::kArea},
}};
constexpr std::array<Choice<ChannelOrder>, 2> kChannelOrders{{
    {"bgr", ChannelOrder::kBgr},
    {"rgb", ChannelOrder::kRgb},
}};

template <typename Enum, std::size_t kCount>
Enum parse(const std::array<Choice<Enum>, kCount>& choices, const std::string& name, const char* what) {
  std::string known;
  for (const auto& [choice, value] : choices) {
    if (name == choice) return value;
    known += (known.empty() ? "'" : ", '") + std::string(choice) + "'";
  }
  throw InvalidArgument(std::string(what) + ": expected one of " + known + ", got '" + name + "'");
}

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
  const ImageView source = as_image(image);
  const Interpolation method = parse(kInterpolations, interpolation, "interpolation");
  const Size target_size = as_size(size);
  ops::check_side_lengths(target_size, "resize", "size");
  std::vector<py::ssize_t> shape{target_size.height, target_size.width};
  if (image.ndim() == 3) shape.push_back(source.channels);
  py::array_t<std::uint8_t> result(shape);
  const MutableImageView target{result.mutable_data(), target_size, source.channels,
                                static_cast<std::ptrdiff_t>(target_size.width) * source.channels};
  {
    const GilReleased nogil;
    ops::resize(source, target, method);
  }
  return result;
}

/// A writable C-contiguous T array [3, height, width]: `out` where given, else a new one.
template <typename T>
py::array_t<T> letterbox_target(const py::object& out, Size size) {
  if (out.is_none()) return py::array_t<T>(std::vector<py::ssize_t>{3, size.height, size.width});
  const std::string expected = "out: expected a writable C-contiguous " +
                               py::str(py::dtype::of<T>()).cast<std::string>() + " array [3, " +
                               std::to_string(size.height) + ", " + std::to_string(size.width) + "]";
  if (!py::isinstance<py::array>(out))
    throw InvalidType(expected + ", got " + py::str(py::type::of(out)).cast<std::string>());
  const auto array = py::reinterpret_borrow<py::array>(out);
  if (!is_plain<T>(array)) {
    throw InvalidType(expected + ", got " + describe(array) + " of another dtype or layout, or unaligned");
  }
  if (array.ndim() != 3 || array.shape(0) != 3 || array.shape(1) != size.height || array.shape(2) != size.width) {
    throw InvalidArgument(expected + ", got " + describe(array));
  }
  if (!array.writeable()) throw InvalidArgument(expected + ", got a read-only one");
  return py::reinterpret_borrow<py::array_t<T>>(out);
}

template <typename T>
std::pair<py::array, ops::LetterboxMeta> letterbox_into(const ImageView& source, Size size,
                                                        const Preprocess& preprocess, ChannelOrder order,
                                                        const py::object& out) {
  py::array_t<T> tensor = letterbox_target<T>(out, size);
  T* const values = tensor.mutable_data();
  ops::LetterboxMeta meta;
  {
    const GilReleased nogil;
    // The tables and row buffers of the last sizes, for the next call of this thread.
    thread_local ops::Letterbox letterbox;
    meta = letterbox.run(source, order, preprocess, size, values);
  }
  return {std::move(tensor), meta};
}

py::tuple letterbox(const py::array& image, const std::pair<int, int>& size, const Preprocess& preprocess,
                    const std::string& color, const std::string& dtype, const py::object& out) {
  const ImageView source = as_image(image);
  const ChannelOrder order = parse(kChannelOrders, color, "color");
  const Size target = as_size(size);
  ops::check_side_lengths(target, "letterbox", "size");
  if (dtype != "float32" && dtype != "uint8") {
    throw InvalidArgument("dtype: expected 'float32' or 'uint8', got '" + dtype + "'");
  }
  const auto [tensor, meta] = dtype == "uint8" ? letterbox_into<std::uint8_t>(source, target, preprocess, order, out)
                                               : letterbox_into<float>(source, target, preprocess, order, out);
  return py::make_tuple(tensor, py::make_tuple(meta.scale_x, meta.scale_y, meta.pad_left, meta.pad_top));
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
