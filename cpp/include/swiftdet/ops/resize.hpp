// Resizing of 8-bit images, equal to OpenCV's cv2.resize in every value.
#pragma once

#include <cstdint>
#include <memory>

#include "swiftdet/base/image_view.hpp"

namespace swiftdet::ops {

enum class Interpolation : std::uint8_t { kLinear, kArea };

/// Resizes `source` into `target`; the channel count (1, 3 or 4) is kept, the channel order untouched.
///
/// Contract: every value equals `cv2.resize(source, (w, h), interpolation=INTER_LINEAR | INTER_AREA)` on uint8.
/// Sizes from 1x1 up, any source strides. Equal sizes copy.
/// Allocates its own scratch; safe from several threads.
/// @throw InvalidArgument  an empty image, a channel count other than 1, 3, 4, or one that differs from the target's.
void resize(const ImageView& source, const MutableImageView& target, Interpolation interpolation);

}  // namespace swiftdet::ops
