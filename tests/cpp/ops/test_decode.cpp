#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <new>
#include <random>
#include <string>
#include <vector>

#include "allocations.hpp"
#include "ops/decode_kernels.hpp"
#include "ops/decode_scan.hpp"
#include "ops/decode_top.hpp"
#include "swiftdet/base/error.hpp"
#include "swiftdet/base/exp.hpp"
#include "swiftdet/ops/decode.hpp"

using swiftdet::ModelError;
using swiftdet::Shape;
using swiftdet::TensorView;
using swiftdet::ops::Candidates;
using swiftdet::ops::DecodeOptions;
using swiftdet::ops::Decoder;
using swiftdet::ops::HeadLayout;
using swiftdet::ops::HeadSpec;

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

std::vector<float> random_values(std::uint32_t seed, std::size_t count, float mean, float deviation) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(mean, deviation);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::bit_cast<std::uint32_t>(a[i]) != std::bit_cast<std::uint32_t>(b[i]) &&
        !(std::isnan(a[i]) && std::isnan(b[i]))) {
      return false;
    }
  }
  return true;
}

HeadSpec yolov7_raw(int classes) {
  HeadSpec head;
  head.layout = HeadLayout::kAnchorMaps;
  head.num_classes = classes;
  head.outputs = {"p3", "p4", "p5"};
  head.strides = {8, 16, 32};
  head.anchors = {{12, 16}, {19, 36}, {40, 28}, {36, 75}, {76, 55}, {72, 146}, {142, 110}, {192, 243}, {459, 401}};
  return head;
}

HeadSpec damo_maps(int classes) {
  HeadSpec head;
  head.layout = HeadLayout::kDistributionMaps;
  head.num_classes = classes;
  head.outputs = {"c3", "c4", "r3", "r4"};
  head.strides = {8, 16};
  head.reg_max = 16;
  head.scores_are_logits = true;
  return head;
}

HeadSpec single(HeadLayout layout, int classes, bool objectness) {
  HeadSpec head;
  head.layout = layout;
  head.num_classes = classes;
  head.outputs = {"output"};
  head.has_objectness = objectness;
  return head;
}

}  // namespace

TEST_CASE("every body of the inner loops agrees with the scalar one") {
  const auto& scalar = swiftdet::ops::cpu::kDecodeScalar;
  for (const auto isa : swiftdet::cpu::available_isas()) {
    CAPTURE(std::string(swiftdet::cpu::isa_name(isa)));
    const auto& body = swiftdet::ops::cpu::decode_kernels(isa);
    for (std::int32_t n = 0; n < 140; ++n) {
      CAPTURE(n);
      // One float of slack in front: unaligned starts.
      auto values = random_values(static_cast<std::uint32_t>(n), static_cast<std::size_t>(n) * 3 + 1, 0.0F, 1.0F);
      for (std::size_t i = 0; i < values.size(); i += 11) {
        const float odd[] = {kInf, -kInf, std::nanf(""), 0.5F, 0.0F};
        values[i] = odd[i / 11 % 5];
      }
      const float* const x = values.data() + 1;
      std::vector<std::int32_t> expected(static_cast<std::size_t>(n));
      std::vector<std::int32_t> got(static_cast<std::size_t>(n));
      for (const float threshold : {-9.0F, 0.0F, 0.5F, 1.5F, kInf}) {
        const auto check = [&](std::int32_t want, std::int32_t have) {
          REQUIRE(have == want);
          REQUIRE(std::equal(got.begin(), got.begin() + have, expected.begin()));
        };
        check(scalar.find_above(x, n, threshold, expected.data()), body.find_above(x, n, threshold, got.data()));
        check(scalar.find_scaled_above(x, n, 0.3F, threshold, expected.data()),
              body.find_scaled_above(x, n, 0.3F, threshold, got.data()));
        for (const std::ptrdiff_t stride : {1, 3}) {
          check(scalar.find_above_strided(x, n, stride, threshold, expected.data()),
                body.find_above_strided(x, n, stride, threshold, got.data()));
        }
      }
    }
    for (const std::int32_t count : {0, 1, 4, 7, 8, 9, 24, 100}) {
      for (const std::int32_t bins : {2, 8, 17}) {
        auto logits = random_values(5, 200 * static_cast<std::size_t>(bins), 0.0F, 8.0F);
        logits[3] = kInf;
        logits[4] = -kInf;
        logits[5] = std::nanf("");
        logits[206] = -200.0F;
        std::vector<std::int32_t> offsets;
        for (std::int32_t i = 0; i < count; ++i) offsets.push_back(i * 7 % 200);
        std::vector<float> expected(static_cast<std::size_t>(count));
        std::vector<float> got(static_cast<std::size_t>(count));
        scalar.expected_bins(logits.data(), offsets.data(), count, 200, bins, expected.data());
        body.expected_bins(logits.data(), offsets.data(), count, 200, bins, got.data());
        CHECK(same_bits(got, expected));
      }
    }
  }
}

TEST_CASE("the threshold in logit space is that of the scores") {
  std::mt19937 random(1);
  std::uniform_real_distribution<float> thresholds(0.0F, 1.0F);
  for (int round = 0; round < 200; ++round) {
    const float conf = round == 0 ? 0.0F : (round == 1 ? 0.001F : (round == 2 ? 0.25F : thresholds(random)));
    const float logit = swiftdet::ops::logit_threshold(conf);
    CHECK_FALSE(swiftdet::sigmoid_f32(logit) > conf);
    CHECK(swiftdet::sigmoid_f32(std::nextafter(logit, kInf)) > conf);
  }
  CHECK(swiftdet::ops::logit_threshold(1.0F) == kInf);
  CHECK(swiftdet::ops::logit_threshold(std::nextafter(1.0F, 0.0F)) < 20.0F);
}

TEST_CASE("the best candidates stay in order, whatever the limit") {
  std::mt19937 random(2);
  for (const std::size_t limit : {1U, 3U, 100U, 255U, 256U, 1000U, 5000U}) {
    for (const int pushed : {0, 1, 99, 257, 3000}) {
      swiftdet::ops::TopCandidates top;
      top.start(limit, 1000);
      std::vector<std::uint64_t> all;
      for (int i = 0; i < pushed; ++i) {
        const float score = static_cast<float>(1 + random() % 50) / 64.0F;
        const auto place = static_cast<std::uint32_t>(i) * 26U;  // unique; class = place / 1000
        top.push(score, static_cast<std::int32_t>(place / 1000), static_cast<std::int32_t>(place % 1000));
        all.push_back(std::uint64_t{std::bit_cast<std::uint32_t>(score)} << 32U | ~place);
      }
      std::sort(all.begin(), all.end(), std::greater<>());
      const auto kept = top.finish();
      REQUIRE(kept.size() == std::min(limit, all.size()));
      CHECK(std::equal(kept.begin(), kept.end(), all.begin()));
      CHECK(top.dropped() == static_cast<std::int64_t>(all.size() - kept.size()));
      for (const std::uint64_t key : kept) {
        CHECK(top.cls(key) * 1000 + top.anchor(key) == static_cast<std::int32_t>(~static_cast<std::uint32_t>(key)));
      }
    }
  }
}

TEST_CASE("what goes beyond max_candidates is counted") {
  const HeadSpec head = single(HeadLayout::kColumns, 3, false);
  std::vector<float> values(7 * 100, 0.5F);
  const TensorView output{values.data(), {1, 7, 100}};
  Decoder decoder(head);
  Candidates candidates;
  DecodeOptions options;
  options.multi_label = true;
  for (const int limit : {1, 10, 299, 300, 301}) {
    options.max_candidates = limit;
    decoder.run({&output, 1}, 0, options, candidates);
    CHECK(candidates.size() == static_cast<std::size_t>(std::min(limit, 300)));
    CHECK(candidates.dropped == std::max(0, 300 - limit));
    CHECK(candidates.anchor[candidates.size() - 1] == (std::min(limit, 300) - 1) % 100);
  }
}

TEST_CASE("a warm run allocates nothing, in every layout") {
  struct Case {
    HeadSpec head;
    std::vector<Shape> shapes;
  };
  std::vector<Case> cases{
      {yolov7_raw(80), {{1, 255, 20, 20}, {1, 255, 10, 10}, {1, 255, 5, 5}}},
      {yolov7_raw(80), {{1, 3, 20, 20, 85}, {1, 3, 10, 10, 85}, {1, 3, 5, 5, 85}}},
      {damo_maps(20), {{1, 20, 16, 16}, {1, 20, 8, 8}, {1, 68, 16, 16}, {1, 68, 8, 8}}},
      {single(HeadLayout::kColumns, 80, false), {{1, 84, 525}}},
      {single(HeadLayout::kRows, 80, true), {{1, 525, 85}}},
      {single(HeadLayout::kRows, 1, true), {{1, 525, 6}}},
      {single(HeadLayout::kDetections, 80, false), {{1, 300, 6}}},
  };
  HeadSpec pair = single(HeadLayout::kScoresBoxes, 80, false);
  pair.outputs = {"scores", "boxes"};
  cases.push_back({pair, {{1, 525, 80}, {1, 525, 4}}});
  for (const Case& c : cases) {
    CAPTURE(static_cast<int>(c.head.layout));
    std::vector<std::vector<float>> values;
    std::vector<TensorView> outputs;
    for (const Shape& shape : c.shapes) {
      values.push_back(random_values(9, static_cast<std::size_t>(shape.volume()), -0.3F, 1.0F));
      if (c.head.layout == HeadLayout::kDetections) {
        for (float& value : values.back()) value = std::fabs(value);
      }
    }
    for (std::size_t i = 0; i < values.size(); ++i) outputs.push_back({values[i].data(), c.shapes[i]});
    const long at_start = allocations::count();
    Decoder decoder(c.head);
    CHECK(allocations::count() > at_start);  // the counter works
    Candidates candidates;
    for (const bool multi_label : {true, false}) {
      DecodeOptions options;
      options.multi_label = multi_label;
      options.max_candidates = 500;
      decoder.run(outputs, 0, options, candidates);
      CHECK(candidates.size() > 0);
      const long before = allocations::count();
      for (int i = 0; i < 3; ++i) decoder.run(outputs, 0, options, candidates);
      CHECK(allocations::count() == before);
    }
  }
}

TEST_CASE("a run that ends for want of memory leaves nothing to the next") {
  for (const HeadSpec& head : {single(HeadLayout::kColumns, 3, false), single(HeadLayout::kColumns, 2, true)}) {
    // Every score of the first image is above every score of the second.
    const std::vector<float> high = random_values(3, 7 * 100, 50.0F, 1.0F);
    const std::vector<float> low = random_values(4, 7 * 100, 5.0F, 1.0F);
    const TensorView first{high.data(), {1, 7, 100}};
    const TensorView second{low.data(), {1, 7, 100}};
    Candidates expected;
    Decoder(head).run({&second, 1}, 0, {}, expected);
    REQUIRE(expected.size() == 100);
    bool failed = true;
    for (long calls = 1; failed; ++calls) {
      failed = false;
      CAPTURE(calls);
      Decoder decoder(head);
      Candidates candidates;
      allocations::fail_after(calls);
      try {
        decoder.run({&first, 1}, 0, {}, candidates);
      } catch (const std::bad_alloc&) {
        failed = true;
      }
      allocations::fail_after(0);
      decoder.run({&second, 1}, 0, {}, candidates);
      CHECK(same_bits(candidates.score, expected.score));
      CHECK(candidates.cls == expected.cls);
      CHECK(candidates.anchor == expected.anchor);
    }
  }
}

TEST_CASE("check_head names what does not fit, and lets dynamic dimensions pass") {
  const HeadSpec head = single(HeadLayout::kRows, 80, true);
  const auto check = [&](const Shape& shape) {
    const TensorView output{nullptr, shape};
    swiftdet::ops::check_head({&output, 1}, head);
  };
  CHECK_NOTHROW(check({1, 25200, 85}));
  CHECK_NOTHROW(check({-1, -1, 85}));
  CHECK_THROWS_WITH_AS(check({1, 84, 8400}),
                       "head of layout 'rows': output 'output': expected [N, P, 85], got [1, 84, 8400]; the "
                       "description does not fit this network",
                       ModelError);
  CHECK_THROWS_AS(check({25200, 85}), ModelError);
  Decoder decoder(head);
  Candidates candidates;
  const TensorView dynamic{nullptr, {1, -1, 85}};
  CHECK_THROWS_AS(decoder.run({&dynamic, 1}, 0, {}, candidates), ModelError);
  CHECK_THROWS_AS(decoder.run({}, 0, {}, candidates), ModelError);
  HeadSpec contradictory = head;
  contradictory.outputs = {"a", "b"};
  CHECK_THROWS_AS(Decoder{contradictory}, ModelError);
}

TEST_CASE("bad options are refused") {
  const HeadSpec head = single(HeadLayout::kColumns, 2, false);
  std::vector<float> values(6 * 4, 0.5F);
  const TensorView output{values.data(), {1, 6, 4}};
  Decoder decoder(head);
  Candidates candidates;
  const auto run = [&](float conf, int max_candidates, std::vector<std::uint8_t> classes, int image) {
    decoder.run({&output, 1}, image, {conf, false, classes, max_candidates}, candidates);
  };
  CHECK_NOTHROW(run(0.25F, 10, {1, 0}, 0));
  CHECK_THROWS_AS(run(-0.1F, 10, {}, 0), swiftdet::InvalidArgument);
  CHECK_THROWS_AS(run(1.5F, 10, {}, 0), swiftdet::InvalidArgument);
  CHECK_THROWS_AS(run(std::nanf(""), 10, {}, 0), swiftdet::InvalidArgument);
  CHECK_THROWS_AS(run(0.25F, 0, {}, 0), swiftdet::InvalidArgument);
  CHECK_THROWS_AS(run(0.25F, 10, {1}, 0), swiftdet::InvalidArgument);
  CHECK_THROWS_AS(run(0.25F, 10, {}, 1), swiftdet::InvalidArgument);
  CHECK_THROWS_AS(run(0.25F, 10, {}, -1), swiftdet::InvalidArgument);
}
