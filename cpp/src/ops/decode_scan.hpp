// Finding the scores over the threshold, for all layouts: each is one or several blocks of scores.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "ops/decode_kernels.hpp"
#include "ops/decode_top.hpp"

namespace swiftdet::ops {

/// Scores of `count` anchors, numbered from `first_anchor`.
struct ScoreBlock {
  bool class_major = false;  ///< scores[cls * stride + anchor], else scores[anchor * stride + cls]
  const float* scores = nullptr;
  const float* objectness = nullptr;  ///< null: none; class_major: [anchor], else [anchor * stride]
  std::ptrdiff_t stride = 0;
  std::int32_t count = 0;
  std::int32_t classes = 0;
  std::int32_t first_anchor = 0;
};

struct ScoreRule {
  float threshold = 0.0F;        ///< score > threshold, and objectness > threshold where there is one
  bool logits = false;           ///< scores and objectness are logits
  float logit_threshold = 0.0F;  ///< the largest logit whose sigmoid is not above `threshold`
  bool multi_label = false;
  std::span<const std::uint8_t> classes{};  ///< flags of wanted classes; empty = all
};

/// The largest x with !(sigmoid_f32(x) > threshold): `x > logit_threshold(t)` is `sigmoid_f32(x) > t` for every x,
/// because sigmoid_f32 never decreases. `threshold` is within [0, 1].
[[nodiscard]] float logit_threshold(float threshold) noexcept;

class ScoreScanner {
 public:
  explicit ScoreScanner(const cpu::DecodeKernels& kernels) : kernels_(&kernels) {}

  /// Pushes the candidates of `block` to `top`. Scores that are not finite are no scores.
  void scan(const ScoreBlock& block, const ScoreRule& rule, TopCandidates& top);

 private:
  class RowCandidates;

  void scan_class_major(const ScoreBlock& block, const ScoreRule& rule, TopCandidates& top);
  void scan_class_major_objects(const ScoreBlock& block, const ScoreRule& rule, TopCandidates& top);
  void scan_anchor_major(const ScoreBlock& block, const ScoreRule& rule, TopCandidates& top);
  void scan_anchor_major_objects(const ScoreBlock& block, const ScoreRule& rule, TopCandidates& top);

  /// Raises the best score of slot `slot` to `score` of `cls`; classes come in ascending order, so ties keep the lower.
  void raise_best(std::int32_t slot, float score, std::int32_t cls);
  /// At the beginning of a block, so that one that ended in an exception (no memory) leaves nothing to the next.
  void forget_best() noexcept;
  void reserve(std::int32_t anchors, std::int32_t row_hits, bool best);

  const cpu::DecodeKernels* kernels_;
  std::vector<std::int32_t> hits_;
  std::vector<std::int32_t> objects_;  ///< anchors whose objectness is over the threshold
  std::vector<float> object_scores_;   ///< their objectness
  std::vector<float> class_bounds_;    ///< what their class logits must exceed at least
  std::vector<float> best_score_;      ///< per slot; 0 = none yet (a candidate's score is positive)
  std::vector<std::int32_t> best_class_;
  std::vector<std::int32_t> touched_;  ///< slots with a best score
};

}  // namespace swiftdet::ops
