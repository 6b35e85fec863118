// Borrowed 8-bit images with arbitrary strides, as NumPy and video decoders hand them over.
#pragma once

#include <cstddef>
#include <cstdint>

#include "swiftdet/base/size.hpp"

namespace swiftdet {

/// Order of the colour channels in a source image. One-channel images have none.
enum class ChannelOrder : std::uint8_t { kBgr, kRgb };

/// Read-only view of a uint8 image `[height, width, channels]`; strides are in bytes and may be negative.
/// Borrows: the pixels must outlive the view.
struct ImageView {
  const std::uint8_t* data = nullptr;
  Size size{};
  int channels = 3;  ///< 1 (grey), 3 (colour) or 4 (colour + alpha, which is ignored)
  std::ptrdiff_t row_stride = 0;
  std::ptrdiff_t pixel_stride = 0;
  std::ptrdiff_t channel_stride = 1;

  [[nodiscard]] const std::uint8_t* row(int y) const noexcept { return data + y * row_stride; }
  /// True when the pixels of one row lie back to back.
  [[nodiscard]] bool packed_rows() const noexcept { return channel_stride == 1 && pixel_stride == channels; }
};

/// Writable view of a uint8 image whose rows are packed `[width, channels]`.
struct MutableImageView {
  std::uint8_t* data = nullptr;
  Size size{};
  int channels = 3;
  std::ptrdiff_t row_stride = 0;

  [[nodiscard]] std::uint8_t* row(int y) const noexcept { return data + y * row_stride; }
};

}  // namespace swiftdet
