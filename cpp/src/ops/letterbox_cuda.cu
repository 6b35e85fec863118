// Letterbox kernel: resize, border, channel order and scaling of a batch of images in one pass.
//
// Grid: x and y are tiles of 128 x 8 destination pixels, z is the batch item; a thread makes four pixels side by side
// and stores each plane's four values at once. The taps of a tile's columns and rows are computed once per tile, in
// shared memory: they need doubles, which most GPUs compute slowly.
//
// Bytes moved, 1920x1080 BGR to 640x640 float32: 4.92 MB written, each value once, in 16-byte stores; read, the 360
// rows under the taps, 2.07 MB, of which the sectors at the edges of tiles are read by two blocks (4 edges of at most
// 64 bytes in a row of 5760: 1.04 times); together 1.01 times the floor. The descriptors add some hundred bytes.
#include <cuda_fp16.h>

#include "ops/letterbox_formulas.hpp"
#include "ops/nv12_formulas.hpp"
#include "ops/resize_formulas.hpp"
#include "swiftdet/cuda/launch.hpp"
#include "swiftdet/ops/cuda/letterbox.hpp"

namespace swiftdet::ops::cuda {
namespace {

constexpr int kPixelsPerThread = 4;
constexpr int kThreadsX = 32;
constexpr int kThreadsY = 8;
constexpr int kTileWidth = kThreadsX * kPixelsPerThread;
constexpr int kTileHeight = kThreadsY;
constexpr int kThreads = kThreadsX * kThreadsY;
static_assert(kTileWidth + kTileHeight <= kThreads, "each thread computes the taps of at most one column or row");

/// One column's or row's share of the resize: which source pixels, with what weights.
struct Taps {
  int first;         ///< linear
  int second;        ///< linear
  int first_weight;  ///< linear
  int second_weight;
  AreaCell cell;  ///< area
};

struct PackedPixels {
  const std::uint8_t* pixels;
  std::int64_t pitch;
  int step;
  int red;
  int green;
  int blue;

  __device__ Rgb operator()(int x, int y) const {
    const std::uint8_t* const pixel = pixels + y * pitch + static_cast<std::int64_t>(x) * step;
    return {pixel[red], pixel[green], pixel[blue]};
  }
};

struct Nv12Pixels {
  const std::uint8_t* luma;
  const std::uint8_t* chroma;
  std::int64_t pitch;
  std::int64_t chroma_pitch;

  __device__ Rgb operator()(int x, int y) const {
    const std::uint8_t* const pair = chroma + (y >> 1) * chroma_pitch + (x & ~1);
    return rgb_from_ycbcr(luma[y * pitch + x], pair[0], pair[1]);
  }
};

__device__ PackedPixels packed_pixels(const DeviceImage& image) {
  const bool grey = image.format == PixelFormat::kGrey;
  const bool four = image.format == PixelFormat::kBgra || image.format == PixelFormat::kRgba;
  const bool red_first = image.format == PixelFormat::kRgb || image.format == PixelFormat::kRgba;
  const int step = grey ? 1 : (four ? 4 : 3);
  return {image.pixels, image.pitch, step, grey || red_first ? 0 : 2, grey ? 0 : 1, grey ? 0 : (red_first ? 2 : 0)};
}

/// A pixel without weight need not be read: every second one where the factor is an odd number.
__device__ Taps weighted(Taps taps, float fraction) {
  taps.first_weight = static_cast<int>(linear_weight(1.0F - fraction));
  taps.second_weight = static_cast<int>(linear_weight(fraction));
  if (taps.second_weight == 0) taps.second = taps.first;
  if (taps.first_weight == 0) taps.first = taps.second;
  return taps;
}

__device__ int clamp_index(int index, int count) { return index < 0 ? 0 : (index < count ? index : count - 1); }

/// Taps of destination column `d` of the resized image.
__device__ Taps column_taps(const LetterboxImage& image, int d) {
  Taps taps{};
  const int source = image.source.size.width;
  if (image.rule == ResizeRule::kArea) {
    taps.cell = area_cell(d, source, image.scale_x);
    return taps;
  }
  const bool linear = image.rule == ResizeRule::kLinear;
  LinearTap tap = linear ? linear_tap(d, image.scale_x) : area_enlarge_tap(d, image.scale_x, image.inverse_scale_x);
  tap = horizontal_tap(tap, source);
  taps.first = tap.first;
  taps.second = clamp_index(tap.first + 1, source);  // without weight where it is clamped
  return weighted(taps, tap.fraction);
}

/// Taps of destination row `d`: the weights are not clamped, the indices are.
__device__ Taps row_taps(const LetterboxImage& image, int d) {
  Taps taps{};
  const int source = image.source.size.height;
  if (image.rule == ResizeRule::kArea) {
    taps.cell = area_cell(d, source, image.scale_y);
    return taps;
  }
  const bool linear = image.rule == ResizeRule::kLinear;
  const LinearTap tap =
      linear ? linear_tap(d, image.scale_y) : area_enlarge_tap(d, image.scale_y, image.inverse_scale_y);
  taps.first = clamp_index(tap.first, source);
  taps.second = clamp_index(tap.first + 1, source);
  return weighted(taps, tap.fraction);
}

template <typename Pixels>
__device__ Rgb linear_pixel(const Pixels& pixels, const Taps& column, const Taps& row) {
  const Rgb a = pixels(column.first, row.first);
  const Rgb b = pixels(column.second, row.first);
  const Rgb c = pixels(column.first, row.second);
  const Rgb d = pixels(column.second, row.second);
  const int w0 = column.first_weight;
  const int w1 = column.second_weight;
  const int above = row.first_weight;
  const int below = row.second_weight;
  return {linear_down(linear_across(a.r, b.r, w0, w1), linear_across(c.r, d.r, w0, w1), above, below),
          linear_down(linear_across(a.g, b.g, w0, w1), linear_across(c.g, d.g, w0, w1), above, below),
          linear_down(linear_across(a.b, b.b, w0, w1), linear_across(c.b, d.b, w0, w1), above, below)};
}

template <typename Pixels>
__device__ Rgb halved_pixel(const Pixels& pixels, int x, int y) {
  const Rgb a = pixels(2 * x, 2 * y);
  const Rgb b = pixels(2 * x + 1, 2 * y);
  const Rgb c = pixels(2 * x, 2 * y + 1);
  const Rgb d = pixels(2 * x + 1, 2 * y + 1);
  return {quarter(a.r + b.r + c.r + d.r), quarter(a.g + b.g + c.g + d.g), quarter(a.b + b.b + c.b + d.b)};
}

template <typename Pixels>
__device__ Rgb mean_pixel(const Pixels& pixels, Size factor, int x, int y) {
  std::uint32_t r = 0;
  std::uint32_t g = 0;
  std::uint32_t b = 0;
  for (int j = 0; j < factor.height; ++j) {
    for (int i = 0; i < factor.width; ++i) {
      const Rgb pixel = pixels(x * factor.width + i, y * factor.height + j);
      r += static_cast<std::uint32_t>(pixel.r);
      g += static_cast<std::uint32_t>(pixel.g);
      b += static_cast<std::uint32_t>(pixel.b);
    }
  }
  const std::int64_t cell = static_cast<std::int64_t>(factor.height) * factor.width;
  return {cell_mean(r, cell), cell_mean(g, cell), cell_mean(b, cell)};
}

/// Rows of horizontal sums, added from the top: the order decides the rounding.
template <typename Pixels>
__device__ Rgb area_pixel(const Pixels& pixels, const AreaCell& column, const AreaCell& row) {
  float r = 0.0F;
  float g = 0.0F;
  float b = 0.0F;
  for (int j = 0; j < row.taps(); ++j) {
    float row_r = 0.0F;
    float row_g = 0.0F;
    float row_b = 0.0F;
    for (int i = 0; i < column.taps(); ++i) {
      const Rgb pixel = pixels(column.first() + i, row.first() + j);
      const float weight = column.weight(i);
      row_r += static_cast<float>(pixel.r) * weight;
      row_g += static_cast<float>(pixel.g) * weight;
      row_b += static_cast<float>(pixel.b) * weight;
    }
    const float weight = row.weight(j);
    r = j == 0 ? row_r * weight : r + row_r * weight;
    g = j == 0 ? row_g * weight : g + row_g * weight;
    b = j == 0 ? row_b * weight : b + row_b * weight;
  }
  return {rounded_byte(r), rounded_byte(g), rounded_byte(b)};
}

template <typename Pixels>
__device__ Rgb resized_pixel(const Pixels& pixels, const LetterboxImage& image, int x, int y, const Taps& column,
                             const Taps& row) {
  switch (image.rule) {
    case ResizeRule::kCopy: return pixels(x, y);
    case ResizeRule::kHalve: return halved_pixel(pixels, x, y);
    case ResizeRule::kLinear:
    case ResizeRule::kAreaEnlarge: return linear_pixel(pixels, column, row);
    case ResizeRule::kWholeShrink: return mean_pixel(pixels, image.factor, x, y);
    case ResizeRule::kArea: return area_pixel(pixels, column.cell, row.cell);
  }
  return {};  // Not run in tests: every rule is a case above.
}

/// Four pixels side by side, one byte each, the first one lowest.
struct FourPixels {
  std::uint32_t red = 0;
  std::uint32_t green = 0;
  std::uint32_t blue = 0;
};

/// Pixels x to x + 3 of destination row y; outside the image, the pad value.
template <typename Pixels>
__device__ FourPixels four_pixels(const Pixels& pixels, const LetterboxImage& image, int x, int y, const Taps* columns,
                                  const Taps& row, std::uint8_t pad) {
  FourPixels four;
  const int inner_y = y - image.pad_top;
  const bool row_inside = inner_y >= 0 && inner_y < image.resized.height;
#pragma unroll 1
  for (int i = 0; i < kPixelsPerThread; ++i) {
    const int inner_x = x + i - image.pad_left;
    Rgb pixel{pad, pad, pad};
    if (row_inside && inner_x >= 0 && inner_x < image.resized.width) {
      pixel = resized_pixel(pixels, image, inner_x, inner_y, columns[i], row);
    }
    four.red |= static_cast<std::uint32_t>(pixel.r) << (8 * i);
    four.green |= static_cast<std::uint32_t>(pixel.g) << (8 * i);
    four.blue |= static_cast<std::uint32_t>(pixel.b) << (8 * i);
  }
  return four;
}

__device__ void store_four(float* at, float a, float b, float c, float d) {
  *reinterpret_cast<float4*>(at) = make_float4(a, b, c, d);
}
__device__ void store_one(float* at, float value) { *at = value; }

__device__ std::uint32_t half_pair(float low, float high) {
  return static_cast<std::uint32_t>(__half_as_ushort(__float2half_rn(low))) |
         static_cast<std::uint32_t>(__half_as_ushort(__float2half_rn(high))) << 16U;
}
__device__ void store_four(__half* at, float a, float b, float c, float d) {
  *reinterpret_cast<uint2*>(at) = make_uint2(half_pair(a, b), half_pair(c, d));
}
__device__ void store_one(__half* at, float value) { *at = __float2half_rn(value); }

/// One plane's four values.
template <typename T>
__device__ void store_plane(T* row, int x, std::uint32_t bytes, int plane, const LetterboxTarget& target) {
  const auto value = [&](int i) {
    return network_value(static_cast<std::uint8_t>(bytes >> (8 * i)), target.divisor, target.mean[plane],
                         target.std[plane]);
  };
  // Rows are aligned for whole groups where the width is a multiple of a group.
  if (target.size.width % kPixelsPerThread == 0) {
    store_four(row + x, value(0), value(1), value(2), value(3));
    return;
  }
  for (int i = 0; i < kPixelsPerThread && x + i < target.size.width; ++i) store_one(row + x + i, value(i));
}

}  // namespace

template <typename T>
__global__ void __launch_bounds__(kThreads)
    letterbox_kernel(const LetterboxImage* __restrict__ images, const __grid_constant__ LetterboxTarget target) {
  __shared__ Taps columns[kTileWidth];
  __shared__ Taps rows[kTileHeight];
  const LetterboxImage& image = images[blockIdx.z];
  const int tile_x = static_cast<int>(blockIdx.x) * kTileWidth;
  const int tile_y = static_cast<int>(blockIdx.y) * kTileHeight;
  const int column = static_cast<int>(threadIdx.x);
  const int row = static_cast<int>(threadIdx.y);

  const bool has_taps = image.source.pixels != nullptr && image.rule != ResizeRule::kCopy &&
                        image.rule != ResizeRule::kHalve && image.rule != ResizeRule::kWholeShrink;
  if (has_taps) {
    // Copied: g++ lets a function write its result in place, where its race detector does not see it.
    const int thread = row * kThreadsX + column;
    if (thread < kTileWidth) {
      const int d = tile_x + thread - image.pad_left;
      if (d >= 0 && d < image.resized.width) {
        const Taps taps = column_taps(image, d);
        columns[thread] = taps;
      }
    } else if (thread < kTileWidth + kTileHeight) {
      const int d = tile_y + (thread - kTileWidth) - image.pad_top;
      if (d >= 0 && d < image.resized.height) {
        const Taps taps = row_taps(image, d);
        rows[thread - kTileWidth] = taps;
      }
    }
    __syncthreads();
  }

  const int x = tile_x + column * kPixelsPerThread;
  const int y = tile_y + row;
  if (x >= target.size.width || y >= target.size.height) return;
  FourPixels four;
  const Taps* const taps = columns + column * kPixelsPerThread;
  if (image.source.format == PixelFormat::kNv12) {
    const Nv12Pixels pixels{image.source.pixels, image.source.chroma, image.source.pitch, image.source.chroma_pitch};
    four = four_pixels(pixels, image, x, y, taps, rows[row], target.pad_value);
  } else {
    four = four_pixels(packed_pixels(image.source), image, x, y, taps, rows[row], target.pad_value);
  }
  const std::int64_t plane = static_cast<std::int64_t>(target.size.width) * target.size.height;
  T* const first =
      static_cast<T*>(target.tensor) + 3 * plane * blockIdx.z + static_cast<std::int64_t>(y) * target.size.width;
  store_plane(first, x, four.red, 0, target);
  store_plane(first + plane, x, four.green, 1, target);
  store_plane(first + 2 * plane, x, four.blue, 2, target);
}

cudaError_t launch_letterbox(const LetterboxImage* images, const LetterboxTarget& target, cudaStream_t stream) {
  const auto tiles = [](int length, int tile) { return static_cast<unsigned>((length + tile - 1) / tile); };
  const swiftdet::cuda::LaunchShape shape{
      dim3(tiles(target.size.width, kTileWidth), tiles(target.size.height, kTileHeight),
           static_cast<unsigned>(target.batch)),
      dim3(kThreadsX, kThreadsY)};
  return target.type == TensorType::kFloat16
             ? swiftdet::cuda::launch<letterbox_kernel<__half>>(shape, stream, images, target)
             : swiftdet::cuda::launch<letterbox_kernel<float>>(shape, stream, images, target);
}

}  // namespace swiftdet::ops::cuda
