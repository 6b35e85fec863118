#include "swiftdet/ops/resize.hpp"

#include <algorithm>

#include "ops/image_checks.hpp"
#include "ops/resize_cpu.hpp"
#include "ops/resize_rows.hpp"

namespace swiftdet::ops {
namespace cpu {
namespace {

void copy_lanes(const std::uint8_t* lanes, int channels, int width, std::uint8_t* pixels) {
  if (channels == lane_count(channels)) {
    std::copy_n(lanes, static_cast<std::size_t>(width) * static_cast<std::size_t>(channels), pixels);
    return;
  }
  for (int x = 0; x < width; ++x, lanes += 4, pixels += 3) std::copy_n(lanes, 3, pixels);
}

}  // namespace

void resize(const ImageView& source, const MutableImageView& target, Interpolation interpolation,
            swiftdet::cpu::Isa isa) {
  if (source.size == target.size) {
    for (int y = 0; y < target.size.height; ++y) pack_row(source, y, target.row(y));
    return;
  }
  RowResizer rows(resize_kernels(isa));
  rows.start(source, target.size, interpolation);
  for (int y = 0; y < target.size.height; ++y) {
    copy_lanes(rows.row(y), target.channels, target.size.width, target.row(y));
  }
}

}  // namespace cpu

void resize(const ImageView& source, const MutableImageView& target, Interpolation interpolation) {
  check_resize(source, target);
  cpu::resize(source, target, interpolation, swiftdet::cpu::active_isa());
}

}  // namespace swiftdet::ops
