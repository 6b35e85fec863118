// Equality with OpenCV is tested in tests/python/test_letterbox.py; here: every body against the scalar one, memory,
// geometry and allocations.
#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "allocations.hpp"
#include "cpu/isa.hpp"
#include "ops/letterbox_cpu.hpp"
#include "ops/test_images.hpp"
#include "swiftdet/base/error.hpp"
#include "swiftdet/ops/letterbox.hpp"

namespace {

using swiftdet::ChannelOrder;
using swiftdet::ImageView;
using swiftdet::Size;
using swiftdet::cpu::Isa;
using swiftdet::ops::Interpolation;
using swiftdet::ops::letterbox_geometry;
using swiftdet::ops::Preprocess;
using swiftdet::ops::ResizeMode;
using swiftdet::testing::GuardedImage;
using swiftdet::testing::GuardedSide;
using swiftdet::testing::RandomImage;

constexpr Size kTarget{40, 52};  // no multiple of a vector

std::vector<float> letterboxed(const ImageView& source, const Preprocess& preprocess, ChannelOrder order, Isa isa) {
  std::vector<float> tensor(3 * kTarget.height * kTarget.width, std::numeric_limits<float>::quiet_NaN());
  swiftdet::ops::cpu::Letterbox(isa).run(source, order, preprocess, kTarget, tensor.data());
  return tensor;
}

constexpr std::array kSources{Size{1, 1},   Size{1, 300},  Size{300, 1}, Size{40, 52},  Size{40, 30},   Size{40, 41},
                              Size{20, 52}, Size{80, 104}, Size{80, 90}, Size{97, 131}, Size{120, 156}, Size{13, 17}};

}  // namespace

TEST_CASE("every body gives the scalar body's values and reads nothing beyond the rows") {
  Preprocess standardised;
  standardised.mean = {0.485F, 0.456F, 0.406F};
  standardised.std = {0.229F, 0.224F, 0.225F};
  Preprocess undivided;
  undivided.divisor = 1.0F;
  for (const int channels : {1, 3, 4}) {
    for (const Size size : kSources) {
      CAPTURE(channels);
      CAPTURE(size.height);
      CAPTURE(size.width);
      const RandomImage image(size, channels);
      const GuardedImage left(image.view(), GuardedSide::kLeft);
      const GuardedImage right(image.view(), GuardedSide::kRight);
      for (Preprocess preprocess : {Preprocess{}, standardised, undivided}) {
        for (const auto mode : {ResizeMode::kLetterbox, ResizeMode::kLetterboxTopLeft, ResizeMode::kStretch}) {
          for (const auto interpolation : {Interpolation::kLinear, Interpolation::kArea}) {
            for (const auto order : {ChannelOrder::kBgr, ChannelOrder::kRgb}) {
              preprocess.mode = mode;
              preprocess.interpolation = interpolation;
              const auto expected = letterboxed(image.view(), preprocess, order, Isa::kScalar);
              for (const Isa isa : swiftdet::cpu::available_isas()) {
                CAPTURE(std::string(swiftdet::cpu::isa_name(isa)));
                CHECK(letterboxed(left.view(), preprocess, order, isa) == expected);
                CHECK(letterboxed(right.view(), preprocess, order, isa) == expected);
              }
            }
          }
        }
      }
    }
  }
}

TEST_CASE("reversed channels are the other channel order") {
  for (const Size size : kSources) {
    const RandomImage image(size, 3);
    ImageView reversed = image.view();
    reversed.data += 2;
    reversed.channel_stride = -1;
    for (const Isa isa : swiftdet::cpu::available_isas()) {
      CHECK(letterboxed(reversed, {}, ChannelOrder::kBgr, isa) ==
            letterboxed(image.view(), {}, ChannelOrder::kRgb, isa));
      CHECK(letterboxed(reversed, {}, ChannelOrder::kRgb, isa) ==
            letterboxed(image.view(), {}, ChannelOrder::kBgr, isa));
    }
  }
}

TEST_CASE("a border in place is left alone, and the image is written as ever") {
  constexpr float kMark = -7.0F;
  constexpr auto kHeight = static_cast<std::size_t>(kTarget.height);
  constexpr auto kWidth = static_cast<std::size_t>(kTarget.width);
  for (const Isa isa : swiftdet::cpu::available_isas()) {
    for (const ResizeMode mode : {ResizeMode::kLetterbox, ResizeMode::kLetterboxTopLeft, ResizeMode::kStretch}) {
      Preprocess preprocess;
      preprocess.mode = mode;
      const RandomImage image({30, 71}, 3, 5);
      const std::vector<float> whole = [&] {
        std::vector<float> tensor(3 * kTarget.height * kTarget.width);
        swiftdet::ops::cpu::Letterbox(isa).run(image.view(), ChannelOrder::kBgr, preprocess, kTarget, tensor.data());
        return tensor;
      }();
      std::vector<float> inner(whole.size(), kMark);
      swiftdet::ops::cpu::Letterbox(isa).run(image.view(), ChannelOrder::kBgr, preprocess, kTarget, inner.data(),
                                             swiftdet::ops::Border::kInPlace);
      const auto geometry = letterbox_geometry(image.view().size, kTarget, mode);
      int different = 0;
      for (int y = 0; y < kTarget.height; ++y) {
        for (int x = 0; x < kTarget.width; ++x) {
          const bool inside = y >= geometry.meta.pad_top && y < geometry.meta.pad_top + geometry.resized.height &&
                              x >= geometry.meta.pad_left && x < geometry.meta.pad_left + geometry.resized.width;
          for (int plane = 0; plane < 3; ++plane) {
            const auto at = (static_cast<std::size_t>(plane) * kHeight + static_cast<std::size_t>(y)) * kWidth +
                            static_cast<std::size_t>(x);
            different += inner[at] == (inside ? whole[at] : kMark) ? 0 : 1;
          }
        }
      }
      CHECK(different == 0);
    }
  }
}

TEST_CASE("a call with the sizes of the call before allocates nothing") {
  std::vector<float> tensor(3 * kTarget.height * kTarget.width);
  for (const Isa isa : swiftdet::cpu::available_isas()) {
    for (const auto interpolation : {Interpolation::kLinear, Interpolation::kArea}) {
      for (const int channels : {1, 3, 4}) {
        for (const Size size : kSources) {
          const RandomImage first(size, channels, 1);
          const RandomImage second(size, channels, 2);
          ImageView reversed = second.view();
          reversed.data += (size.width - 1) * channels;
          reversed.pixel_stride = -channels;
          Preprocess preprocess;
          preprocess.interpolation = interpolation;
          swiftdet::ops::cpu::Letterbox letterbox(isa);
          letterbox.run(first.view(), ChannelOrder::kBgr, preprocess, kTarget, tensor.data());
          letterbox.run(reversed, ChannelOrder::kBgr, preprocess, kTarget, tensor.data());
          const long before = allocations::count();
          letterbox.run(second.view(), ChannelOrder::kBgr, preprocess, kTarget, tensor.data());
          letterbox.run(reversed, ChannelOrder::kRgb, preprocess, kTarget, tensor.data());
          CHECK(allocations::count() == before);
        }
      }
    }
  }
  CHECK(allocations::count() > 0);  // the counter counts
}

TEST_CASE("an object serves images of changing size, kind and preparation") {
  std::vector<float> tensor(3 * kTarget.height * kTarget.width);
  swiftdet::ops::Letterbox letterbox;
  for (int round = 0; round < 2; ++round) {
    for (const Size size : kSources) {
      for (const int channels : {3, 1, 4}) {
        for (const auto interpolation : {Interpolation::kArea, Interpolation::kLinear}) {
          Preprocess preprocess;
          preprocess.interpolation = interpolation;
          preprocess.divisor = size.width % 2 == 0 ? 255.0F : 1.0F;
          const RandomImage image(size, channels);
          letterbox.run(image.view(), ChannelOrder::kBgr, preprocess, kTarget, tensor.data());
          CHECK(tensor == letterboxed(image.view(), preprocess, ChannelOrder::kBgr, Isa::kScalar));
        }
      }
    }
  }
}

TEST_CASE("geometry of the letterbox") {
  const auto centred = letterbox_geometry({1080, 1920}, {640, 640}, ResizeMode::kLetterbox);
  CHECK(centred.resized == Size{360, 640});
  CHECK(centred.meta.pad_top == 140);
  CHECK(centred.meta.pad_left == 0);
  CHECK(centred.meta.scale_x == 640.0 / 1920.0);
  CHECK(centred.meta.scale_y == centred.meta.scale_x);

  // 427 / 2 = 106.5 above: the odd row goes below.
  const auto odd = letterbox_geometry({427, 640}, {640, 640}, ResizeMode::kLetterbox);
  CHECK(odd.meta.pad_top == 106);

  // 0.5 and 2.5 are rounded to even.
  CHECK(letterbox_geometry({5, 20}, {10, 10}, ResizeMode::kLetterbox).resized == Size{2, 10});
  CHECK(letterbox_geometry({1, 10000}, {640, 640}, ResizeMode::kLetterbox).resized == Size{1, 640});

  const auto corner = letterbox_geometry({427, 640}, {640, 640}, ResizeMode::kLetterboxTopLeft);
  CHECK(corner.resized == Size{427, 640});
  CHECK(corner.meta.pad_top == 0);

  const auto stretched = letterbox_geometry({100, 200}, {640, 320}, ResizeMode::kStretch);
  CHECK(stretched.resized == Size{640, 320});
  CHECK(stretched.meta.scale_y == 6.4);
  CHECK(stretched.meta.scale_x == 1.6);
}

TEST_CASE("bad arguments of letterbox are refused") {
  const RandomImage image({4, 4}, 3);
  std::vector<float> tensor(3 * 8 * 8);
  swiftdet::ops::Letterbox letterbox;
  const auto refused = [&](const ImageView& source, const Preprocess& preprocess, Size target, float* values) {
    CHECK_THROWS_AS(letterbox.run(source, ChannelOrder::kBgr, preprocess, target, values), swiftdet::InvalidArgument);
  };
  ImageView source = image.view();
  source.size.height = 0;
  refused(source, {}, {8, 8}, tensor.data());
  source = image.view();
  source.channels = 5;
  refused(source, {}, {8, 8}, tensor.data());
  refused(image.view(), {}, {0, 8}, tensor.data());
  refused(image.view(), {}, {8, 65536}, tensor.data());
  refused(image.view(), {}, {8, 8}, nullptr);
  Preprocess preprocess;
  preprocess.divisor = 0.0F;
  refused(image.view(), preprocess, {8, 8}, tensor.data());
  preprocess = {};
  preprocess.std[1] = 0.0F;
  refused(image.view(), preprocess, {8, 8}, tensor.data());
  preprocess = {};
  preprocess.mean[2] = std::nanf("");
  refused(image.view(), preprocess, {8, 8}, tensor.data());
}
