// Resizing of 8-bit images, equal to OpenCV's cv2.resize in every value.
#pragma once

#include <cstdint>
#include <memory>

#include "swiftdet/base/image_view.hpp"

namespace swiftdet::ops {

enum class Interpolation : std::uint8_t { kLinear, kArea };

/// Which of OpenCV's rules makes the pixels.
enum class ResizeRule : std::uint8_t {
  kCopy,         ///< equal sizes
  kHalve,        ///< both sides exactly halved: the same values from either interpolation
  kLinear,       ///< INTER_LINEAR
  kAreaEnlarge,  ///< INTER_AREA where an axis enlarges
  kWholeShrink,  ///< other INTER_AREA by whole factors in both axes: integer sums
  kArea,         ///< any other shrinking INTER_AREA: float32 sums
};
[[nodiscard]] ResizeRule resize_rule(Size source, Size target, Interpolation interpolation) noexcept;

/// Resizes `source` into `target`; the channel count (1, 3 or 4) is kept, the channel order untouched.
///
/// Contract: every value equals `cv2.resize(source, (w, h), interpolation=INTER_LINEAR | INTER_AREA)` on uint8.
/// That includes INTER_AREA's int32 sums, which wrap where one cell has more than 2^31 / 255 pixels (7680x4320 to 1x1).
/// Sizes from 1x1 up, any source strides; reads no byte outside the pixels that `source` describes. Equal sizes copy.
/// Allocates its own scratch; safe from several threads. Source and target must not overlap.
/// @throw InvalidArgument  a side outside 1 to 65535 px, a channel count other than 1, 3, 4, or one that differs from
///                         the target's, a null pointer.
void resize(const ImageView& source, const MutableImageView& target, Interpolation interpolation);

}  // namespace swiftdet::ops
