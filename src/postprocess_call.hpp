// What decode and NMS of every device take from a Python call and give back to it.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "convert.hpp"
#include "gil.hpp"
#include "swiftdet/base/error.hpp"
#include "swiftdet/base/tensor_view.hpp"
#include "swiftdet/ops/candidates.hpp"
#include "swiftdet/ops/head.hpp"

namespace swiftdet::python {

/// A one-dimensional C-contiguous view, or the two-dimensional [K, 4] one.
template <typename T>
std::span<const T> as_span(const py::array& array, const char* what, const char* expected, py::ssize_t columns) {
  if (!is_plain<T>(array)) {
    throw InvalidType(std::string(what) + ": expected a C-contiguous, aligned " + expected + " array, got " +
                      describe(array) + "; use numpy.require(x, '" + expected + "', 'CA')");
  }
  const bool shaped = columns == 0 ? array.ndim() == 1 : array.ndim() == 2 && array.shape(1) == columns;
  if (!shaped) {
    throw InvalidArgument(std::string(what) + ": expected " + (columns == 0 ? "[K]" : "[K, 4]") + ", got " +
                          describe(array));
  }
  return {static_cast<const T*>(array.data()), static_cast<std::size_t>(array.size())};
}

/// Boxes float32 [K, 4], scores float32 [K], classes int32 [K].
using DecodedArrays = std::tuple<py::array_t<float>, py::array_t<float>, py::array_t<std::int32_t>>;

/// `run(views, candidates)` is called without the GIL.
template <typename Run>
DecodedArrays decode_arrays(const std::vector<py::array>& outputs, const ops::HeadSpec& head, const Run& run) {
  std::vector<TensorView> views;
  views.reserve(outputs.size());
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    const std::string what =
        i < head.outputs.size() ? "output '" + head.outputs[i] + "'" : "output " + std::to_string(i);
    views.push_back(as_tensor(outputs[i], what));
  }
  std::vector<float> boxes;
  ops::Candidates candidates;
  {
    const GilReleased nogil;
    run(std::span<const TensorView>(views), candidates);
    boxes.reserve(4 * candidates.size());
    for (std::size_t i = 0; i < candidates.size(); ++i) {
      boxes.insert(boxes.end(), {candidates.x1[i], candidates.y1[i], candidates.x2[i], candidates.y2[i]});
    }
  }
  const auto count = static_cast<py::ssize_t>(candidates.size());
  return {to_numpy(std::move(boxes), {count, 4}), to_numpy(std::move(candidates.score), {count}),
          to_numpy(std::move(candidates.cls), {count})};
}

/// `run(boxes, scores, classes)` gives the survivors' indices; it is called without the GIL.
template <typename Run>
py::array_t<std::int64_t> nms_arrays(const py::array& boxes, const py::array& scores, const py::array& classes,
                                     const Run& run) {
  const auto box_values = as_span<float>(boxes, "boxes", "float32", 4);
  const auto score_values = as_span<float>(scores, "scores", "float32", 0);
  const auto class_values = as_span<std::int32_t>(classes, "classes", "int32", 0);
  std::vector<std::int64_t> keep;
  {
    const GilReleased nogil;
    keep = run(box_values, score_values, class_values);
  }
  const auto count = static_cast<py::ssize_t>(keep.size());
  return to_numpy(std::move(keep), {count});
}

}  // namespace swiftdet::python
