// NMS kernel: greedy suppression of one image's candidates by one block, then mapping back, clipping and packing.
//
// Candidates come in order, 512 at a time, a thread each: first against the survivors so far, then against one another.
// For the latter each thread writes a row of bits (whom it would suppress), and one warp walks down the survivors
// alone: with K survivors that is K steps, however many candidates there are. The walk ends at max_det.
//
// Bytes moved: 20 of each candidate (box, class) and 28 of each survivor (its score, and what is packed) must be.
// Beyond that a survivor's box is kept in a scratch, 16 bytes written and read once, and 20 read again by each further
// 512 candidates: with 300 candidates that all survive 24.0 KB instead of 14.4, 1.7 times. The scratch is a few KB that
// one block writes and reads at once, so a cache serves it and device memory sees 1.0 times; not the bytes but the
// steps of the walk take the time.
#include <cuda_runtime.h>

#include "ops/letterbox_formulas.hpp"
#include "ops/nms_formulas.hpp"
#include "swiftdet/cuda/launch.hpp"
#include "swiftdet/ops/cuda/nms.hpp"

namespace swiftdet::ops::cuda {
namespace {

constexpr int kWarp = 32;
constexpr int kChunk = 512;
constexpr int kWords = kChunk / kWarp;
/// Blocks of a multiprocessor at a time: 128 registers a thread. Left to itself, ptxas takes 40 for sm_100 and spills.
constexpr int kChunksAtOnce = 1;
/// One more than a row's length, so that the words of one candidate lie in different banks.
constexpr int kRowStride = kChunk + 1;
constexpr unsigned kAllLanes = 0xFFFFFFFFU;

__device__ SizedBox sized(float4 box) { return sized_box(box.x, box.y, box.z, box.w); }

struct Chunk {
  float4 boxes[kChunk];
  std::int32_t classes[kChunk];
  unsigned suppressed_by[kWords][kRowStride];  ///< [w][i]: bit b: candidate i suppresses candidate 32 w + b
  unsigned alive[kWords];                      ///< by candidate: finite, and not suppressed by a survivor before
  unsigned finite[kWords];
};

/// How far the walk has come.
struct Progress {
  std::int32_t kept;
  std::int32_t finite_before;  ///< candidates with a finite box before this chunk
  std::int64_t cut;            ///< candidates that max_det left unseen
  bool full;
};

/// Where one image's result goes.
struct PackedImage {
  PackedHeader* header;
  float4* xyxy;
  float* conf;
  std::int32_t* cls;
};

__device__ PackedImage packed_image(void* results, PackedLayout layout, unsigned image) {
  auto* const base = static_cast<unsigned char*>(results) + image * layout.image_bytes();
  return {reinterpret_cast<PackedHeader*>(base), reinterpret_cast<float4*>(base + layout.xyxy_offset()),
          reinterpret_cast<float*>(base + layout.conf_offset()),
          reinterpret_cast<std::int32_t*>(base + layout.cls_offset())};
}

/// Bits of those in word `word` that candidate `own` of the chunk suppresses: later ones alone.
__device__ unsigned suppressed_word(const Chunk& chunk, int own, int word, float iou, bool agnostic) {
  const SizedBox box = sized(chunk.boxes[own]);
  const std::int32_t cls = chunk.classes[own];
  unsigned bits = 0;
  for (int bit = 0; bit < kWarp; ++bit) {
    const int other = word * kWarp + bit;
    const bool same = agnostic || chunk.classes[other] == cls;
    if (other > own && same && suppresses(box, sized(chunk.boxes[other]), iou)) bits |= 1U << bit;
  }
  return bits;
}

/// The walk, by one whole warp: lane w holds who is still alive in word w. Survivors are written in order.
__device__ void walk(const Chunk& chunk, int words, std::int32_t first, std::int32_t max_det, std::int32_t finite,
                     const float* scores, float4* kept_boxes, const PackedImage& packed, Progress& progress) {
  const auto lane = static_cast<int>(threadIdx.x);
  unsigned alive = lane < words ? chunk.alive[lane] : 0;
  std::int32_t kept = progress.kept;
  std::int32_t finite_before = progress.finite_before;
  bool full = false;
  for (int word = 0; word < words && !full; ++word) {
    unsigned left = __shfl_sync(kAllLanes, alive, word);
    const unsigned own_row = chunk.suppressed_by[word][word * kWarp + lane];
    unsigned survivors = 0;
    while (left != 0) {
      const int bit = __ffs(static_cast<int>(left)) - 1;
      if (kept + __popc(survivors) == max_det) {
        if (lane == 0) {
          progress.cut = finite - finite_before - __popc(chunk.finite[word] & ((1U << bit) - 1U));
        }
        full = true;
        break;
      }
      survivors |= 1U << bit;
      left &= ~(1U << bit) & ~__shfl_sync(kAllLanes, own_row, bit);
    }
    if ((survivors >> lane & 1U) != 0) {
      const int index = word * kWarp + lane;
      const std::int32_t place = kept + __popc(survivors & ((1U << lane) - 1U));
      kept_boxes[place] = chunk.boxes[index];
      packed.conf[place] = scores[first + index];
      packed.cls[place] = chunk.classes[index];
    }
    kept += __popc(survivors);
    finite_before += __popc(chunk.finite[word]);
    if (lane > word && lane < words) {
      for (unsigned rows = survivors; rows != 0; rows &= rows - 1) {
        alive &= ~chunk.suppressed_by[lane][word * kWarp + __ffs(static_cast<int>(rows)) - 1];
      }
    }
  }
  __syncwarp(kAllLanes);  // every lane has read `progress`
  if (lane == 0) {
    progress.kept = kept;
    progress.finite_before = finite_before;
    progress.full = full;
  }
}

}  // namespace

__global__ void __launch_bounds__(kChunk, kChunksAtOnce)
    nms_kernel(const bool suppresses_boxes, const PostprocessItem* __restrict__ items,
               const DeviceCandidates candidates, const PackedLayout layout, float4* kept_boxes, void* results) {
  __shared__ Chunk chunk;
  __shared__ Progress progress;
  const PostprocessItem& item = items[blockIdx.x];
  const auto thread = static_cast<int>(threadIdx.x);
  const PackedImage packed = packed_image(results, layout, blockIdx.x);
  const DecodeCounts counts = candidates.counts[blockIdx.x];
  const std::int64_t base = static_cast<std::int64_t>(blockIdx.x) * candidates.capacity;
  const std::int32_t max_det = item.max_det < layout.capacity ? item.max_det : layout.capacity;
  const bool agnostic = item.class_agnostic != 0;
  const float iou = item.iou;
  kept_boxes += static_cast<std::int64_t>(blockIdx.x) * layout.capacity;

  if (thread == 0) progress = {0, 0, 0, false};
  __syncthreads();
  for (std::int32_t first = 0; first < counts.places; first += kChunk) {
    const std::int32_t left = counts.places - first;
    const int words = left < kChunk ? (left + kWarp - 1) / kWarp : kWords;
    const std::int32_t cls = thread < left ? candidates.classes[base + first + thread] : -1;
    const float4 box = thread < left ? candidates.boxes[base + first + thread] : float4{};
    bool alive = cls >= 0;
    if (alive && suppresses_boxes) {
      const SizedBox own = sized(box);
      for (std::int32_t k = 0; k < progress.kept && alive; ++k) {
        alive = !((agnostic || packed.cls[k] == cls) && suppresses(sized(kept_boxes[k]), own, iou));
      }
    }
    chunk.boxes[thread] = box;
    chunk.classes[thread] = cls;
    const unsigned alive_bits = __ballot_sync(kAllLanes, alive ? 1 : 0);
    const unsigned finite_bits = __ballot_sync(kAllLanes, cls >= 0 ? 1 : 0);
    if (thread % kWarp == 0) {
      chunk.alive[thread / kWarp] = alive_bits;
      chunk.finite[thread / kWarp] = finite_bits;
    }
    __syncthreads();
    if (alive_bits != 0) {  // nobody asks for the rows of a warp without one
      for (int word = thread / kWarp; word < words; ++word) {
        chunk.suppressed_by[word][thread] =
            alive && suppresses_boxes ? suppressed_word(chunk, thread, word, iou, agnostic) : 0;
      }
    }
    __syncthreads();
    if (thread < kWarp) {
      walk(chunk, words, first, max_det, counts.finite, candidates.scores + base, kept_boxes, packed, progress);
    }
    __syncthreads();
    if (progress.full) break;
  }

  const std::int32_t kept = progress.kept;
  for (std::int32_t k = thread; k < kept; k += kChunk) {
    const float4 box = kept_boxes[k];
    packed.xyxy[k] = make_float4(to_source(box.x, item.pad_left, item.scale_x, item.source_width),
                                 to_source(box.y, item.pad_top, item.scale_y, item.source_height),
                                 to_source(box.z, item.pad_left, item.scale_x, item.source_width),
                                 to_source(box.w, item.pad_top, item.scale_y, item.source_height));
  }
  if (thread == 0) {
    const auto dropped = static_cast<std::int64_t>(counts.found) - counts.places;
    *packed.header = {kept, layout.capacity, dropped + progress.cut};
  }
}

cudaError_t launch_nms(const DecodeHead& head, const PostprocessItem* items, const DeviceCandidates& candidates,
                       PackedLayout layout, void* workspace, void* results, cudaStream_t stream) {
  const swiftdet::cuda::LaunchShape shape{dim3(static_cast<unsigned>(head.batch)), dim3(kChunk)};
  const bool suppresses_boxes = head.layout != HeadLayout::kDetections;  // else the network has done it
  return swiftdet::cuda::launch<nms_kernel>(shape, stream, suppresses_boxes, items, candidates, layout,
                                            static_cast<float4*>(workspace), results);
}

}  // namespace swiftdet::ops::cuda
