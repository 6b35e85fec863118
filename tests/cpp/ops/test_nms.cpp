#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "allocations.hpp"
#include "ops/nms_kernels.hpp"
#include "swiftdet/base/error.hpp"
#include "swiftdet/ops/nms.hpp"

using swiftdet::ops::Candidates;
using swiftdet::ops::Nms;
using swiftdet::ops::NmsOptions;
using swiftdet::ops::SizedBox;
using swiftdet::ops::cpu::KeptBlock;

namespace {

float area(float x1, float y1, float x2, float y2) { return (x2 - x1) * (y2 - y1); }

Candidates clustered(std::uint32_t seed, int count, int classes) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> place(0.0F, 600.0F);
  std::normal_distribution<float> jitter(0.0F, 7.0F);
  Candidates c;
  std::vector<float> centres;
  for (int i = 0; i < 40; ++i) centres.push_back(place(random));
  for (int i = 0; i < count; ++i) {
    const float x = centres[random() % centres.size()] + jitter(random);
    const float y = centres[random() % centres.size()] + jitter(random);
    c.x1.push_back(x);
    c.y1.push_back(y);
    c.x2.push_back(x + 60.0F + jitter(random));
    c.y2.push_back(y + 60.0F + jitter(random));
    c.score.push_back(1.0F - static_cast<float>(i) / static_cast<float>(count));
    c.cls.push_back(static_cast<std::int32_t>(random() % static_cast<unsigned>(classes)));
    c.anchor.push_back(i);
  }
  return c;
}

// The rule as a loop over pairs.
std::vector<std::int32_t> plain(const Candidates& c, const NmsOptions& options) {
  std::vector<std::int32_t> keep;
  for (std::size_t i = 0; i < c.size(); ++i) {
    bool survives = true;
    for (const std::int32_t kept : keep) {
      const auto k = static_cast<std::size_t>(kept);
      if (!options.class_agnostic && c.cls[k] != c.cls[i]) continue;
      const float w = std::max(std::min(c.x2[i], c.x2[k]) - std::max(c.x1[i], c.x1[k]), 0.0F);
      const float h = std::max(std::min(c.y2[i], c.y2[k]) - std::max(c.y1[i], c.y1[k]), 0.0F);
      const float inter = w * h;
      const float both = area(c.x1[k], c.y1[k], c.x2[k], c.y2[k]) + area(c.x1[i], c.y1[i], c.x2[i], c.y2[i]) - inter;
      if (inter / both > options.iou_threshold) survives = false;
    }
    if (survives) keep.push_back(static_cast<std::int32_t>(i));
  }
  return keep;
}

}  // namespace

TEST_CASE("survivors equal the plain loop's, and max_det takes a prefix") {
  Nms nms;
  for (std::uint32_t seed = 0; seed < 40; ++seed) {
    const Candidates c = clustered(seed, static_cast<int>(seed * 17), 1 + static_cast<int>(seed % 5));
    for (const float iou : {0.0F, 0.3F, 0.5F, 0.7F, 1.0F}) {
      for (const bool agnostic : {false, true}) {
        const auto expected = plain(c, {iou, agnostic, -1});
        const auto all = nms.run(c, {iou, agnostic, -1});
        REQUIRE(std::vector<std::int32_t>(all.begin(), all.end()) == expected);
        CHECK(nms.truncated() == 0);
        for (const int limit : {0, 1, 5, static_cast<int>(expected.size())}) {
          const auto some = nms.run(c, {iou, agnostic, limit});
          const std::size_t size = std::min(expected.size(), static_cast<std::size_t>(limit));
          REQUIRE(std::equal(some.begin(), some.end(), expected.begin(),
                             expected.begin() + static_cast<std::ptrdiff_t>(size)));
          // Everything from the first survivor beyond the limit on.
          const auto cut = size < expected.size() ? c.size() - static_cast<std::size_t>(expected[size]) : 0;
          CHECK(nms.truncated() == cut);
        }
      }
    }
  }
}

TEST_CASE("every body of the inner loop agrees") {
  std::mt19937 random(7);
  const float inf = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float odd[] = {0.0F, -0.0F, 1.0F, -1.0F, 1e-38F, 1e-45F, 3e38F, -3e38F, inf, -inf, nan, 1e19F, 0.5F};
  std::uniform_real_distribution<float> place(0.0F, 20.0F);
  for (const auto isa : swiftdet::cpu::available_isas()) {
    const auto body = swiftdet::ops::cpu::suppressed_by(isa);
    CAPTURE(std::string(swiftdet::cpu::isa_name(isa)));
    int suppressed = 0;
    for (int round = 0; round < 40000; ++round) {
      const auto coordinate = [&] {
        return round % 3 == 0 ? odd[random() % std::size(odd)]
                              : (round % 3 == 1 ? std::floor(place(random)) : place(random));
      };
      KeptBlock blocks[3];
      for (KeptBlock& block : blocks) {
        for (int i = 0; i < KeptBlock::kBoxes; ++i) {
          block.x1[i] = coordinate();
          block.y1[i] = coordinate();
          block.x2[i] = block.x1[i] + coordinate();
          block.y2[i] = block.y1[i] + coordinate();
          block.area[i] = area(block.x1[i], block.y1[i], block.x2[i], block.y2[i]);
        }
      }
      SizedBox box{coordinate(), coordinate(), 0.0F, 0.0F, 0.0F};
      box.x2 = box.x1 + coordinate();
      box.y2 = box.y1 + coordinate();
      box.area = area(box.x1, box.y1, box.x2, box.y2);
      const auto count = static_cast<std::int32_t>(random() % 4);
      const float iou = round % 2 == 0 ? 0.5F : 0.3F;
      const bool expected = swiftdet::ops::cpu::suppressed_scalar(box, blocks, count, iou);
      REQUIRE(body(box, blocks, count, iou) == expected);
      suppressed += expected ? 1 : 0;
    }
    CHECK(suppressed > 1000);
  }
}

TEST_CASE("a warm run allocates nothing") {
  const Candidates c = clustered(3, 3000, 80);
  const long at_start = allocations::count();
  Nms nms;
  (void)nms.run(c, {0.65F, false, -1});
  (void)nms.run(c, {0.65F, true, -1});
  CHECK(allocations::count() > at_start);  // the counter works
  const long before = allocations::count();
  for (int i = 0; i < 3; ++i) {
    CHECK_FALSE(nms.run(c, {0.65F, false, -1}).empty());
    CHECK_FALSE(nms.run(c, {0.65F, true, 300}).empty());
  }
  CHECK(allocations::count() == before);
}

TEST_CASE("bad options are refused") {
  Nms nms;
  const Candidates c = clustered(1, 10, 2);
  CHECK_THROWS_AS((void)nms.run(c, {-0.1F, false, -1}), swiftdet::InvalidArgument);
  CHECK_THROWS_AS((void)nms.run(c, {1.1F, false, -1}), swiftdet::InvalidArgument);
  CHECK_THROWS_AS((void)nms.run(c, {std::nanf(""), false, -1}), swiftdet::InvalidArgument);
  CHECK_THROWS_AS((void)nms.run(c, {0.5F, false, -2}), swiftdet::InvalidArgument);
  const std::vector<float> boxes(8);
  const std::vector<float> scores(2);
  const std::vector<std::int32_t> classes(1);
  CHECK_THROWS_AS((void)swiftdet::ops::nms(boxes, scores, classes, {}), swiftdet::InvalidArgument);
}

TEST_CASE("the one-shot form orders by score, class, index and drops what is not finite") {
  const float inf = std::numeric_limits<float>::infinity();
  const std::vector<float> boxes{0, 0, 1, 1, 5, 5, 6, 6, 9, 9, 10, 10, 20, 20, inf, 21, 30, 30, 31, 31};
  const std::vector<float> scores{0.5F, 0.5F, 0.9F, 0.9F, std::nanf("")};
  const std::vector<std::int32_t> classes{7, -7, 0, 0, 0};
  const std::vector<std::int64_t> expected{2, 1, 0};
  CHECK(swiftdet::ops::nms(boxes, scores, classes, {0.5F, true, -1}) == expected);
}
