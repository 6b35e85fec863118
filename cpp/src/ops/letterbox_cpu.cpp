#include "ops/letterbox_cpu.hpp"

#include <algorithm>

#include "ops/letterbox_formulas.hpp"

namespace swiftdet::ops::cpu {
namespace {

PlaneScaling make_scaling(const Preprocess& preprocess) {
  PlaneScaling scaling;
  scaling.divisor = preprocess.divisor;
  for (std::size_t plane = 0; plane < 3; ++plane) {
    const float mean = preprocess.mean[plane];
    const float std = preprocess.std[plane];
    scaling.mean[plane] = mean;
    scaling.std[plane] = std;
    scaling.standardises |= mean != 0.0F || std != 1.0F;
    for (int value = 0; value < 256; ++value) {
      scaling.table[plane][value] = network_value(static_cast<std::uint8_t>(value), preprocess.divisor, mean, std);
    }
  }
  return scaling;
}

/// `image` with its bytes in ascending order where only the channels are reversed (`array[..., ::-1]`): that is a
/// packed image of the other channel order, so nothing has to be copied.
ImageView unreversed(const ImageView& image, ChannelOrder& order) {
  if (image.channels != 3 || image.channel_stride != -1) return image;
  ImageView straight = image;
  straight.data -= 2;
  straight.channel_stride = 1;
  order = order == ChannelOrder::kBgr ? ChannelOrder::kRgb : ChannelOrder::kBgr;
  return straight;
}

}  // namespace

Letterbox::Letterbox(swiftdet::cpu::Isa isa) : kernels_(&letterbox_kernels(isa)), rows_(resize_kernels(isa)) {}

LetterboxMeta Letterbox::run(const ImageView& source, ChannelOrder order, const Preprocess& preprocess, Size target,
                             float* tensor, Border border) {
  if (scaled_for_ != preprocess) {
    scaling_ = make_scaling(preprocess);
    scaled_for_ = preprocess;
  }
  const std::uint8_t pad = preprocess.pad_value;
  const float border_values[3] = {scaling_.table[0][pad], scaling_.table[1][pad], scaling_.table[2][pad]};
  return fill(source, order, preprocess, target, tensor, border, border_values,
              [this](const std::uint8_t* lanes, int width, const PlaneRows<float>& rows) {
                kernels_->write_values(lanes, rows_.lanes(), 0, width, scaling_, rows);
              });
}

LetterboxMeta Letterbox::run(const ImageView& source, ChannelOrder order, const Preprocess& preprocess, Size target,
                             std::uint8_t* tensor) {
  const std::uint8_t pad = preprocess.pad_value;
  return fill(source, order, preprocess, target, tensor, Border::kWrite, {pad, pad, pad},
              [this](const std::uint8_t* lanes, int width, const PlaneRows<std::uint8_t>& rows) {
                const int step = rows_.lanes();
                for (int plane = 0; plane < 3; ++plane) {
                  const std::uint8_t* lane = lanes + rows.lane[plane];
                  for (int x = 0; x < width; ++x, lane += step) rows.row[plane][x] = *lane;
                }
              });
}

template <typename T, typename WriteRow>
LetterboxMeta Letterbox::fill(const ImageView& source, ChannelOrder order, const Preprocess& preprocess, Size target,
                              T* tensor, Border border, const T (&border_values)[3], WriteRow write_row) {
  const LetterboxGeometry geometry = letterbox_geometry(source.size, target, preprocess.mode);
  const Size inner = geometry.resized;
  const auto left = static_cast<std::ptrdiff_t>(geometry.meta.pad_left);
  const auto right = static_cast<std::ptrdiff_t>(target.width - inner.width) - left;
  const auto top = static_cast<std::ptrdiff_t>(geometry.meta.pad_top);
  const auto bottom = static_cast<std::ptrdiff_t>(target.height - inner.height) - top;
  const auto row_size = static_cast<std::ptrdiff_t>(target.width);
  const std::ptrdiff_t plane_size = row_size * target.height;

  const ImageView straight = unreversed(source, order);
  rows_.start(straight, inner, preprocess.interpolation);

  PlaneRows<T> rows;
  for (int plane = 0; plane < 3; ++plane) {
    T* const first = tensor + plane * plane_size;
    if (border == Border::kWrite) {
      std::fill_n(first, top * row_size, border_values[plane]);
      std::fill_n(first + plane_size - bottom * row_size, bottom * row_size, border_values[plane]);
    }
    rows.row[plane] = first + top * row_size + left;
    if (straight.channels != 1) rows.lane[plane] = order == ChannelOrder::kRgb ? plane : 2 - plane;
  }
  for (int y = 0; y < inner.height; ++y) {
    write_row(rows_.row(y), inner.width, rows);
    for (int plane = 0; plane < 3; ++plane) {
      if (border == Border::kWrite) {
        std::fill_n(rows.row[plane] - left, left, border_values[plane]);
        std::fill_n(rows.row[plane] + inner.width, right, border_values[plane]);
      }
      rows.row[plane] += row_size;
    }
  }
  return geometry.meta;
}

}  // namespace swiftdet::ops::cpu
