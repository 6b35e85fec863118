// Generated network outputs: every head layout, small sizes, values full of ties and of what must be dropped.
#pragma once

#include <cuda_fp16.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "random.hpp"
#include "swiftdet/base/tensor_view.hpp"
#include "swiftdet/ops/head.hpp"

namespace swiftdet::testing {

/// The layouts, with the memory forms in which they differ.
enum class HeadForm : std::uint8_t {
  kAnchorMapsPlanar,
  kAnchorMapsInterleaved,
  kRowsWithObjectness,
  kRows,
  kColumns,
  kColumnsWithObjectness,
  kScoresBoxes,
  kScoresBoxesClassMajor,
  kDistributionMaps,
  kDetections,
};
inline constexpr HeadForm kAllForms[] = {
    HeadForm::kAnchorMapsPlanar,
    HeadForm::kAnchorMapsInterleaved,
    HeadForm::kRowsWithObjectness,
    HeadForm::kRows,
    HeadForm::kColumns,
    HeadForm::kColumnsWithObjectness,
    HeadForm::kScoresBoxes,
    HeadForm::kScoresBoxesClassMajor,
    HeadForm::kDistributionMaps,
    HeadForm::kDetections,
};
inline const char* name_of(HeadForm form) {
  constexpr const char* kNames[] = {"anchor_maps planar",
                                    "anchor_maps interleaved",
                                    "rows with objectness",
                                    "rows",
                                    "columns",
                                    "columns with objectness",
                                    "scores_boxes",
                                    "scores_boxes by class",
                                    "distribution_maps",
                                    "detections"};
  return kNames[static_cast<int>(form)];
}

struct HeadCase {
  ops::HeadSpec head;
  std::vector<Shape> shapes;
  std::vector<std::vector<float>> values;  ///< of each output

  [[nodiscard]] std::vector<TensorView> views() const {
    std::vector<TensorView> all;
    for (std::size_t i = 0; i < shapes.size(); ++i) all.push_back({values[i].data(), shapes[i]});
    return all;
  }
};

/// How large the cases may be.
struct CaseLimits {
  int predictions = 150;
  int classes = 12;
  int batch = 3;
};

namespace detail {

inline float special(Random& random) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  return random.one_of({std::numeric_limits<float>::quiet_NaN(), kInf, -kInf, -0.0F, 0.0F});
}

/// Coarse steps make ties; what a float16 cannot hold is rounded away by the caller.
inline float logit(Random& random) {
  if (random.chance(2)) return special(random);
  return random.chance(50) ? static_cast<float>(random.between(-24, 12)) / 4.0F : random.real(-8.0F, 4.0F);
}
inline float probability(Random& random) {
  if (random.chance(2)) return special(random);
  return random.chance(50) ? static_cast<float>(random.between(0, 16)) / 16.0F : random.real(0.0F, 1.0F);
}
/// Few places, so that boxes overlap.
inline float coordinate(Random& random) {
  if (random.chance(1)) return special(random);
  return static_cast<float>(random.between(0, 40)) * 4.0F + (random.chance(30) ? random.real(0.0F, 1.0F) : 0.0F);
}

/// The values of one prediction that are not scores, in the head's own coding.
inline float box_value(Random& random, const ops::HeadSpec& head, int value) {
  if (head.layout == ops::HeadLayout::kAnchorMaps || head.layout == ops::HeadLayout::kDistributionMaps) {
    return logit(random);
  }
  const bool far_side = value >= 2;
  if (head.box_format == ops::BoxFormat::kXyxy) return coordinate(random) + (far_side ? 40.0F : 0.0F);
  return far_side ? coordinate(random) / 2.0F : coordinate(random);
}

}  // namespace detail

inline HeadCase random_head(HeadForm form, Random& random, const CaseLimits& limits = {}) {
  using detail::box_value;
  using ops::HeadLayout;
  HeadCase result;
  ops::HeadSpec& head = result.head;
  const std::int64_t batch = random.between(1, limits.batch);
  const int classes = random.chance(20) ? 1 : random.between(1, limits.classes);
  const std::int64_t predictions = random.between(random.chance(5) ? 0 : 1, limits.predictions);
  head.num_classes = classes;
  head.box_format = random.one_of({ops::BoxFormat::kXyxy, ops::BoxFormat::kCxcywh});
  head.has_objectness = form == HeadForm::kRowsWithObjectness || form == HeadForm::kColumnsWithObjectness;
  head.scores_are_logits = form != HeadForm::kDetections && random.chance(50);
  const auto score = [&] {
    const bool logits = head.scores_are_logits || head.layout == HeadLayout::kAnchorMaps;
    return logits ? detail::logit(random) : detail::probability(random);
  };
  const auto add = [&](const Shape& shape) -> std::vector<float>& {
    head.outputs.push_back("output" + std::to_string(head.outputs.size()));
    result.shapes.push_back(shape);
    result.values.emplace_back(static_cast<std::size_t>(shape.volume()));
    return result.values.back();
  };
  /// Calls make(value) for value v of each prediction: [outer][v][inner].
  const auto fill = [](std::vector<float>& values, std::int64_t count, std::int64_t inner, auto make) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = make(static_cast<int>(static_cast<std::int64_t>(i) / inner % count));
    }
  };

  switch (form) {
    case HeadForm::kRows:
    case HeadForm::kRowsWithObjectness: {
      head.layout = HeadLayout::kRows;
      const std::int64_t count = (head.has_objectness ? 5 : 4) + classes;
      fill(add({batch, predictions, count}), count, 1,
           [&](int v) { return v < 4 ? box_value(random, head, v) : score(); });
      break;
    }
    case HeadForm::kColumns:
    case HeadForm::kColumnsWithObjectness: {
      head.layout = HeadLayout::kColumns;
      const std::int64_t count = (head.has_objectness ? 5 : 4) + classes;
      fill(add({batch, count, predictions}), count, std::max<std::int64_t>(predictions, 1),
           [&](int v) { return v < 4 ? box_value(random, head, v) : score(); });
      break;
    }
    case HeadForm::kScoresBoxes:
    case HeadForm::kScoresBoxesClassMajor: {
      head.layout = HeadLayout::kScoresBoxes;
      head.scores_class_major = form == HeadForm::kScoresBoxesClassMajor;
      fill(add(head.scores_class_major ? Shape{batch, classes, predictions} : Shape{batch, predictions, classes}), 1, 1,
           [&](int) { return score(); });
      fill(add(random.chance(50) ? Shape{batch, predictions, 4} : Shape{batch, predictions, 1, 4}), 4, 1,
           [&](int v) { return box_value(random, head, v); });
      break;
    }
    case HeadForm::kDetections:
      head.layout = HeadLayout::kDetections;
      head.box_format = ops::BoxFormat::kXyxy;
      fill(add({batch, predictions, 6}), 6, 1, [&](int v) {
        if (v < 4) return box_value(random, head, v);
        if (v == 4) return detail::probability(random);
        return random.chance(10) ? detail::special(random)
                                 : static_cast<float>(random.between(-1, classes)) + (random.chance(20) ? 0.5F : 0.0F);
      });
      break;
    case HeadForm::kAnchorMapsPlanar:
    case HeadForm::kAnchorMapsInterleaved:
    case HeadForm::kDistributionMaps: {
      const bool anchored = form != HeadForm::kDistributionMaps;
      head.layout = anchored ? HeadLayout::kAnchorMaps : HeadLayout::kDistributionMaps;
      const int levels = random.between(1, 3);
      const int per_cell = anchored ? random.between(1, 3) : 1;
      const int height = random.between(1, 3);
      const int width = random.between(1, 3);
      head.reg_max = anchored ? 0 : random.between(1, 8);
      const auto size = [&](int level, int side) { return std::int64_t{side} << (levels - 1 - level); };
      for (int i = 0; i < levels; ++i) head.strides.push_back(8 << i);
      if (anchored) {
        for (int i = 0; i < levels * per_cell; ++i) {
          head.anchors.push_back({random.real(4.0F, 120.0F), random.real(4.0F, 120.0F)});
        }
      }
      for (int i = 0; i < levels; ++i) {
        const std::int64_t h = size(i, height);
        const std::int64_t w = size(i, width);
        Shape shape{batch, classes, h, w};
        if (form == HeadForm::kAnchorMapsPlanar) shape = {batch, per_cell * (5 + classes), h, w};
        if (form == HeadForm::kAnchorMapsInterleaved) shape = {batch, per_cell, h, w, 5 + classes};
        fill(add(shape), 1, 1, [&](int) { return score(); });
      }
      for (int i = 0; i < levels && !anchored; ++i) {
        fill(add({batch, 4 * (head.reg_max + 1), size(i, height), size(i, width)}), 1, 1,
             [&](int) { return box_value(random, head, 0); });
      }
      break;
    }
  }
  return result;
}

/// Rounds every value to one that a float16 holds.
inline void round_to_half(HeadCase& c) {
  for (auto& values : c.values) {
    for (float& value : values) value = __half2float(__float2half_rn(value));
  }
}

}  // namespace swiftdet::testing
