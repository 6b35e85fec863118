// Boxes over the threshold, on their way from decode to NMS.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace swiftdet::ops {

/// Candidates as parallel arrays of equal length, ordered by score desc, then class asc, then anchor asc.
/// Boxes are float32 xyxy in network px. Capacity is kept between calls.
struct Candidates {
  std::vector<float> x1, y1, x2, y2;
  std::vector<float> score;
  std::vector<std::int32_t> cls;
  std::vector<std::int32_t> anchor;  ///< index of the prediction in the head's own order
  std::int64_t dropped = 0;          ///< over the threshold, but beyond max_candidates

  [[nodiscard]] std::size_t size() const noexcept { return score.size(); }
  void resize(std::size_t count) {
    for (auto* column : {&x1, &y1, &x2, &y2, &score}) column->resize(count);
    cls.resize(count);
    anchor.resize(count);
  }
  void clear() noexcept {
    for (auto* column : {&x1, &y1, &x2, &y2, &score}) column->clear();
    cls.clear();
    anchor.clear();
    dropped = 0;
  }
};

}  // namespace swiftdet::ops
