#include "ops/decode_scan.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "swiftdet/base/exp.hpp"

namespace swiftdet::ops {
namespace {

/// Anchor-major blocks without gaps are scanned this many values at a time: hits stay in the first-level cache.
constexpr std::int32_t kFlatValues = 4096;

/// Floats as integers of the same order.
std::int32_t ordered(float x) noexcept {
  const auto bits = std::bit_cast<std::int32_t>(x);
  return bits < 0 ? std::numeric_limits<std::int32_t>::min() - bits : bits;
}

float from_ordered(std::int32_t key) noexcept {
  return std::bit_cast<float>(key < 0 ? std::numeric_limits<std::int32_t>::min() - key : key);
}

bool wanted(std::span<const std::uint8_t> classes, std::int32_t cls) noexcept {
  return classes.empty() || classes[static_cast<std::size_t>(cls)] != 0;
}

/// A score or objectness as the network gives it -> within [0, 1].
float activated(float raw, const ScoreRule& rule) noexcept { return rule.logits ? sigmoid_f32(raw) : raw; }

/// What the raw values themselves are compared with.
float raw_threshold(const ScoreRule& rule) noexcept { return rule.logits ? rule.logit_threshold : rule.threshold; }

/// A logit that every class needs for `objectness` * sigmoid(logit) to be above the threshold, a little too low: a
/// cheap first test, whose slack of 0.01 hides all rounding. What passes is then looked at exactly.
float class_logit_bound(float objectness, const ScoreRule& rule) noexcept {
  const double needed = std::min(static_cast<double>(rule.threshold) / static_cast<double>(objectness), 0.999);
  return std::max(rule.logit_threshold, static_cast<float>(std::log(needed / (1.0 - needed)) - 0.01));
}

std::size_t at(std::int32_t index) noexcept { return static_cast<std::size_t>(index); }

}  // namespace

float logit_threshold(float threshold) noexcept {
  std::int32_t low = ordered(-std::numeric_limits<float>::infinity());  // sigmoid 0: never above
  std::int32_t high = ordered(std::numeric_limits<float>::infinity());  // sigmoid 1
  if (!(1.0F > threshold)) return std::numeric_limits<float>::infinity();
  while (std::int64_t{high} - low > 1) {
    const auto middle = static_cast<std::int32_t>((std::int64_t{low} + high) >> 1);
    (sigmoid_f32(from_ordered(middle)) > threshold ? high : low) = middle;
  }
  return from_ordered(low);
}

/// Candidates of anchors that are visited one after the other, each with its classes ascending.
class ScoreScanner::RowCandidates {
 public:
  RowCandidates(const ScoreRule& rule, TopCandidates& top) : rule_(&rule), top_(&top) {}

  void add(std::int32_t anchor, std::int32_t cls, float score) {
    if (!is_candidate(score, rule_->threshold)) return;
    if (rule_->multi_label) {
      if (wanted(rule_->classes, cls)) top_->push(score, cls, anchor);
      return;
    }
    if (anchor != anchor_) {
      flush();
      anchor_ = anchor;
    }
    if (score > score_) {
      score_ = score;
      cls_ = cls;
    }
  }

  void flush() {
    if (score_ > 0.0F && wanted(rule_->classes, cls_)) top_->push(score_, cls_, anchor_);
    score_ = 0.0F;
  }

 private:
  const ScoreRule* rule_;
  TopCandidates* top_;
  std::int32_t anchor_ = -1;
  std::int32_t cls_ = 0;
  float score_ = 0.0F;
};

void ScoreScanner::reserve(std::int32_t anchors, std::int32_t row_hits, bool best) {
  const auto grow = [](auto& values, std::int32_t size) {
    if (values.size() < at(size)) values.resize(at(size));
  };
  grow(hits_, row_hits);
  grow(objects_, anchors);
  grow(object_scores_, anchors);
  grow(class_bounds_, anchors);
  if (best) {
    grow(best_score_, anchors);
    grow(best_class_, anchors);
    touched_.reserve(at(anchors));
  }
}

void ScoreScanner::forget_best() noexcept {
  for (const std::int32_t slot : touched_) best_score_[at(slot)] = 0.0F;
  touched_.clear();
}

void ScoreScanner::raise_best(std::int32_t slot, float score, std::int32_t cls) {
  float& best = best_score_[at(slot)];
  if (!(score > best)) return;
  if (best == 0.0F) touched_.push_back(slot);
  best = score;
  best_class_[at(slot)] = cls;
}

void ScoreScanner::scan(const ScoreBlock& block, const ScoreRule& rule, TopCandidates& top) {
  if (block.count == 0) return;
  if (block.class_major) {
    forget_best();
    reserve(block.count, block.count, !rule.multi_label);
    block.objectness != nullptr ? scan_class_major_objects(block, rule, top) : scan_class_major(block, rule, top);
  } else {
    reserve(block.count, std::max({block.count, block.classes, kFlatValues}), false);
    block.objectness != nullptr ? scan_anchor_major_objects(block, rule, top) : scan_anchor_major(block, rule, top);
  }
}

void ScoreScanner::scan_class_major(const ScoreBlock& block, const ScoreRule& rule, TopCandidates& top) {
  for (std::int32_t cls = 0; cls < block.classes; ++cls) {
    if (rule.multi_label && !wanted(rule.classes, cls)) continue;
    const float* const row = block.scores + cls * block.stride;
    const std::int32_t found = kernels_->find_above(row, block.count, raw_threshold(rule), hits_.data());
    for (std::int32_t i = 0; i < found; ++i) {
      const std::int32_t anchor = hits_[at(i)];
      const float score = activated(row[anchor], rule);
      if (!is_candidate(score, rule.threshold)) continue;
      if (rule.multi_label) {
        top.push(score, cls, block.first_anchor + anchor);
      } else {
        raise_best(anchor, score, cls);
      }
    }
  }
  for (const std::int32_t anchor : touched_) {
    const std::int32_t cls = best_class_[at(anchor)];
    if (wanted(rule.classes, cls)) top.push(best_score_[at(anchor)], cls, block.first_anchor + anchor);
  }
}

void ScoreScanner::scan_class_major_objects(const ScoreBlock& block, const ScoreRule& rule, TopCandidates& top) {
  const float threshold = raw_threshold(rule);
  const std::int32_t objects = kernels_->find_above(block.objectness, block.count, threshold, objects_.data());
  if (objects == 0) return;
  for (std::int32_t i = 0; i < objects; ++i) {
    object_scores_[at(i)] = activated(block.objectness[objects_[at(i)]], rule);
    if (rule.logits) class_bounds_[at(i)] = class_logit_bound(object_scores_[at(i)], rule);
  }
  for (std::int32_t cls = 0; cls < block.classes; ++cls) {
    if (rule.multi_label && !wanted(rule.classes, cls)) continue;
    const float* const row = block.scores + cls * block.stride;
    for (std::int32_t i = 0; i < objects; ++i) {
      const float raw = row[objects_[at(i)]];
      if (rule.logits && !(raw > class_bounds_[at(i)])) continue;
      const float score = object_scores_[at(i)] * activated(raw, rule);
      if (!is_candidate(score, rule.threshold)) continue;
      if (rule.multi_label) {
        top.push(score, cls, block.first_anchor + objects_[at(i)]);
      } else {
        raise_best(i, score, cls);
      }
    }
  }
  for (const std::int32_t i : touched_) {
    const std::int32_t cls = best_class_[at(i)];
    if (wanted(rule.classes, cls)) top.push(best_score_[at(i)], cls, block.first_anchor + objects_[at(i)]);
  }
}

void ScoreScanner::scan_anchor_major(const ScoreBlock& block, const ScoreRule& rule, TopCandidates& top) {
  const float threshold = raw_threshold(rule);
  RowCandidates candidates(rule, top);
  if (block.classes == 1) {
    const std::int32_t found =
        kernels_->find_above_strided(block.scores, block.count, block.stride, threshold, hits_.data());
    for (std::int32_t i = 0; i < found; ++i) {
      const std::int32_t anchor = hits_[at(i)];
      candidates.add(block.first_anchor + anchor, 0, activated(block.scores[anchor * block.stride], rule));
    }
    candidates.flush();
    return;
  }
  // Rows without a gap are one long row.
  const std::int32_t at_once = block.stride == block.classes ? std::max(1, kFlatValues / block.classes) : 1;
  for (std::int32_t first = 0; first < block.count; first += at_once) {
    const float* const row = block.scores + first * block.stride;
    const std::int32_t values = std::min(at_once, block.count - first) * block.classes;
    const std::int32_t found = kernels_->find_above(row, values, threshold, hits_.data());
    for (std::int32_t i = 0; i < found; ++i) {
      const std::int32_t hit = hits_[at(i)];
      const std::int32_t anchor = first + (at_once == 1 ? 0 : hit / block.classes);
      const std::int32_t cls = at_once == 1 ? hit : hit % block.classes;
      candidates.add(block.first_anchor + anchor, cls, activated(row[hit], rule));
    }
  }
  candidates.flush();
}

void ScoreScanner::scan_anchor_major_objects(const ScoreBlock& block, const ScoreRule& rule, TopCandidates& top) {
  const float threshold = raw_threshold(rule);
  RowCandidates candidates(rule, top);
  const std::int32_t objects =
      kernels_->find_above_strided(block.objectness, block.count, block.stride, threshold, objects_.data());
  for (std::int32_t i = 0; i < objects; ++i) {
    const std::int32_t anchor = objects_[at(i)];
    const float objectness = activated(block.objectness[anchor * block.stride], rule);
    const float* const row = block.scores + anchor * block.stride;
    const std::int32_t found =
        rule.logits ? kernels_->find_above(row, block.classes, class_logit_bound(objectness, rule), hits_.data())
                    : kernels_->find_scaled_above(row, block.classes, objectness, rule.threshold, hits_.data());
    for (std::int32_t hit = 0; hit < found; ++hit) {
      const std::int32_t cls = hits_[at(hit)];
      candidates.add(block.first_anchor + anchor, cls, objectness * activated(row[cls], rule));
    }
  }
  candidates.flush();
}

}  // namespace swiftdet::ops
