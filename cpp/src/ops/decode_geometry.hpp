// What the shapes of the outputs say about a head: its predictions, its levels, its memory form.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "swiftdet/base/tensor_view.hpp"
#include "swiftdet/ops/head.hpp"

namespace swiftdet::ops {

inline constexpr std::size_t kMaxLevels = 8;

/// One level of a head of maps.
struct Level {
  std::int32_t height = 0;
  std::int32_t width = 0;
  std::int32_t first_anchor = 0;  ///< index of the level's first prediction
  bool interleaved = false;       ///< anchor_maps: [N, A, h, w, 5+C], not [N, A*(5+C), h, w]

  [[nodiscard]] std::int32_t cells() const noexcept { return height * width; }
};

struct HeadGeometry {
  std::int64_t batch = 0;
  std::int32_t predictions = 0;  ///< P; of all levels together
  std::array<Level, kMaxLevels> levels{};
};

/// @throw ModelError  `head` contradicts itself, whatever the outputs are.
void check_spec(const HeadSpec& head);

/// The geometry of `outputs`, which are checked as by check_head and must have no dynamic dimension.
/// Allocates nothing unless it throws. @throw ModelError  as check_head.
[[nodiscard]] HeadGeometry measure_head(std::span<const TensorView> outputs, const HeadSpec& head);

/// Anchors per cell of an anchor_maps head.
[[nodiscard]] inline std::int32_t anchors_per_cell(const HeadSpec& head) noexcept {
  return static_cast<std::int32_t>(head.anchors.size() / head.strides.size());
}

}  // namespace swiftdet::ops
