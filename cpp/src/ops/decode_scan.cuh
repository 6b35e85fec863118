// The scan of a head's scores for candidates, in tiles: one block of kScanWarps warps looks at one tile.
//
// A sink takes what a warp found: sink(bool found, key), called by whole, converged warps. So the same scan appends
// candidates, counts them by digit, or picks those above a key.
#pragma once

#include <cuda_fp16.h>

#include <cstdint>

#include "ops/candidate_formulas.hpp"
#include "swiftdet/base/exp.hpp"
#include "swiftdet/ops/cuda/decode.hpp"

namespace swiftdet::ops::cuda {

inline constexpr int kWarp = 32;
inline constexpr int kScanWarps = 8;
inline constexpr int kScanThreads = kWarp * kScanWarps;
inline constexpr int kTileAnchors = kWarp;            ///< of a tile, in all layouts but detections
inline constexpr int kTileDetections = kScanThreads;  ///< a thread each
inline constexpr unsigned kAllLanes = 0xFFFFFFFFU;

__device__ inline float to_float(float value) { return value; }
__device__ inline float to_float(__half value) { return __half2float(value); }

/// Best class of one anchor so far; classes are offered in ascending order, so ties keep the lower.
struct BestClass {
  float score = 0.0F;  ///< 0: none yet (a candidate's score is positive)
  float raw = 0.0F;
  std::int32_t cls = 0;

  /// Larger is better: by score, then by lower class. 0: none.
  __device__ std::uint64_t rank() const {
    if (!(score > 0.0F)) return 0;
    return static_cast<std::uint64_t>(__float_as_uint(score)) << 32U | ~static_cast<std::uint32_t>(cls);
  }
};

/// Scores of one anchor: the class `c` lies at scores[c * class_stride].
template <typename T>
struct AnchorScores {
  const T* scores;
  std::int32_t class_stride;
  std::int32_t anchor;  ///< in the head's own order
  float objectness;     ///< activated; unused where the head has none
};

/// What a tile's threads have in common.
template <typename T>
struct TileScan {
  const DecodeHead& head;
  const HeadLevel& level;
  const PostprocessItem& item;
  std::int32_t image;

  __device__ bool wanted(std::int32_t cls) const { return item.classes == nullptr || item.classes[cls] != 0; }

  /// `raw` and its objectness as a score; false where that is no candidate. Where scores are logits, a logit that is
  /// not above the threshold's is none, whatever the objectness (which is at most 1): most need no exp.
  __device__ bool score_of(float objectness, float raw, float& score) const {
    if (head.logits && !(raw > item.conf_logit)) return false;
    score = head.logits ? sigmoid_f32(raw) : raw;
    if (head.has_objectness) score = objectness * score;
    return is_candidate(score, item.conf);
  }

  /// The objectness at `at`, activated; false where it is not above the threshold.
  __device__ bool objectness_of(const T* at, float& objectness) const {
    const float raw = to_float(*at);
    if (!(raw > (head.logits ? item.conf_logit : item.conf))) return false;
    objectness = head.logits ? sigmoid_f32(raw) : raw;
    return true;
  }

  __device__ void offer(const AnchorScores<T>& anchor, std::int32_t cls, BestClass& best) const {
    const float raw = to_float(anchor.scores[static_cast<std::int64_t>(cls) * anchor.class_stride]);
    // A score never decreases with what it is made of, so this one cannot be better.
    if (best.score > 0.0F && !(raw > best.raw)) return;
    float score = 0.0F;
    if (score_of(anchor.objectness, raw, score) && score > best.score) best = {score, raw, cls};
  }

  __device__ std::uint64_t key(float score, std::int32_t cls, std::int32_t anchor) const {
    return candidate_key(score, cls, anchor, static_cast<std::uint32_t>(head.predictions));
  }

  /// To be called by whole warps: gives class `cls` of the anchor to the sink, where it is a candidate.
  template <typename Sink>
  __device__ void give_class(const AnchorScores<T>& anchor, std::int32_t cls, bool valid, Sink& sink) const {
    float score = 0.0F;
    bool found = false;
    if (valid && wanted(cls)) {
      const float raw = to_float(anchor.scores[static_cast<std::int64_t>(cls) * anchor.class_stride]);
      found = score_of(anchor.objectness, raw, score);
    }
    sink(found, found ? key(score, cls, anchor.anchor) : 0);
  }

  /// To be called by whole warps: gives the class that `rank` stands for to the sink.
  template <typename Sink>
  __device__ void give_best(std::uint64_t rank, std::int32_t anchor, Sink& sink) const {
    const auto cls = static_cast<std::int32_t>(~static_cast<std::uint32_t>(rank));
    const bool found = rank != 0 && wanted(cls);
    sink(found, found ? key(__uint_as_float(static_cast<std::uint32_t>(rank >> 32U)), cls, anchor) : 0);
  }
};

/// Anchors side by side: lane l looks at anchor `first + l`, warp w at the classes w, w + kScanWarps, ...
template <typename T, typename Sink>
__device__ void scan_class_major(const TileScan<T>& scan, std::int32_t first, Sink& sink) {
  __shared__ std::uint64_t ranks[kScanWarps][kWarp];
  const auto lane = static_cast<std::int32_t>(threadIdx.x) % kWarp;
  const auto warp = static_cast<std::int32_t>(threadIdx.x) / kWarp;
  const HeadLevel& level = scan.level;
  const std::int32_t index = first + lane;
  const std::int32_t clamped = index < level.count ? index : level.count - 1;
  const std::int32_t group = clamped / level.cells;
  const T* const base = static_cast<const T*>(level.scores) + scan.image * level.scores_batch_stride +
                        static_cast<std::int64_t>(group) * level.score_stride + (clamped - group * level.cells);
  AnchorScores<T> anchor{base, level.cells, level.first_anchor + index, 1.0F};
  bool valid = index < level.count;
  if (scan.head.has_objectness) {
    valid = valid && scan.objectness_of(base, anchor.objectness);
    anchor.scores += level.cells;
    if (__any_sync(kAllLanes, valid) == 0) return;  // every warp of the block sees the same anchors
  }
  if (scan.item.multi_label != 0) {
    for (std::int32_t cls = warp; cls < scan.head.num_classes; cls += kScanWarps) {
      scan.give_class(anchor, cls, valid, sink);
    }
    return;
  }
  BestClass best;
  if (valid) {
    for (std::int32_t cls = warp; cls < scan.head.num_classes; cls += kScanWarps) scan.offer(anchor, cls, best);
  }
  ranks[warp][lane] = best.rank();
  __syncthreads();
  if (warp == 0) {
    std::uint64_t rank = ranks[0][lane];
    for (int other = 1; other < kScanWarps; ++other) rank = ranks[other][lane] > rank ? ranks[other][lane] : rank;
    scan.give_best(rank, anchor.anchor, sink);
  }
  __syncthreads();  // the next tile may write `ranks`
}

/// Classes side by side: a warp looks at one anchor after the other, lane l at the classes l, l + 32, ...
template <typename T, typename Sink>
__device__ void scan_anchor_major(const TileScan<T>& scan, std::int32_t first, Sink& sink) {
  const auto lane = static_cast<std::int32_t>(threadIdx.x) % kWarp;
  const auto warp = static_cast<std::int32_t>(threadIdx.x) / kWarp;
  const HeadLevel& level = scan.level;
  const T* const scores = static_cast<const T*>(level.scores) + scan.image * level.scores_batch_stride;
  for (std::int32_t index = first + warp; index < first + kTileAnchors && index < level.count; index += kScanWarps) {
    AnchorScores<T> anchor{scores + static_cast<std::int64_t>(index) * level.score_stride, 1,
                           level.first_anchor + index, 1.0F};
    if (scan.head.has_objectness) {
      if (!scan.objectness_of(anchor.scores, anchor.objectness)) continue;
      ++anchor.scores;
    }
    if (scan.item.multi_label != 0) {
      for (std::int32_t base = 0; base < scan.head.num_classes; base += kWarp) {
        const std::int32_t cls = base + lane;
        scan.give_class(anchor, cls, cls < scan.head.num_classes, sink);
      }
      continue;
    }
    BestClass best;
    for (std::int32_t cls = lane; cls < scan.head.num_classes; cls += kWarp) scan.offer(anchor, cls, best);
    unsigned long long rank = best.rank();
    for (int distance = kWarp / 2; distance > 0; distance /= 2) {
      const unsigned long long other = __shfl_xor_sync(kAllLanes, rank, distance);
      rank = other > rank ? other : rank;
    }
    scan.give_best(lane == 0 ? rank : 0, anchor.anchor, sink);
  }
}

/// Rows of x1 y1 x2 y2 score class: a thread each. A class outside [0, C) is padding; its fraction does not count.
template <typename T, typename Sink>
__device__ void scan_detections(const TileScan<T>& scan, std::int32_t first, Sink& sink) {
  const HeadLevel& level = scan.level;
  const std::int32_t index = first + static_cast<std::int32_t>(threadIdx.x);
  float score = 0.0F;
  std::int32_t cls = 0;
  bool found = false;
  if (index < level.count) {
    const T* const row = static_cast<const T*>(level.scores) + scan.image * level.scores_batch_stride +
                         static_cast<std::int64_t>(index) * level.score_stride;
    const float raw_class = to_float(row[1]);
    score = to_float(row[0]);
    if (raw_class >= 0.0F && raw_class < static_cast<float>(scan.head.num_classes)) {
      cls = static_cast<std::int32_t>(raw_class);
      found = is_candidate(score, scan.item.conf) && scan.wanted(cls);
    }
  }
  sink(found, found ? scan.key(score, cls, index) : 0);
}

/// Looks at tile `tile` of batch item `image`; to be called by a whole block.
template <typename T, typename Sink>
__device__ void scan_tile(const DecodeHead& head, const PostprocessItem& item, std::int32_t image, std::int32_t tile,
                          Sink& sink) {
  std::int32_t index = head.num_levels - 1;
  while (index > 0 && head.levels[index].first_tile > tile) --index;
  const HeadLevel& level = head.levels[index];
  const TileScan<T> scan{head, level, item, image};
  const std::int32_t within = tile - level.first_tile;
  if (head.layout == HeadLayout::kDetections) {
    scan_detections(scan, within * kTileDetections, sink);
  } else if (head.class_major) {
    scan_class_major(scan, within * kTileAnchors, sink);
  } else {
    scan_anchor_major(scan, within * kTileAnchors, sink);
  }
}

}  // namespace swiftdet::ops::cuda
