#include "swiftdet/ops/letterbox.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include "cpu/isa.hpp"
#include "ops/image_checks.hpp"
#include "ops/letterbox_checks.hpp"
#include "ops/letterbox_cpu.hpp"
#include "swiftdet/base/error.hpp"

namespace swiftdet::ops {
namespace {

/// nearbyint rounds half to even, as Python's round() in the official pipelines does.
int round_half_even(double value) { return static_cast<int>(std::nearbyint(value)); }

void check_arguments(const ImageView& source, Size target, const void* tensor) {
  check_source(source, "letterbox");
  check_side_lengths(target, "letterbox", "target size");
  if (tensor == nullptr) throw InvalidArgument("letterbox: the tensor to fill is a null pointer");
}

}  // namespace

void check_scaling(const Preprocess& preprocess) {
  const auto usable_divisor = [](float value) { return std::isfinite(value) && value != 0.0F; };
  if (!usable_divisor(preprocess.divisor)) {
    throw InvalidArgument("letterbox: expected a finite divisor other than 0, got " +
                          std::to_string(preprocess.divisor));
  }
  for (std::size_t channel = 0; channel < 3; ++channel) {
    if (!std::isfinite(preprocess.mean[channel]) || !usable_divisor(preprocess.std[channel])) {
      throw InvalidArgument("letterbox: expected a finite mean and a finite std other than 0 for each channel, got " +
                            std::to_string(preprocess.mean[channel]) + " and " +
                            std::to_string(preprocess.std[channel]));
    }
  }
}

LetterboxGeometry letterbox_geometry(Size source, Size target, ResizeMode mode) {
  LetterboxGeometry geometry;
  LetterboxMeta& meta = geometry.meta;
  meta.scale_x = static_cast<double>(target.width) / source.width;
  meta.scale_y = static_cast<double>(target.height) / source.height;
  if (mode == ResizeMode::kStretch) {
    geometry.resized = target;
    return geometry;
  }
  meta.scale_x = meta.scale_y = std::min(meta.scale_x, meta.scale_y);
  geometry.resized = {std::max(1, round_half_even(source.height * meta.scale_y)),
                      std::max(1, round_half_even(source.width * meta.scale_x))};
  if (mode == ResizeMode::kLetterbox) {
    meta.pad_top = round_half_even((target.height - geometry.resized.height) / 2.0 - 0.1);
    meta.pad_left = round_half_even((target.width - geometry.resized.width) / 2.0 - 0.1);
  }
  return geometry;
}

struct Letterbox::State {
  cpu::Letterbox body{swiftdet::cpu::active_isa()};
};

Letterbox::Letterbox() : state_(std::make_unique<State>()) {}
Letterbox::~Letterbox() = default;
Letterbox::Letterbox(Letterbox&&) noexcept = default;
Letterbox& Letterbox::operator=(Letterbox&&) noexcept = default;

LetterboxMeta Letterbox::run(const ImageView& source, ChannelOrder order, const Preprocess& preprocess, Size target,
                             float* tensor, Border border) {
  check_arguments(source, target, tensor);
  check_scaling(preprocess);
  return state_->body.run(source, order, preprocess, target, tensor, border);
}

LetterboxMeta Letterbox::run(const ImageView& source, ChannelOrder order, const Preprocess& preprocess, Size target,
                             std::uint8_t* tensor) {
  check_arguments(source, target, tensor);
  return state_->body.run(source, order, preprocess, target, tensor);
}

}  // namespace swiftdet::ops
