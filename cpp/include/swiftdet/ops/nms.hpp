// Greedy non-maximum suppression.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "swiftdet/ops/candidates.hpp"

namespace swiftdet::ops {

struct NmsOptions {
  float iou_threshold = 0.7F;   ///< suppressed when float32 inter / union > iou_threshold; within [0, 1]
  bool class_agnostic = false;  ///< boxes of different classes suppress one another too
  int max_det = -1;             ///< stop after so many survivors; -1: no limit
};

/// NMS with its scratch kept between calls: one per session, one thread at a time.
class Nms {
 public:
  Nms();
  ~Nms();
  Nms(Nms&&) noexcept;
  Nms& operator=(Nms&&) noexcept;

  /// Indices of the survivors in `candidates`, which must be ordered as Candidates promises; ascending, hence by score.
  ///
  /// The rule, per class unless class_agnostic: walk down the order; a box survives unless a survivor before it has
  /// inter / union > iou_threshold, all in float32 without contraction, areas (x2 - x1) * (y2 - y1). Zero-area unions
  /// give NaN, which suppresses nothing. `truncated` counts boxes that would have survived beyond max_det at least
  /// as far as they were looked at: it is 1 or more exactly when the limit cut the list.
  /// The span is valid until the next call. @throw InvalidArgument  iou_threshold outside [0, 1].
  std::span<const std::int32_t> run(const Candidates& candidates, const NmsOptions& options);

  /// True when max_det ended the last run before the candidates did and a survivor was lost.
  [[nodiscard]] bool truncated() const noexcept;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// One-shot form for arbitrary order: boxes float32 [K,4] xyxy, scores float32 [K], classes int32 [K].
/// Keeps the indices of survivors by score desc, ties by class asc, then index asc. Entries with a non-finite score
/// or coordinate are dropped. @throw InvalidArgument  lengths differ or iou_threshold outside [0, 1].
[[nodiscard]] std::vector<std::int64_t> nms(std::span<const float> boxes_xyxy, std::span<const float> scores,
                                            std::span<const std::int32_t> classes, const NmsOptions& options);

}  // namespace swiftdet::ops
