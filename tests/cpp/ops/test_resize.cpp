// Equality with OpenCV is tested in tests/python/test_resize.py; here: every body against the scalar one, and memory.
#include <doctest/doctest.h>

#include <array>
#include <string>
#include <utility>
#include <vector>

#include "cpu/isa.hpp"
#include "ops/resize_axis.hpp"
#include "ops/resize_cpu.hpp"
#include "ops/test_images.hpp"
#include "swiftdet/base/error.hpp"
#include "swiftdet/ops/resize.hpp"

namespace {

using swiftdet::ImageView;
using swiftdet::MutableImageView;
using swiftdet::Size;
using swiftdet::cpu::Isa;
using swiftdet::ops::Interpolation;
using swiftdet::testing::GuardedImage;
using swiftdet::testing::GuardedSide;
using swiftdet::testing::RandomImage;

std::vector<std::uint8_t> resized(const ImageView& source, Size size, Interpolation interpolation, Isa isa) {
  const auto row = static_cast<std::size_t>(size.width) * static_cast<std::size_t>(source.channels);
  std::vector<std::uint8_t> pixels(static_cast<std::size_t>(size.height) * row);
  const MutableImageView target{pixels.data(), size, source.channels, static_cast<std::ptrdiff_t>(row)};
  swiftdet::ops::cpu::resize(source, target, interpolation, isa);
  return pixels;
}

// Whole, fractional and mixed factors, and widths round the bodies' vector widths.
constexpr std::array kSizes{
    std::pair{Size{1, 1}, Size{1, 1}},      std::pair{Size{1, 1}, Size{9, 33}},
    std::pair{Size{1, 2}, Size{3, 70}},     std::pair{Size{2, 3}, Size{1, 1}},
    std::pair{Size{5, 7}, Size{5, 7}},      std::pair{Size{6, 16}, Size{3, 8}},
    std::pair{Size{6, 18}, Size{3, 9}},     std::pair{Size{6, 34}, Size{3, 17}},
    std::pair{Size{6, 66}, Size{3, 33}},    std::pair{Size{9, 27}, Size{3, 9}},
    std::pair{Size{40, 97}, Size{8, 31}},   std::pair{Size{33, 65}, Size{20, 32}},
    std::pair{Size{20, 100}, Size{10, 33}}, std::pair{Size{31, 41}, Size{62, 90}},
    std::pair{Size{30, 200}, Size{60, 33}}, std::pair{Size{8, 8}, Size{4, 4}},
    std::pair{Size{8, 10}, Size{4, 5}},     std::pair{Size{50, 300}, Size{7, 35}},
    std::pair{Size{12, 31}, Size{12, 8}},   std::pair{Size{49, 98}, Size{1, 2}},
};

}  // namespace

TEST_CASE("every body gives the scalar body's pixels and reads nothing beyond the rows") {
  for (const Isa isa : swiftdet::cpu::available_isas()) {
    CAPTURE(std::string(swiftdet::cpu::isa_name(isa)));
    for (const auto interpolation : {Interpolation::kLinear, Interpolation::kArea}) {
      for (const int channels : {1, 3, 4}) {
        for (const auto& [from, to] : kSizes) {
          CAPTURE(from.height);
          CAPTURE(from.width);
          CAPTURE(to.height);
          CAPTURE(to.width);
          CAPTURE(channels);
          const RandomImage image(from, channels);
          const auto expected = resized(image.view(), to, interpolation, Isa::kScalar);
          CHECK(resized(image.view(), to, interpolation, isa) == expected);
          for (const auto side : {GuardedSide::kLeft, GuardedSide::kRight}) {
            const GuardedImage guarded(image.view(), side);
            CHECK(resized(guarded.view(), to, interpolation, isa) == expected);
          }
        }
      }
    }
  }
}

TEST_CASE("pixels that do not lie back to back are read one by one") {
  const RandomImage wide({20, 60}, 4);
  ImageView every_second_pixel_reversed = wide.view();
  every_second_pixel_reversed.channels = 3;
  every_second_pixel_reversed.size.width = 30;
  every_second_pixel_reversed.data += 59 * 4;
  every_second_pixel_reversed.pixel_stride = -8;

  std::vector<std::uint8_t> packed;
  for (int y = 0; y < 20; ++y) {
    for (int x = 0; x < 30; ++x) {
      for (int c = 0; c < 3; ++c) packed.push_back(wide.view().row(y)[(59 - 2 * x) * 4 + c]);
    }
  }
  const ImageView same{packed.data(), {20, 30}, 3, 90, 3, 1};
  for (const Isa isa : swiftdet::cpu::available_isas()) {
    for (const auto interpolation : {Interpolation::kLinear, Interpolation::kArea}) {
      for (const Size to : {Size{10, 15}, Size{7, 9}, Size{20, 30}, Size{5, 10}, Size{30, 40}}) {
        CHECK(resized(every_second_pixel_reversed, to, interpolation, isa) == resized(same, to, interpolation, isa));
      }
    }
  }
}

TEST_CASE("a target with padded rows keeps what lies between them") {
  const RandomImage image({9, 9}, 3);
  std::vector<std::uint8_t> pixels(4 * 20, 7);
  swiftdet::ops::resize(image.view(), {pixels.data(), {4, 5}, 3, 20}, Interpolation::kLinear);
  for (std::size_t y = 0; y < 4; ++y) {
    for (std::size_t x = 15; x < 20; ++x) CHECK(pixels[y * 20 + x] == 7);
  }
}

TEST_CASE("whole factors are judged on the rounded scale") {
  using swiftdet::ops::whole_shrink_factor;
  CHECK(whole_shrink_factor(6, 2) == 3);
  CHECK(whole_shrink_factor(5, 5) == 1);
  CHECK(whole_shrink_factor(7, 2) == 0);
  CHECK(whole_shrink_factor(2, 4) == 0);
  CHECK(whole_shrink_factor(49, 1) == 0);
}

TEST_CASE("runs of an area axis lie inside the source and weigh one") {
  for (const auto& [source, destination] : {std::pair{10, 3}, {7, 7}, {1366, 640}, {49, 1}, {65535, 640}}) {
    swiftdet::ops::AreaAxis axis;
    swiftdet::ops::fill_area(source, destination, axis);
    for (std::size_t d = 0; d < static_cast<std::size_t>(destination); ++d) {
      CHECK(axis.first[d] >= 0);
      CHECK(axis.first[d] + axis.taps <= source);
      double sum = 0;
      for (int k = 0; k < axis.taps; ++k)
        sum += axis.weights[d * static_cast<std::size_t>(axis.taps) + static_cast<std::size_t>(k)];
      CHECK(sum == doctest::Approx(1.0).epsilon(2e-3));
    }
  }
}

TEST_CASE("bad arguments of resize are refused") {
  const RandomImage image({4, 4}, 3);
  std::vector<std::uint8_t> pixels(64);
  const MutableImageView target{pixels.data(), {2, 2}, 3, 6};
  const auto refused = [&](ImageView source, MutableImageView to) {
    CHECK_THROWS_AS(swiftdet::ops::resize(source, to, Interpolation::kLinear), swiftdet::InvalidArgument);
  };
  ImageView source = image.view();
  source.size.width = 0;
  refused(source, target);
  source = image.view();
  source.size.height = 65536;
  refused(source, target);
  source = image.view();
  source.channels = 2;
  refused(source, target);
  source = image.view();
  source.data = nullptr;
  refused(source, target);
  MutableImageView other = target;
  other.channels = 4;
  refused(image.view(), other);
  other = target;
  other.size.height = 0;
  refused(image.view(), other);
  other = target;
  other.data = nullptr;
  refused(image.view(), other);
}
