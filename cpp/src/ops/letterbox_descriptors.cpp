// Host side of the letterbox kernel: its contract, checked, and the numbers it reads.
#include <string>

#include "ops/image_checks.hpp"
#include "ops/letterbox_checks.hpp"
#include "ops/resize_axis.hpp"
#include "swiftdet/base/error.hpp"
#include "swiftdet/ops/cuda/letterbox.hpp"

namespace swiftdet::ops::cuda {
namespace {

constexpr std::size_t kTensorAlignment = 16;

std::int64_t row_bytes(const DeviceImage& image) {
  switch (image.format) {
    case PixelFormat::kBgr:
    case PixelFormat::kRgb: return std::int64_t{3} * image.size.width;
    case PixelFormat::kBgra:
    case PixelFormat::kRgba: return std::int64_t{4} * image.size.width;
    case PixelFormat::kGrey:
    case PixelFormat::kNv12: return image.size.width;
  }
  throw InvalidArgument("letterbox: unknown pixel format " + std::to_string(static_cast<int>(image.format)));
}

void check_plane(const std::uint8_t* pixels, std::int64_t pitch, std::int64_t row, const char* plane) {
  if (pixels == nullptr) throw InvalidArgument(std::string("letterbox: the ") + plane + " plane is a null pointer");
  if (pitch < row) {
    throw InvalidArgument(std::string("letterbox: ") + plane + " plane: expected a pitch of at least the row's " +
                          std::to_string(row) + " bytes, got " + std::to_string(pitch));
  }
}

void check_image(const DeviceImage& image) {
  check_side_lengths(image.size, "letterbox", "source image");
  check_plane(image.pixels, image.pitch, row_bytes(image), "pixel");
  if (image.format != PixelFormat::kNv12) return;
  check_plane(image.chroma, image.chroma_pitch, row_bytes(image), "chroma");
  if (image.size.height % 2 != 0 || image.size.width % 2 != 0) {
    throw InvalidArgument("letterbox: expected even sides for NV12, got height " + std::to_string(image.size.height) +
                          " and width " + std::to_string(image.size.width));
  }
}

}  // namespace

DescribedImage describe_letterbox(const DeviceImage& source, const Preprocess& preprocess, Size target) {
  check_image(source);
  check_side_lengths(target, "letterbox", "target size");
  const LetterboxGeometry geometry = letterbox_geometry(source.size, target, preprocess.mode);
  const Size from = source.size;
  const Size to = geometry.resized;
  DescribedImage described;
  described.meta = geometry.meta;
  described.image = {.source = source,
                     .resized = to,
                     .pad_left = geometry.meta.pad_left,
                     .pad_top = geometry.meta.pad_top,
                     .rule = resize_rule(from, to, preprocess.interpolation),
                     .factor = {whole_shrink_factor(from.height, to.height), whole_shrink_factor(from.width, to.width)},
                     .scale_x = axis_scale(from.width, to.width),
                     .scale_y = axis_scale(from.height, to.height),
                     .inverse_scale_x = static_cast<double>(to.width) / from.width,
                     .inverse_scale_y = static_cast<double>(to.height) / from.height};
  return described;
}

LetterboxTarget letterbox_target(void* tensor, TensorType type, std::int32_t batch, Size size,
                                 const Preprocess& preprocess) {
  check_side_lengths(size, "letterbox", "target size");
  check_scaling(preprocess);
  if (tensor == nullptr || reinterpret_cast<std::uintptr_t>(tensor) % kTensorAlignment != 0) {
    throw InvalidArgument("letterbox: expected a tensor in device memory, aligned to " +
                          std::to_string(kTensorAlignment) + " bytes");
  }
  constexpr std::int32_t kMostImages = 65535;  // of a grid's third dimension
  if (batch < 1 || batch > kMostImages) {
    throw InvalidArgument("letterbox: expected a batch of 1 to " + std::to_string(kMostImages) + ", got " +
                          std::to_string(batch));
  }
  LetterboxTarget target;
  target.tensor = tensor;
  target.type = type;
  target.batch = batch;
  target.size = size;
  target.pad_value = preprocess.pad_value;
  target.divisor = preprocess.divisor;
  target.mean = preprocess.mean;
  target.std = preprocess.std;
  return target;
}

}  // namespace swiftdet::ops::cuda
