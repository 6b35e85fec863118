#include "ops/nms_order.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "swiftdet/base/error.hpp"

namespace swiftdet::ops {
namespace {

struct Entry {
  std::uint64_t key;
  std::int32_t index;
};

/// Ascending keys are scores descending, then classes ascending. `score` is finite; -0 ties with +0.
std::uint64_t order_key(float score, std::int32_t cls) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(score + 0.0F);
  const std::uint32_t ascending = (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
  return std::uint64_t{~ascending} << 32U | (static_cast<std::uint32_t>(cls) ^ 0x80000000U);
}

/// Small numbers for any int32 classes: the distance to the lowest, or their rank where they lie far apart.
class ClassNumbers {
 public:
  explicit ClassNumbers(std::span<const std::int32_t> classes) {
    if (classes.empty()) return;
    const auto [lowest, highest] = std::minmax_element(classes.begin(), classes.end());
    lowest_ = *lowest;
    if (std::int64_t{*highest} - lowest_ < kNear) return;
    known_.assign(classes.begin(), classes.end());
    std::sort(known_.begin(), known_.end());
    known_.erase(std::unique(known_.begin(), known_.end()), known_.end());
  }
  [[nodiscard]] std::int32_t of(std::int32_t cls) const noexcept {
    if (known_.empty()) return cls - lowest_;
    return static_cast<std::int32_t>(std::lower_bound(known_.begin(), known_.end(), cls) - known_.begin());
  }

 private:
  static constexpr std::int64_t kNear = 4096;
  std::int32_t lowest_ = 0;
  std::vector<std::int32_t> known_;
};

}  // namespace

void check_nms_options(const NmsOptions& options) {
  if (!(options.iou_threshold >= 0.0F && options.iou_threshold <= 1.0F)) {
    throw InvalidArgument("iou: expected a threshold within [0, 1], got " + std::to_string(options.iou_threshold));
  }
  if (options.max_det < -1) {
    throw InvalidArgument("max_det: expected 0 or more, or -1 for no limit, got " + std::to_string(options.max_det));
  }
}

Candidates in_nms_order(std::span<const float> boxes_xyxy, std::span<const float> scores,
                        std::span<const std::int32_t> classes) {
  if (boxes_xyxy.size() != 4 * scores.size() || classes.size() != scores.size()) {
    throw InvalidArgument("nms: expected boxes [K, 4], scores [K] and classes [K], got " +
                          std::to_string(boxes_xyxy.size()) + " coordinates, " + std::to_string(scores.size()) +
                          " scores and " + std::to_string(classes.size()) + " classes");
  }
  if (scores.size() > static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max())) {
    throw InvalidArgument("nms: expected fewer than 2^31 boxes, got " + std::to_string(scores.size()));
  }

  std::vector<Entry> order;
  order.reserve(scores.size());
  for (std::size_t i = 0; i < scores.size(); ++i) {
    const float* const box = boxes_xyxy.data() + 4 * i;
    if (!std::isfinite(scores[i]) || !std::all_of(box, box + 4, [](float v) { return std::isfinite(v); })) continue;
    order.push_back({order_key(scores[i], classes[i]), static_cast<std::int32_t>(i)});
  }
  std::sort(order.begin(), order.end(),
            [](const Entry& a, const Entry& b) { return a.key != b.key ? a.key < b.key : a.index < b.index; });
  const ClassNumbers numbers(classes);

  Candidates candidates;
  candidates.resize(order.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    const float* const box = boxes_xyxy.data() + 4 * static_cast<std::size_t>(order[i].index);
    candidates.x1[i] = box[0];
    candidates.y1[i] = box[1];
    candidates.x2[i] = box[2];
    candidates.y2[i] = box[3];
    candidates.score[i] = scores[static_cast<std::size_t>(order[i].index)];
    candidates.cls[i] = numbers.of(classes[static_cast<std::size_t>(order[i].index)]);
    candidates.anchor[i] = order[i].index;
  }
  return candidates;
}

}  // namespace swiftdet::ops
