// NumPy arrays <-> views of the core. Everything here needs the GIL.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "swiftdet/base/error.hpp"
#include "swiftdet/base/image_view.hpp"
#include "swiftdet/base/size.hpp"
#include "swiftdet/base/tensor_view.hpp"

namespace swiftdet::python {

namespace py = pybind11;

/// Text that may quote bytes of a file, such as the names inside a model: what is not UTF-8 is replaced.
inline py::str as_text(std::string_view text) {
  PyObject* const decoded = PyUnicode_DecodeUTF8(text.data(), static_cast<py::ssize_t>(text.size()), "replace");
  if (decoded == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::str>(decoded);
}

/// "float64 [480, 640]": what came, for messages.
inline std::string describe(const py::array& array) {
  std::string text = py::str(array.dtype()).cast<std::string>() + " [";
  for (py::ssize_t axis = 0; axis < array.ndim(); ++axis) {
    if (axis != 0) text += ", ";
    text += std::to_string(array.shape(axis));
  }
  return text + "]";
}

/// A view of a uint8 image [H, W], [H, W, 1], [H, W, 3] or [H, W, 4] with any strides. Borrows from `array`.
inline ImageView as_image(const py::array& array) {
  if (!py::isinstance<py::array_t<std::uint8_t>>(array)) {
    throw InvalidType("image: expected a uint8 array [H, W, 3], got " + describe(array) +
                      "; scale it to 0..255 and convert with .astype('uint8')");
  }
  const bool grey = array.ndim() == 2;
  if (!grey && array.ndim() != 3) {
    throw InvalidArgument("image: expected [H, W], [H, W, 3] or [H, W, 4], got " + describe(array));
  }
  ImageView view;
  view.channels = grey ? 1 : static_cast<int>(array.shape(2));
  if (view.channels != 1 && view.channels != 3 && view.channels != 4) {
    throw InvalidArgument("image: expected 1, 3 or 4 channels in the last axis, got " + describe(array) +
                          "; a [3, H, W] array needs .transpose(1, 2, 0)");
  }
  if (array.shape(0) < 1 || array.shape(1) < 1 || array.shape(0) > 65535 || array.shape(1) > 65535) {
    throw InvalidArgument("image: expected sides of 1 to 65535 px, got " + describe(array));
  }
  view.data = static_cast<const std::uint8_t*>(array.data());
  view.size = {static_cast<int>(array.shape(0)), static_cast<int>(array.shape(1))};
  view.row_stride = array.strides(0);
  view.pixel_stride = array.strides(1);
  view.channel_stride = grey ? 1 : array.strides(2);
  return view;
}

/// True for an array that a plain `T*` can walk through.
template <typename T>
bool is_plain(const py::array& array) {
  return py::isinstance<py::array_t<T, py::array::c_style>>(array) &&
         (array.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_) != 0;
}

/// A view of a C-contiguous float32 array.
inline TensorView as_tensor(const py::array& array, const std::string& what) {
  if (!is_plain<float>(array)) {
    throw InvalidType(what + ": expected a C-contiguous, aligned float32 array, got " + describe(array) +
                      "; use numpy.require(x, 'float32', 'CA')");
  }
  if (array.ndim() > static_cast<py::ssize_t>(Shape::kMaxRank)) {
    throw InvalidArgument(what + ": expected at most " + std::to_string(Shape::kMaxRank) + " axes, got " +
                          describe(array));
  }
  TensorView view;
  view.data = static_cast<const float*>(array.data());
  for (py::ssize_t axis = 0; axis < array.ndim(); ++axis) view.shape.push_back(array.shape(axis));
  return view;
}

/// Hands a vector to NumPy: the array owns it through a capsule.
template <typename T>
py::array_t<T> to_numpy(std::vector<T> values, std::vector<py::ssize_t> shape) {
  auto* const owned = new std::vector<T>(std::move(values));
  const py::capsule owner(owned, [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
  return py::array_t<T>(std::move(shape), owned->data(), owner);
}

inline Size as_size(const std::pair<int, int>& height_width) { return {height_width.first, height_width.second}; }

inline py::tuple as_tuple(const Shape& shape) {
  py::tuple dims(shape.rank());
  for (std::size_t axis = 0; axis < shape.rank(); ++axis) dims[axis] = shape[axis];
  return dims;
}

}  // namespace swiftdet::python
