// Operations on a GPU for arrays of the host, against those of the CPU: every value bit for bit.
#include <doctest/doctest.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "head_cases.hpp"
#include "random.hpp"
#include "swiftdet/base/error.hpp"
#include "swiftdet/ops/cuda/one_shot.hpp"
#include "swiftdet/ops/decode.hpp"
#include "swiftdet/ops/letterbox.hpp"
#include "swiftdet/ops/nms.hpp"
#include "swiftdet/ops/resize.hpp"

using namespace swiftdet;           // NOLINT(google-build-using-namespace): a test
using namespace swiftdet::testing;  // NOLINT(google-build-using-namespace): a test

namespace {

constexpr int kDevice = 0;

bool same_bits(std::span<const float> a, std::span<const float> b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::bit_cast<std::uint32_t>(a[i]) != std::bit_cast<std::uint32_t>(b[i])) return false;
  }
  return true;
}

std::size_t values(Size size, int channels) {
  return static_cast<std::size_t>(size.height) * static_cast<std::size_t>(size.width) *
         static_cast<std::size_t>(channels);
}

Size random_size(Random& random) { return {random.between(1, 60), random.between(1, 90)}; }

std::vector<std::uint8_t> noise(Random& random, std::size_t count) {
  std::vector<std::uint8_t> bytes(count);
  for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random.between(0, 255));
  return bytes;
}

/// Pixels with room after each row, seen forwards or mirrored.
ImageView view_of(Random& random, const std::vector<std::uint8_t>& pixels, Size size, int channels, int row) {
  if (random.chance(50)) return {pixels.data(), size, channels, row, channels, 1};
  return {pixels.data() + std::ptrdiff_t{channels} * (size.width - 1), size, channels, row, -channels, 1};
}

ops::Preprocess random_preprocess(Random& random) {
  ops::Preprocess preprocess;
  preprocess.mode =
      random.one_of({ops::ResizeMode::kLetterbox, ops::ResizeMode::kLetterboxTopLeft, ops::ResizeMode::kStretch});
  preprocess.interpolation = random.one_of({ops::Interpolation::kLinear, ops::Interpolation::kArea});
  preprocess.pad_value = static_cast<std::uint8_t>(random.between(0, 255));
  preprocess.divisor = random.one_of({255.0F, 1.0F, -3.5F});
  if (random.chance(50)) preprocess.mean = {0.485F, 0.456F, 0.406F};
  if (random.chance(50)) preprocess.std = {0.229F, -0.224F, 0.225F};
  return preprocess;
}

}  // namespace

TEST_CASE("letterbox and resize in one call equal the CPU's") {
  for (int seed = 0; seed < SWIFTDET_TEST_CASES; ++seed) {
    CAPTURE(seed);
    Random random(static_cast<unsigned>(seed));
    const Size size = random_size(random);
    const Size target = random.chance(15) ? size : random_size(random);
    const int channels = random.one_of({1, 3, 4});
    const int row = size.width * channels + random.between(0, 7);
    const std::vector<std::uint8_t> pixels = noise(random, values({size.height, row}, 1));
    const ImageView view = view_of(random, pixels, size, channels, row);
    const ChannelOrder order = random.one_of({ChannelOrder::kBgr, ChannelOrder::kRgb});
    const ops::Preprocess preprocess = random_preprocess(random);

    std::vector<float> expected(values(target, 3));
    std::vector<float> scaled(expected.size());
    const ops::LetterboxMeta meta = ops::Letterbox().run(view, order, preprocess, target, expected.data());
    CHECK(ops::cuda::letterbox_once(kDevice, view, order, preprocess, target, scaled.data()) == meta);
    CHECK(same_bits(scaled, expected));

    std::vector<std::uint8_t> expected_bytes(expected.size());
    std::vector<std::uint8_t> bytes(expected.size());
    ops::Letterbox().run(view, order, preprocess, target, expected_bytes.data());
    CHECK(ops::cuda::letterbox_once(kDevice, view, order, preprocess, target, bytes.data()) == meta);
    CHECK(bytes == expected_bytes);

    const auto resized = [&](const auto& resize) {
      std::vector<std::uint8_t> result(values(target, channels));
      resize(MutableImageView{result.data(), target, channels, std::ptrdiff_t{channels} * target.width});
      return result;
    };
    const auto on_cpu = [&](const MutableImageView& to) { ops::resize(view, to, preprocess.interpolation); };
    const auto on_gpu = [&](const MutableImageView& to) {
      ops::cuda::resize_once(kDevice, view, to, preprocess.interpolation);
    };
    CHECK(resized(on_gpu) == resized(on_cpu));
  }
}

TEST_CASE("decode and NMS in one call equal the CPU's") {
  for (const HeadForm form : kAllForms) {
    CAPTURE(name_of(form));
    std::size_t found = 0;
    for (int seed = 0; seed < SWIFTDET_TEST_CASES; ++seed) {
      CAPTURE(seed);
      Random random(static_cast<unsigned>(seed) * 31U + static_cast<unsigned>(form));
      const HeadCase c = random_head(form, random);
      const auto image = random.between(0, static_cast<int>(c.shapes[0][0]) - 1);
      ops::DecodeOptions options;
      options.conf_threshold = random.real(0.0F, 0.5F);
      options.multi_label = random.chance(40);
      options.max_candidates = random.one_of({ops::kMaxCandidates, random.between(1, 40)});
      std::vector<std::uint8_t> flags(static_cast<std::size_t>(c.head.num_classes));
      for (std::uint8_t& flag : flags) flag = random.chance(60) ? 1 : 0;
      if (random.chance(30)) options.classes = flags;

      ops::Candidates expected;
      ops::Candidates candidates;
      ops::Decoder(c.head).run(c.views(), image, options, expected);
      ops::cuda::decode_once(kDevice, c.views(), c.head, image, options, candidates);
      CHECK(same_bits(candidates.x1, expected.x1));
      CHECK(same_bits(candidates.y1, expected.y1));
      CHECK(same_bits(candidates.x2, expected.x2));
      CHECK(same_bits(candidates.y2, expected.y2));
      CHECK(same_bits(candidates.score, expected.score));
      CHECK(candidates.cls == expected.cls);
      CHECK(candidates.anchor == expected.anchor);
      CHECK(candidates.dropped == expected.dropped);
      found += expected.size();

      std::vector<float> boxes;
      for (std::size_t i = 0; i < expected.size(); ++i) {
        boxes.insert(boxes.end(), {expected.x1[i], expected.y1[i], expected.x2[i], expected.y2[i]});
      }
      const ops::NmsOptions nms{.iou_threshold = random.real(0.0F, 1.0F),
                                .class_agnostic = random.chance(30),
                                .max_det = random.one_of({-1, 0, 3, 300})};
      CHECK(ops::cuda::nms_once(kDevice, boxes, expected.score, expected.cls, nms) ==
            ops::nms(boxes, expected.score, expected.cls, nms));
    }
    CHECK(found > 0);
  }
}

TEST_CASE("a device that is not there is refused") {
  CHECK_THROWS_AS(static_cast<void>(ops::cuda::nms_once(1000, {}, {}, {}, {.max_det = -2})), InvalidArgument);
  const std::vector<float> box{0.0F, 0.0F, 1.0F, 1.0F};
  const std::vector<float> score{0.5F};
  const std::vector<std::int32_t> cls{0};
  CHECK_THROWS_AS(static_cast<void>(ops::cuda::nms_once(1000, box, score, cls, {})), BackendUnavailable);
}
