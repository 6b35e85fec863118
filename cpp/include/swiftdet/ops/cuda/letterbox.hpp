// Letterbox on the device: a batch of images of any sizes and formats to the network's input, in one launch.
#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <cstdint>

#include "swiftdet/base/image_view.hpp"
#include "swiftdet/base/size.hpp"
#include "swiftdet/ops/letterbox.hpp"

namespace swiftdet::ops::cuda {

/// How pixels lie in memory. Rows are `pitch` bytes apart; within a row, pixels lie back to back.
enum class PixelFormat : std::int32_t {
  kBgr,   ///< 3 bytes
  kRgb,   ///< 3 bytes
  kBgra,  ///< 4 bytes, the last one ignored
  kRgba,  ///< 4 bytes, the last one ignored
  kGrey,  ///< 1 byte, repeated for the three planes
  kNv12,  ///< a luma plane, then a half-size plane of interleaved Cb Cr; even sides; BT.601, luma 16 to 235
};

/// How an image of 1, 3 or 4 channels lies in memory whose pixels are packed.
[[nodiscard]] constexpr PixelFormat pixel_format(int channels, ChannelOrder order) noexcept {
  const bool rgb = order == ChannelOrder::kRgb;
  switch (channels) {
    case 1: return PixelFormat::kGrey;
    case 3: return rgb ? PixelFormat::kRgb : PixelFormat::kBgr;
    default: return rgb ? PixelFormat::kRgba : PixelFormat::kBgra;
  }
}

/// Element type of a network's tensor.
enum class TensorType : std::int32_t { kFloat32, kFloat16 };

/// An image whose pixels the device can read.
struct DeviceImage {
  const std::uint8_t* pixels = nullptr;  ///< device memory; for kNv12 the luma plane
  std::int64_t pitch = 0;                ///< bytes from row to row, at least a row's own
  const std::uint8_t* chroma = nullptr;  ///< kNv12 alone: the Cb Cr plane, device memory
  std::int64_t chroma_pitch = 0;
  Size size{};
  PixelFormat format = PixelFormat::kBgr;
};

/// What the kernel reads, from device memory, for one batch item. Made by describe_letterbox, copied as it is.
/// A value-initialised one stands for no image: its batch item is filled with the pad value.
struct LetterboxImage {
  DeviceImage source{};
  Size resized{};
  std::int32_t pad_left = 0;
  std::int32_t pad_top = 0;
  ResizeRule rule = ResizeRule::kCopy;
  Size factor{};         ///< kWholeShrink
  double scale_x = 1.0;  ///< source px per resized px, as axis_scale rounds it
  double scale_y = 1.0;
  double inverse_scale_x = 1.0;  ///< resized / source
  double inverse_scale_y = 1.0;
};

/// Host side: the descriptor of `source` for a network input of `target`, and the meta that maps boxes back.
struct DescribedImage {
  LetterboxImage image{};
  LetterboxMeta meta{};
};

/// The same geometry and the same choice of rule as ops::Letterbox.
/// @throw InvalidArgument  a side of source or target outside 1 to 65535 px, a null plane, a pitch shorter than a row,
///                         a kNv12 image with an odd side.
[[nodiscard]] DescribedImage describe_letterbox(const DeviceImage& source, const Preprocess& preprocess, Size target);

/// The network's input and what is done to every value; fixed for a session, hence captured by value.
struct LetterboxTarget {
  void* tensor = nullptr;  ///< device memory [batch, 3, size.height, size.width], RGB planes, 16-byte aligned
  TensorType type = TensorType::kFloat32;
  std::int32_t batch = 1;
  Size size{};
  std::uint8_t pad_value = 114;
  float divisor = 255.0F;
  std::array<float, 3> mean{0.0F, 0.0F, 0.0F};
  std::array<float, 3> std{1.0F, 1.0F, 1.0F};
};

/// @throw InvalidArgument  what ops::Letterbox refuses in `preprocess`, a null or misaligned tensor, a batch below 1.
[[nodiscard]] LetterboxTarget letterbox_target(void* tensor, TensorType type, std::int32_t batch, Size size,
                                               const Preprocess& preprocess);

/// Enqueues the letterbox of `target.batch` images; `images` is device memory, read when the kernel runs.
/// Float32 values equal ops::Letterbox bit for bit; float16 ones are those rounded to nearest even. kNv12 pixels are
/// converted as cv2.cvtColor(COLOR_YUV2RGB_NV12) does, then resized. Neither allocates nor synchronises.
[[nodiscard]] cudaError_t launch_letterbox(const LetterboxImage* images, const LetterboxTarget& target,
                                           cudaStream_t stream);

}  // namespace swiftdet::ops::cuda
