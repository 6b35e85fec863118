// What resize and letterbox of every device take from a Python call and give back to it.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "convert.hpp"
#include "gil.hpp"
#include "ops/image_checks.hpp"
#include "swiftdet/base/error.hpp"
#include "swiftdet/base/image_view.hpp"
#include "swiftdet/ops/letterbox.hpp"
#include "swiftdet/ops/resize.hpp"

namespace swiftdet::python {

template <typename Enum>
using Choice = std::pair<const char*, Enum>;

inline constexpr std::array<Choice<ops::ResizeMode>, 3> kModes{{
    {"letterbox", ops::ResizeMode::kLetterbox},
    {"letterbox-topleft", ops::ResizeMode::kLetterboxTopLeft},
    {"stretch", ops::ResizeMode::kStretch},
}};
inline constexpr std::array<Choice<ops::Interpolation>, 2> kInterpolations{{
    {"linear", ops::Interpolation::kLinear},
    {"area", ops::Interpolation::kArea},
}};
inline constexpr std::array<Choice<ChannelOrder>, 2> kChannelOrders{{
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

/// `run(source, target, interpolation)` is called without the GIL.
template <typename Run>
py::array resize_array(const py::array& image, const std::pair<int, int>& size, const std::string& interpolation,
                       const Run& run) {
  const ImageView source = as_image(image);
  const ops::Interpolation method = parse(kInterpolations, interpolation, "interpolation");
  const Size target_size = as_size(size);
  ops::check_side_lengths(target_size, "resize", "size");
  std::vector<py::ssize_t> shape{target_size.height, target_size.width};
  if (image.ndim() == 3) shape.push_back(source.channels);
  py::array_t<std::uint8_t> result(shape);
  const MutableImageView target{result.mutable_data(), target_size, source.channels,
                                static_cast<std::ptrdiff_t>(target_size.width) * source.channels};
  {
    const GilReleased nogil;
    run(source, target, method);
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

template <typename T, typename Run>
std::pair<py::array, ops::LetterboxMeta> letterbox_into(const ImageView& source, Size size, ChannelOrder order,
                                                        const py::object& out, const Run& run) {
  py::array_t<T> tensor = letterbox_target<T>(out, size);
  T* const values = tensor.mutable_data();
  ops::LetterboxMeta meta;
  {
    const GilReleased nogil;
    meta = run(source, order, size, values);
  }
  return {std::move(tensor), meta};
}

/// `run(source, order, size, values)` fills the tensor, float or uint8, and gives the meta; without the GIL.
template <typename Run>
py::tuple letterbox_array(const py::array& image, const std::pair<int, int>& size, const std::string& color,
                          const std::string& dtype, const py::object& out, const Run& run) {
  const ImageView source = as_image(image);
  const ChannelOrder order = parse(kChannelOrders, color, "color");
  const Size target = as_size(size);
  ops::check_side_lengths(target, "letterbox", "size");
  if (dtype != "float32" && dtype != "uint8") {
    throw InvalidArgument("dtype: expected 'float32' or 'uint8', got '" + dtype + "'");
  }
  const auto [tensor, meta] = dtype == "uint8" ? letterbox_into<std::uint8_t>(source, target, order, out, run)
                                               : letterbox_into<float>(source, target, order, out, run);
  return py::make_tuple(tensor, py::make_tuple(meta.scale_x, meta.scale_y, meta.pad_left, meta.pad_top));
}

}  // namespace swiftdet::python
