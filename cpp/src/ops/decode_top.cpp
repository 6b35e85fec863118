#include "ops/decode_top.hpp"

#include <algorithm>
#include <array>
#include <functional>

namespace swiftdet::ops {
namespace {

constexpr std::size_t kDigits = 8;
constexpr std::size_t kBuckets = 256;

/// Sorts descending, by bytes from the lowest; bytes that all keys share cost nothing.
void radix_sort_descending(std::vector<std::uint64_t>& keys, std::vector<std::uint64_t>& scratch) {
  std::array<std::array<std::uint32_t, kBuckets>, kDigits> counts{};
  for (const std::uint64_t key : keys) {
    for (std::size_t digit = 0; digit < kDigits; ++digit) ++counts[digit][key >> (8 * digit) & 0xFFU];
  }
  scratch.resize(keys.size());
  for (std::size_t digit = 0; digit < kDigits; ++digit) {
    auto& count = counts[digit];
    if (count[keys[0] >> (8 * digit) & 0xFFU] == keys.size()) continue;
    std::uint32_t next = 0;
    for (std::size_t bucket = kBuckets; bucket-- > 0;) {
      const std::uint32_t here = count[bucket];
      count[bucket] = next;
      next += here;
    }
    for (const std::uint64_t key : keys) scratch[count[key >> (8 * digit) & 0xFFU]++] = key;
    keys.swap(scratch);
  }
}

/// Below this many keys the histograms cost more than comparisons.
constexpr std::size_t kSmall = 256;

}  // namespace

void TopCandidates::prune() {
  const auto last_kept = keys_.begin() + static_cast<std::ptrdiff_t>(limit_) - 1;
  std::nth_element(keys_.begin(), last_kept, keys_.end(), std::greater<>());
  floor_ = *last_kept;
  dropped_ += static_cast<std::int64_t>(keys_.size() - limit_);
  keys_.resize(limit_);
}

std::span<const std::uint64_t> TopCandidates::finish() {
  if (keys_.size() > limit_) prune();
  if (keys_.size() < kSmall) {
    std::sort(keys_.begin(), keys_.end(), std::greater<>());
  } else {
    scratch_.reserve(keys_.capacity());  // the two trade places: neither may have to grow in the next run
    radix_sort_descending(keys_, scratch_);
  }
  return keys_;
}

}  // namespace swiftdet::ops
