// What the pipelines of every device take from a Python call and give back to it.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "convert.hpp"
#include "swiftdet/base/error.hpp"
#include "swiftdet/detector.hpp"

namespace swiftdet::python {

/// One flag per class from a list of wanted class ids; none for all classes.
inline std::vector<std::uint8_t> class_flags(const std::optional<std::vector<int>>& wanted, int num_classes) {
  if (!wanted) return {};
  std::vector<std::uint8_t> flags(static_cast<std::size_t>(num_classes), 0);
  for (const int id : *wanted) {
    if (id < 0 || id >= num_classes) {
      throw InvalidArgument("classes: expected ids of 0 to " + std::to_string(num_classes - 1) + ", got " +
                            std::to_string(id));
    }
    flags[static_cast<std::size_t>(id)] = 1;
  }
  return flags;
}

/// (limit, made, idle, waiting)
inline std::tuple<int, int, int, int> counts_tuple(const SessionCounts& counts) {
  return {counts.limit, counts.made, counts.idle, counts.waiting};
}

/// (preprocess, inference, postprocess); of a timed run on a GPU (pack, copy in, those three, copy out, unpack).
inline py::tuple to_tuple(const StageTimes& times) {
  if (!times.transfers) return py::make_tuple(times.preprocess_ms, times.inference_ms, times.postprocess_ms);
  return py::make_tuple(times.transfers->pack_ms, times.transfers->copy_in_ms, times.preprocess_ms, times.inference_ms,
                        times.postprocess_ms, times.transfers->copy_out_ms, times.transfers->unpack_ms);
}

/// (xyxy float32 [K, 4] source px, conf float32 [K], cls int32 [K], truncated, times of the stages in ms).
inline py::tuple to_tuple(DetectionsBuffer result) {
  const auto count = static_cast<py::ssize_t>(result.size());
  const StageTimes times = result.times;
  const auto truncated = result.truncated;
  return py::make_tuple(to_numpy(std::move(result.xyxy), {count, 4}), to_numpy(std::move(result.conf), {count}),
                        to_numpy(std::move(result.cls), {count}), truncated, to_tuple(times));
}

inline py::list to_list(std::vector<DetectionsBuffer> results) {
  py::list answer(results.size());
  for (std::size_t i = 0; i < results.size(); ++i) answer[i] = to_tuple(std::move(results[i]));
  return answer;
}

}  // namespace swiftdet::python
