// What makes a score a candidate, and the one order of candidates, as a number: shared by every body and device.
#pragma once

#include <bit>
#include <cstdint>
#include <limits>

#include "swiftdet/base/host_device.hpp"

namespace swiftdet::ops {

/// Strictly over the threshold, and finite.
[[nodiscard]] SWIFTDET_HOST_DEVICE constexpr bool is_candidate(float score, float threshold) noexcept {
  return score > threshold && score <= std::numeric_limits<float>::max();
}

/// The bits of a positive, finite score (which order like the score) above the complement of class * predictions +
/// anchor: a larger key is a better candidate (score desc, then class asc, then anchor asc), and no two are equal.
[[nodiscard]] SWIFTDET_HOST_DEVICE constexpr std::uint64_t candidate_key(float score, std::int32_t cls,
                                                                         std::int32_t anchor,
                                                                         std::uint32_t predictions) noexcept {
  const std::uint32_t place = static_cast<std::uint32_t>(cls) * predictions + static_cast<std::uint32_t>(anchor);
  return std::uint64_t{std::bit_cast<std::uint32_t>(score)} << 32U | ~place;
}

[[nodiscard]] SWIFTDET_HOST_DEVICE constexpr float key_score(std::uint64_t key) noexcept {
  return std::bit_cast<float>(static_cast<std::uint32_t>(key >> 32U));
}
[[nodiscard]] SWIFTDET_HOST_DEVICE constexpr std::int32_t key_class(std::uint64_t key,
                                                                    std::uint32_t predictions) noexcept {
  return static_cast<std::int32_t>(~static_cast<std::uint32_t>(key) / predictions);
}
[[nodiscard]] SWIFTDET_HOST_DEVICE constexpr std::int32_t key_anchor(std::uint64_t key,
                                                                     std::uint32_t predictions) noexcept {
  return static_cast<std::int32_t>(~static_cast<std::uint32_t>(key) % predictions);
}

}  // namespace swiftdet::ops
