// The specification of the resizing loops. Every other body must give these values.
#include <algorithm>

#include "ops/resize_formulas.hpp"
#include "ops/resize_kernels.hpp"

namespace swiftdet::ops::cpu {
namespace {

void spread(const std::uint8_t* pixels, int channels, int begin, int end, std::uint8_t* lanes) {
  const int lane_step = lane_count(channels);
  for (int x = begin; x < end; ++x) {
    std::uint8_t* const out = lanes + static_cast<std::ptrdiff_t>(x) * lane_step;
    for (int lane = 0; lane < lane_step; ++lane) {
      out[lane] = lane < channels ? pixels[static_cast<std::ptrdiff_t>(x) * channels + lane] : std::uint8_t{0};
    }
  }
}

bool plan_linear_columns(int /*channels*/, const LinearColumns& /*columns*/, std::uint8_t* /*plan*/) { return false; }

template <int kChannels>
void linear_columns_of(const std::uint8_t* pixels, const LinearColumns& columns, std::int16_t* lanes) {
  constexpr int kLanes = lane_count(kChannels);
  for (int d = columns.begin; d < columns.end; ++d) {
    const std::uint8_t* const first = pixels + static_cast<std::ptrdiff_t>(columns.first[d]) * kChannels;
    const int w0 = LinearAxis::first_weight(columns.weights[d]);
    const int w1 = LinearAxis::second_weight(columns.weights[d]);
    const std::uint8_t* const second = w1 == 0 ? first : first + kChannels;
    std::int16_t* const out = lanes + static_cast<std::ptrdiff_t>(d) * kLanes;
    for (int c = 0; c < kChannels; ++c) out[c] = static_cast<std::int16_t>(linear_across(first[c], second[c], w0, w1));
    if constexpr (kLanes > kChannels) out[kLanes - 1] = 0;
  }
}

void linear_columns(const std::uint8_t* pixels, int channels, const LinearColumns& columns, std::int16_t* lanes) {
  switch (channels) {
    case 1: return linear_columns_of<1>(pixels, columns, lanes);
    case 3: return linear_columns_of<3>(pixels, columns, lanes);
    default: return linear_columns_of<4>(pixels, columns, lanes);
  }
}

void linear_rows(const std::int16_t* above, const std::int16_t* below, std::uint16_t w_above, std::uint16_t w_below,
                 std::size_t count, std::uint8_t* out) {
  for (std::size_t i = 0; i < count; ++i) {
    out[i] = linear_down(above[i], below[i], w_above, w_below);
  }
}

template <int kChannels>
void halve_of(const std::uint8_t* top, const std::uint8_t* bottom, int begin, int end, std::uint8_t* lanes) {
  constexpr int kLanes = lane_count(kChannels);
  for (int d = begin; d < end; ++d) {
    const std::ptrdiff_t left = static_cast<std::ptrdiff_t>(d) * 2 * kChannels;
    std::uint8_t* const out = lanes + static_cast<std::ptrdiff_t>(d) * kLanes;
    for (int c = 0; c < kChannels; ++c) {
      const std::ptrdiff_t at = left + c;
      out[c] = quarter(top[at] + top[at + kChannels] + bottom[at] + bottom[at + kChannels]);
    }
    if constexpr (kLanes > kChannels) out[kLanes - 1] = 0;
  }
}

void halve(const std::uint8_t* top, const std::uint8_t* bottom, int channels, int begin, int end, std::uint8_t* lanes) {
  switch (channels) {
    case 1: return halve_of<1>(top, bottom, begin, end, lanes);
    case 3: return halve_of<3>(top, bottom, begin, end, lanes);
    default: return halve_of<4>(top, bottom, begin, end, lanes);
  }
}

template <int kChannels>
void area_columns_of(const std::uint8_t* pixels, const AreaColumns& columns, float* lanes) {
  constexpr int kLanes = lane_count(kChannels);
  for (int d = columns.begin; d < columns.end; ++d) {
    const std::uint8_t* pixel = pixels + static_cast<std::ptrdiff_t>(columns.first[d]) * kChannels;
    const float* const weights = columns.weights + static_cast<std::ptrdiff_t>(d) * columns.taps;
    float sum[kLanes] = {};
    for (int k = 0; k < columns.taps; ++k, pixel += kChannels) {
      for (int c = 0; c < kChannels; ++c) sum[c] += static_cast<float>(pixel[c]) * weights[k];
    }
    std::copy_n(sum, kLanes, lanes + static_cast<std::ptrdiff_t>(d) * kLanes);
  }
}

void area_columns(const std::uint8_t* pixels, int channels, const AreaColumns& columns, float* lanes) {
  switch (channels) {
    case 1: return area_columns_of<1>(pixels, columns, lanes);
    case 3: return area_columns_of<3>(pixels, columns, lanes);
    default: return area_columns_of<4>(pixels, columns, lanes);
  }
}

void area_add_row(const float* row, float weight, bool start, std::size_t count, float* sum) {
  if (start) {
    for (std::size_t i = 0; i < count; ++i) sum[i] = row[i] * weight;
  } else {
    for (std::size_t i = 0; i < count; ++i) sum[i] += row[i] * weight;
  }
}

void area_finish(const float* sum, std::size_t count, std::uint8_t* out) {
  for (std::size_t i = 0; i < count; ++i) {
    out[i] = rounded_byte(sum[i]);
  }
}

void add_bytes(const std::uint8_t* bytes, bool start, std::size_t count, std::uint32_t* sum) {
  if (start) {
    for (std::size_t i = 0; i < count; ++i) sum[i] = bytes[i];
  } else {
    for (std::size_t i = 0; i < count; ++i) sum[i] += bytes[i];
  }
}

}  // namespace

const ResizeKernels kScalarResizeKernels{
    .spread = spread,
    .plan_linear_columns = plan_linear_columns,
    .linear_columns = linear_columns,
    .linear_rows = linear_rows,
    .halve = halve,
    .area_columns = area_columns,
    .area_add_row = area_add_row,
    .area_finish = area_finish,
    .add_bytes = add_bytes,
};

const ResizeKernels& resize_kernels(swiftdet::cpu::Isa isa) noexcept {
#if SWIFTDET_ISA_X86
  if (isa == swiftdet::cpu::Isa::kAvx2) return kAvx2ResizeKernels;
#endif
  static_cast<void>(isa);
  return kScalarResizeKernels;
}

}  // namespace swiftdet::ops::cpu
