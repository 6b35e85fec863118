// The best scores seen so far, in bounded memory and in the one order that all devices share.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ops/candidate_formulas.hpp"

namespace swiftdet::ops {

/// Collects scores and keeps the best `limit` of them by score desc, then class asc, then anchor asc.
///
/// Each is one 64-bit key (candidate_formulas.hpp).
class TopCandidates {
 public:
  /// Forgets everything. `predictions` is the number of anchors of the head.
  void start(std::size_t limit, std::int32_t predictions) {
    limit_ = limit;
    predictions_ = static_cast<std::uint32_t>(predictions);
    floor_ = 0;
    dropped_ = 0;
    keys_.clear();
  }

  /// @param score  positive and finite.
  void push(float score, std::int32_t cls, std::int32_t anchor) {
    const std::uint64_t key = candidate_key(score, cls, anchor, predictions_);
    if (key < floor_) {
      ++dropped_;
      return;
    }
    keys_.push_back(key);
    if (keys_.size() >= 2 * limit_) prune();
  }

  /// The keys that stay, best first. Valid until the next start().
  [[nodiscard]] std::span<const std::uint64_t> finish();

  /// How many were pushed and did not stay.
  [[nodiscard]] std::int64_t dropped() const noexcept { return dropped_; }

  [[nodiscard]] static float score(std::uint64_t key) noexcept { return key_score(key); }
  [[nodiscard]] std::int32_t cls(std::uint64_t key) const noexcept { return key_class(key, predictions_); }
  [[nodiscard]] std::int32_t anchor(std::uint64_t key) const noexcept { return key_anchor(key, predictions_); }

 private:
  void prune();

  std::size_t limit_ = 0;
  std::uint32_t predictions_ = 1;
  std::uint64_t floor_ = 0;  ///< a key below it is beyond the limit already
  std::int64_t dropped_ = 0;
  std::vector<std::uint64_t> keys_;
  std::vector<std::uint64_t> scratch_;
};

}  // namespace swiftdet::ops
