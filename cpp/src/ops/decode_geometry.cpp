#include "ops/decode_geometry.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <initializer_list>
#include <limits>
#include <string>
#include <string_view>

#include "swiftdet/base/error.hpp"
#include "swiftdet/ops/decode.hpp"

namespace swiftdet::ops {
namespace {

std::string_view layout_name(HeadLayout layout) {
  switch (layout) {
    case HeadLayout::kAnchorMaps: return "anchor_maps";
    case HeadLayout::kRows: return "rows";
    case HeadLayout::kColumns: return "columns";
    case HeadLayout::kScoresBoxes: return "scores_boxes";
    case HeadLayout::kDistributionMaps: return "distribution_maps";
    case HeadLayout::kDetections: return "detections";
  }
  return "unknown";
}

std::size_t expected_outputs(const HeadSpec& head) {
  switch (head.layout) {
    case HeadLayout::kAnchorMaps: return head.strides.size();
    case HeadLayout::kDistributionMaps: return 2 * head.strides.size();
    case HeadLayout::kScoresBoxes: return 2;
    default: return 1;
  }
}

std::string prefix(const HeadSpec& head) { return "head of layout '" + std::string(layout_name(head.layout)) + "': "; }

void expect(bool holds, const HeadSpec& head, const char* sentence) {
  if (!holds) throw ModelError(prefix(head) + sentence);
}

constexpr std::int64_t kAny = -1;

/// A dynamic dimension fits everything.
bool fits(std::int64_t found, std::int64_t expected) noexcept { return found < 0 || expected < 0 || found == expected; }

bool fits(const Shape& shape, std::initializer_list<std::int64_t> expected) noexcept {
  return shape.rank() == expected.size() && std::equal(shape.begin(), shape.end(), expected.begin(),
                                                       [](std::int64_t a, std::int64_t b) { return fits(a, b); });
}

[[noreturn]] void refuse(const HeadSpec& head, std::size_t output, const TensorView& found,
                         const std::string& expected) {
  throw ModelError(prefix(head) + "output '" + head.outputs[output] + "': expected " + expected + ", got " +
                   found.shape.to_string() + "; the description does not fit this network");
}

std::string n(std::int64_t value) { return std::to_string(value); }

void check_levels(std::span<const TensorView> outputs, const HeadSpec& head, std::size_t first_output,
                  std::size_t row_axis_from_end) {
  // Every level covers the same input, so levels in another order than the strides show here.
  for (std::size_t level = 1; level < head.strides.size(); ++level) {
    const Shape& base = outputs[first_output].shape;
    const Shape& shape = outputs[first_output + level].shape;
    for (std::size_t axis = 0; axis < 2; ++axis) {
      const std::int64_t a = base[base.rank() - row_axis_from_end + axis];
      const std::int64_t b = shape[shape.rank() - row_axis_from_end + axis];
      if (a < 0 || b < 0 || a * head.strides[0] == b * head.strides[level]) continue;
      refuse(head, first_output + level, outputs[first_output + level],
             "a map of stride " + n(head.strides[level]) + " that covers the same input as '" +
                 head.outputs[first_output] + "' " + base.to_string() + " of stride " + n(head.strides[0]));
    }
  }
}

void check_shapes(std::span<const TensorView> outputs, const HeadSpec& head) {
  if (outputs.size() != head.outputs.size()) {
    throw ModelError(prefix(head) + "expected " + n(static_cast<std::int64_t>(head.outputs.size())) + " outputs, got " +
                     n(static_cast<std::int64_t>(outputs.size())));
  }
  const std::int64_t classes = head.num_classes;
  const std::int64_t values = (head.has_objectness ? 5 : 4) + classes;
  const std::int64_t batch = outputs[0].shape.rank() > 0 ? outputs[0].shape[0] : kAny;
  const auto check = [&](std::size_t i, std::initializer_list<std::int64_t> dims, const char* words) {
    if (!fits(outputs[i].shape, dims)) refuse(head, i, outputs[i], words);
  };
  switch (head.layout) {
    case HeadLayout::kRows:
      if (!fits(outputs[0].shape, {kAny, kAny, values})) refuse(head, 0, outputs[0], "[N, P, " + n(values) + "]");
      break;
    case HeadLayout::kColumns:
      if (!fits(outputs[0].shape, {kAny, values, kAny})) refuse(head, 0, outputs[0], "[N, " + n(values) + ", P]");
      break;
    case HeadLayout::kDetections: check(0, {kAny, kAny, 6}, "[N, M, 6]"); break;
    case HeadLayout::kScoresBoxes: {
      const bool swapped = head.scores_class_major;
      const Shape& scores = outputs[0].shape;
      if (!fits(scores, {kAny, swapped ? classes : kAny, swapped ? kAny : classes})) {
        refuse(head, 0, outputs[0],
               swapped ? "scores [N, " + n(classes) + ", P]" : "scores [N, P, " + n(classes) + "]");
      }
      const std::int64_t predictions = scores[swapped ? 2 : 1];
      if (!fits(outputs[1].shape, {batch, predictions, 4}) && !fits(outputs[1].shape, {batch, predictions, 1, 4})) {
        refuse(head, 1, outputs[1], "boxes [N, P, 4] or [N, P, 1, 4] for the scores " + outputs[0].shape.to_string());
      }
      break;
    }
    case HeadLayout::kAnchorMaps: {
      const std::int64_t per_cell = anchors_per_cell(head);
      for (std::size_t i = 0; i < outputs.size(); ++i) {
        if (fits(outputs[i].shape, {batch, per_cell * (5 + classes), kAny, kAny})) continue;
        if (fits(outputs[i].shape, {batch, per_cell, kAny, kAny, 5 + classes})) continue;
        refuse(head, i, outputs[i],
               "[N, " + n(per_cell * (5 + classes)) + ", h, w] or [N, " + n(per_cell) + ", h, w, " + n(5 + classes) +
                   "] with the N of '" + head.outputs[0] + "'");
      }
      for (std::size_t i = 1; i < outputs.size(); ++i) {
        if (outputs[i].shape.rank() != outputs[0].shape.rank()) {
          refuse(head, i, outputs[i], "the memory form of '" + head.outputs[0] + "' " + outputs[0].shape.to_string());
        }
      }
      check_levels(outputs, head, 0, outputs[0].shape.rank() == 5 ? 3 : 2);
      break;
    }
    case HeadLayout::kDistributionMaps: {
      const std::size_t levels = head.strides.size();
      const std::int64_t sides = 4 * (static_cast<std::int64_t>(head.reg_max) + 1);
      for (std::size_t i = 0; i < levels; ++i) {
        if (!fits(outputs[i].shape, {batch, classes, kAny, kAny})) {
          refuse(head, i, outputs[i], "scores [N, " + n(classes) + ", h, w] with the N of '" + head.outputs[0] + "'");
        }
        const Shape& scores = outputs[i].shape;
        if (!fits(outputs[levels + i].shape, {batch, sides, scores[2], scores[3]})) {
          refuse(head, levels + i, outputs[levels + i],
                 "distances [N, " + n(sides) + ", h, w] for the scores " + scores.to_string());
        }
      }
      check_levels(outputs, head, 0, 2);
      break;
    }
  }
}

}  // namespace

void check_spec(const HeadSpec& head) {
  const bool maps = head.layout == HeadLayout::kAnchorMaps || head.layout == HeadLayout::kDistributionMaps;
  expect(head.num_classes >= 1, head, "num_classes must be at least 1");
  if (maps) {
    expect(!head.strides.empty() && head.strides.size() <= kMaxLevels, head, "strides: expected one to eight levels");
    expect(head.strides[0] >= 1 && std::adjacent_find(head.strides.begin(), head.strides.end(),
                                                      std::greater_equal<>()) == head.strides.end(),
           head, "strides must be positive and ascending");
  }
  if (head.outputs.size() != expected_outputs(head)) {
    throw ModelError(prefix(head) + "expected " + n(static_cast<std::int64_t>(expected_outputs(head))) +
                     " output names, got " + n(static_cast<std::int64_t>(head.outputs.size())));
  }
  if (head.layout == HeadLayout::kAnchorMaps) {
    expect(!head.anchors.empty() && head.anchors.size() % head.strides.size() == 0, head,
           "anchors: expected the same number of (width, height) for every level");
    expect(
        std::all_of(head.anchors.begin(), head.anchors.end(),
                    [](const auto& a) { return std::isfinite(a[0]) && std::isfinite(a[1]) && a[0] > 0 && a[1] > 0; }),
        head, "anchors must be positive and finite");
  }
  if (head.layout == HeadLayout::kDistributionMaps) {
    expect(head.reg_max >= 1 && head.reg_max <= 1023, head, "reg_max must be 1 to 1023 (bins of a side, minus 1)");
  }
  if (head.has_objectness) {
    expect(head.layout != HeadLayout::kScoresBoxes && head.layout != HeadLayout::kDistributionMaps &&
               head.layout != HeadLayout::kDetections,
           head, "has_objectness belongs to rows, columns and anchor_maps");
  }
}

HeadGeometry measure_head(std::span<const TensorView> outputs, const HeadSpec& head) {
  check_shapes(outputs, head);
  HeadGeometry geometry;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    const Shape& shape = outputs[i].shape;
    if (!shape.is_static()) refuse(head, i, outputs[i], "a shape without dynamic dimensions");
    // Indices inside a tensor are 32-bit.
    if (shape.volume() / std::max<std::int64_t>(shape[0], 1) > std::numeric_limits<std::int32_t>::max()) {
      refuse(head, i, outputs[i], "fewer than 2^31 values per image");
    }
  }
  geometry.batch = outputs[0].shape[0];
  std::int64_t predictions = 0;
  switch (head.layout) {
    case HeadLayout::kRows:
    case HeadLayout::kDetections: predictions = outputs[0].shape[1]; break;
    case HeadLayout::kColumns: predictions = outputs[0].shape[2]; break;
    case HeadLayout::kScoresBoxes: predictions = outputs[1].shape[1]; break;
    case HeadLayout::kAnchorMaps:
    case HeadLayout::kDistributionMaps: {
      const bool anchored = head.layout == HeadLayout::kAnchorMaps;
      for (std::size_t i = 0; i < head.strides.size(); ++i) {
        const Shape& shape = outputs[i].shape;
        const bool interleaved = shape.rank() == 5;
        Level& level = geometry.levels[i];
        level.interleaved = interleaved;
        level.height = static_cast<std::int32_t>(shape[2]);
        level.width = static_cast<std::int32_t>(shape[3]);
        level.first_anchor = static_cast<std::int32_t>(predictions);
        predictions += static_cast<std::int64_t>(level.cells()) * (anchored ? anchors_per_cell(head) : 1);
      }
      break;
    }
  }
  // A candidate is ordered by one 32-bit number made of its class and its prediction.
  if (predictions > std::numeric_limits<std::int32_t>::max() ||
      predictions * head.num_classes > static_cast<std::int64_t>(std::numeric_limits<std::uint32_t>::max())) {
    throw ModelError(prefix(head) + n(predictions) + " predictions of " + n(head.num_classes) +
                     " classes: expected fewer than 2^32 scores per image");
  }
  geometry.predictions = static_cast<std::int32_t>(predictions);
  return geometry;
}

void check_head(std::span<const TensorView> outputs, const HeadSpec& head) {
  check_spec(head);
  check_shapes(outputs, head);
}

}  // namespace swiftdet::ops
