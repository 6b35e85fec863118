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
  int max_det = -1;             ///< stop after so many survivors; -1: no limit, 0: none
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
  /// give NaN, which suppresses nothing.
  /// Boxes must be finite and classes small and not negative (scratch grows with the highest), as decode leaves them.
  /// The span is valid until the next call. @throw InvalidArgument  iou_threshold outside [0, 1], max_det below -1.
  std::span<const std::int32_t> run(const Candidates& candidates, const NmsOptions& options);

  /// Candidates that max_det cut off in the last run: from the first that would have survived a full list on. Which of
  /// those behind it would survive was not looked at. 0 exactly when the limit lost nothing.
  [[nodiscard]] std::size_t truncated() const noexcept;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// One-shot form for arbitrary order: boxes float32 [K,4] xyxy, scores float32 [K], classes int32 [K].
/// Keeps the indices of survivors by score desc, ties by class asc, then index asc. Entries with a non-finite score
/// or coordinate are dropped. Classes may be any int32. Safe from several threads.
/// @throw InvalidArgument  lengths differ, iou_threshold outside [0, 1], max_det below -1.
[[nodiscard]] std::vector<std::int64_t> nms(std::span<const float> boxes_xyxy, std::span<const float> scores,
                                            std::span<const std::int32_t> classes, const NmsOptions& options);

}  // namespace swiftdet::ops
