// The contract of a source image, checked once for every operation that takes one.
#pragma once

#include <string>

#include "swiftdet/base/error.hpp"
#include "swiftdet/base/image_view.hpp"

namespace swiftdet::ops {

/// Longest side, of sources and targets alike: what the formats that people send can express.
inline constexpr int kMaxSide = 65535;

// The names are C strings: a check that passes, once per call on the hot path, builds no message and so allocates
// nothing.

/// @throw InvalidArgument  a side outside 1 to kMaxSide.
inline void check_side_lengths(Size size, const char* operation, const char* what) {
  if (size.height < 1 || size.width < 1 || size.height > kMaxSide || size.width > kMaxSide) {
    throw InvalidArgument(std::string(operation) + ": " + what + ": expected sides of 1 to " +
                          std::to_string(kMaxSide) + " px, got height " + std::to_string(size.height) + " and width " +
                          std::to_string(size.width));
  }
}

/// @throw InvalidArgument  no pixels, sides out of range, or a channel count other than 1, 3, 4.
inline void check_source(const ImageView& source, const char* operation) {
  check_side_lengths(source.size, operation, "source image");
  if (source.data == nullptr)
    throw InvalidArgument(std::string(operation) + ": the source image has no pixels (null pointer)");
  if (source.channels != 1 && source.channels != 3 && source.channels != 4) {
    throw InvalidArgument(std::string(operation) + ": expected a source image of 1, 3 or 4 channels, got " +
                          std::to_string(source.channels));
  }
}

/// @throw InvalidArgument  what ops::resize refuses.
inline void check_resize(const ImageView& source, const MutableImageView& target) {
  check_source(source, "resize");
  if (target.data == nullptr) throw InvalidArgument("resize: the target has no pixels (null pointer)");
  check_side_lengths(target.size, "resize", "target size");
  if (source.channels != target.channels) {
    throw InvalidArgument("resize: expected a target of the source's " + std::to_string(source.channels) +
                          " channels, got " + std::to_string(target.channels));
  }
}

}  // namespace swiftdet::ops
