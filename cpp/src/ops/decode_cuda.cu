// Decode kernels: find what is over the threshold, keep the best, put them in order, decode their boxes.
//
//   scan    tiles x batch blocks   every score once; keys of candidates are appended in any order, and counted
//   select  one block an image     does nothing unless there are more than max_candidates: then it finds, digit by
//                                  digit, the key that the last one to stay has, and collects those not below it
//   rank    256 keys a block       a key's place is the number of keys above it; the box is decoded and put there
//
// No two keys are equal (candidate_formulas.hpp), so the order of arrival leaves no trace in what comes out.
//
// Bytes moved, [84, 8400] float32 with 300 candidates: scan reads every score once, 2.69 MB, in full lines (where there
// is an objectness, that and the classes of the anchors that pass alone); it writes 2.4 KB of keys, rank reads those
// twice and the four values of each box, a sector of 32 bytes each, and writes 28 bytes a candidate: together 1.02
// times the scores, and 1.01 times the scores and boxes, which must be read.
//
// Select, in the rare image where it works: the list of keys, 8 bytes each, once for each digit that is looked at (8 at
// most; few, as it stops where a digit decides) and once more to pick, and 8 bytes written for each that stays. Of more
// keys than the list holds (four times max_candidates) the scores are read instead, as often, by one block: with
// `multi_label` and a threshold near zero, 9 times 2.69 MB at most. That is an evaluation's worst case, not a frame's.
#include <cuda_fp16.h>

#include "ops/decode_formulas.hpp"
#include "ops/decode_scan.cuh"
#include "swiftdet/cuda/launch.hpp"

namespace swiftdet::ops::cuda {
namespace {

constexpr int kRankThreads = 256;
/// Of a multiprocessor at a time: 64 registers a thread. Left to itself, ptxas takes 40 for sm_80 and spills.
constexpr int kScanBlocks = 4;
constexpr int kDigitBits = 8;
constexpr int kDigits = 1 << kDigitBits;

/// Appends to a list in global memory: one addition to its counter for each warp. Counts beyond the capacity too.
struct Appender {
  unsigned long long* keys;
  unsigned long long* count;
  std::int32_t capacity;

  __device__ void operator()(bool found, std::uint64_t key) {
    const unsigned lanes = __ballot_sync(kAllLanes, found ? 1 : 0);
    if (lanes == 0) return;
    const unsigned lane = threadIdx.x % kWarp;
    const int leader = __ffs(static_cast<int>(lanes)) - 1;
    unsigned long long first = 0;
    if (static_cast<int>(lane) == leader) {
      first = atomicAdd(count, static_cast<unsigned long long>(__popc(lanes)));
    }
    first = __shfl_sync(kAllLanes, first, leader);
    const unsigned long long place = first + static_cast<unsigned>(__popc(lanes & ((1U << lane) - 1U)));
    if (found && place < static_cast<unsigned long long>(capacity)) keys[place] = key;
  }
};

/// Counts, by their next digit, the keys that begin with `prefix`.
struct DigitCounter {
  unsigned* digits;
  std::uint64_t prefix;
  std::uint64_t known;  ///< the bits of the prefix
  int shift;

  __device__ void operator()(bool found, std::uint64_t key) {
    if (found && (key & known) == prefix) atomicAdd(&digits[(key >> shift) & (kDigits - 1)], 1U);
  }
};

/// Passes on what is not below `least`.
struct Picker {
  Appender append;
  std::uint64_t least;

  __device__ void operator()(bool found, std::uint64_t key) { append(found && key >= least, key); }
};

/// All keys of an image: from the list where it holds them all, else from the scores, once more.
template <typename T>
struct KeySource {
  const DecodeHead& head;
  const PostprocessItem& item;
  std::int32_t image;
  const unsigned long long* keys;
  std::int32_t listed;  ///< -1: the list does not hold all

  template <typename Sink>
  __device__ void visit(Sink& sink) const {
    if (listed < 0) {
      for (std::int32_t tile = 0; tile < head.tiles; ++tile) scan_tile<T>(head, item, image, tile, sink);
      return;
    }
    const auto thread = static_cast<std::int32_t>(threadIdx.x);
    for (std::int32_t first = 0; first < listed; first += kScanThreads) {
      const std::int32_t index = first + thread;
      sink(index < listed, index < listed ? keys[index] : 0);
    }
  }
};

__device__ std::int32_t limit_of(const PostprocessItem& item, const DeviceCandidates& candidates) {
  return item.max_candidates < candidates.capacity ? item.max_candidates : candidates.capacity;
}

/// Place of a cell in its level, as the floats that the formulas take.
__device__ float2 place_of(std::int32_t cell, std::int32_t width) {
  const std::int32_t row = cell / width;
  return make_float2(static_cast<float>(cell - row * width), static_cast<float>(row));
}

template <typename T>
struct Bins {
  const T* first;
  std::int32_t stride;

  SWIFTDET_HOST_DEVICE float operator()(int bin) const { return static_cast<float>(first[std::int64_t{bin} * stride]); }
};

template <typename T>
__device__ Box decode_box(const DecodeHead& head, std::int32_t image, std::int32_t anchor) {
  std::int32_t index = head.num_levels - 1;
  while (index > 0 && head.levels[index].first_anchor > anchor) --index;
  const HeadLevel& level = head.levels[index];
  const std::int32_t within = anchor - level.first_anchor;
  const std::int32_t group = within / level.cells;
  const std::int32_t cell = within - group * level.cells;
  const T* const base = static_cast<const T*>(level.boxes) + image * level.boxes_batch_stride;
  const std::int64_t step = level.box_value_stride;
  if (head.layout == HeadLayout::kDistributionMaps) {
    const std::int64_t side = step * head.bins;
    const auto distance = [&](int number) {
      return expected_bin(Bins<T>{base + number * side + cell, level.box_value_stride}, head.bins);
    };
    const float left = distance(0);
    const float top = distance(1);
    const float right = distance(2);
    const float bottom = distance(3);
    const float2 place = place_of(cell, level.width);
    return box_from_distances(left, top, right, bottom, place.x, place.y, level.stride);
  }
  const T* const values = step == 1 ? base + static_cast<std::int64_t>(within) * level.box_stride
                                    : base + static_cast<std::int64_t>(group) * level.box_stride + cell;
  const float a = to_float(values[0]);
  const float b = to_float(values[step]);
  const float c = to_float(values[2 * step]);
  const float d = to_float(values[3 * step]);
  if (head.layout == HeadLayout::kAnchorMaps) {
    const float2 place = place_of(cell, level.width);
    const auto& shape = head.anchors[index * head.anchors_per_cell + group];
    return box_from_anchor(a, b, c, d, place.x, place.y, level.stride, shape[0], shape[1]);
  }
  return head.box_format == BoxFormat::kXyxy ? Box{a, b, c, d} : box_from_center(a, b, c, d);
}

}  // namespace

template <typename T>
__global__ void __launch_bounds__(kScanThreads, kScanBlocks)
    scan_kernel(const __grid_constant__ DecodeHead head, const PostprocessItem* __restrict__ items,
                const DecodeWorkspace workspace) {
  const auto image = static_cast<std::int32_t>(blockIdx.y);
  const PostprocessItem& item = items[image];
  if (item.active == 0) return;
  Appender append{workspace.keys + static_cast<std::int64_t>(image) * workspace.key_capacity,
                  &workspace.candidates.counts[image].found, workspace.key_capacity};
  scan_tile<T>(head, item, image, static_cast<std::int32_t>(blockIdx.x), append);
}

template <typename T>
__global__ void __launch_bounds__(kScanThreads, kScanBlocks)
    select_kernel(const __grid_constant__ DecodeHead head, const PostprocessItem* __restrict__ items,
                  const DecodeWorkspace workspace) {
  __shared__ unsigned digits[kDigits];
  __shared__ unsigned long long collected;
  __shared__ unsigned chosen_digit;
  __shared__ std::int32_t still_wanted;
  const auto image = static_cast<std::int32_t>(blockIdx.x);
  const PostprocessItem& item = items[image];
  const unsigned long long found = workspace.candidates.counts[image].found;
  const std::int32_t limit = limit_of(item, workspace.candidates);
  if (found <= static_cast<unsigned long long>(limit)) return;

  const bool listed = found <= static_cast<unsigned long long>(workspace.key_capacity);
  const KeySource<T> source{head, item, image,
                            workspace.keys + static_cast<std::int64_t>(image) * workspace.key_capacity,
                            listed ? static_cast<std::int32_t>(found) : -1};
  std::uint64_t prefix = 0;
  std::uint64_t known = 0;
  std::int32_t wanted = limit;  // of the keys that begin with the prefix
  for (int shift = 64 - kDigitBits; shift >= 0; shift -= kDigitBits) {
    for (unsigned i = threadIdx.x; i < kDigits; i += kScanThreads) digits[i] = 0;
    __syncthreads();
    DigitCounter count{digits, prefix, known, shift};
    source.visit(count);
    __syncthreads();
    if (threadIdx.x == 0) {
      std::int32_t left = wanted;
      int digit = kDigits - 1;
      while (digits[digit] < static_cast<unsigned>(left)) {
        left -= static_cast<std::int32_t>(digits[digit]);
        --digit;
      }
      chosen_digit = static_cast<unsigned>(digit);
      still_wanted = left;
    }
    __syncthreads();
    prefix |= static_cast<std::uint64_t>(chosen_digit) << shift;
    known |= static_cast<std::uint64_t>(kDigits - 1) << shift;
    wanted = still_wanted;
    // All of this digit stay: the digits behind it decide nothing.
    if (digits[chosen_digit] == static_cast<unsigned>(wanted)) break;
    __syncthreads();
  }
  if (threadIdx.x == 0) collected = 0;
  __syncthreads();
  Picker pick{
      {workspace.selected + static_cast<std::int64_t>(image) * workspace.candidates.capacity, &collected, limit},
      prefix};
  source.visit(pick);
}

template <typename T>
__global__ void __launch_bounds__(kRankThreads)
    rank_kernel(const __grid_constant__ DecodeHead head, const PostprocessItem* __restrict__ items,
                const DecodeWorkspace workspace) {
  __shared__ std::uint64_t tile[kRankThreads];
  __shared__ std::int32_t finite;
  const auto image = static_cast<std::int32_t>(blockIdx.y);
  const DeviceCandidates& candidates = workspace.candidates;
  DecodeCounts& counts = candidates.counts[image];
  const std::int32_t limit = limit_of(items[image], candidates);
  const bool too_many = counts.found > static_cast<unsigned long long>(limit);
  const std::int32_t count = too_many ? limit : static_cast<std::int32_t>(counts.found);
  const auto first = static_cast<std::int32_t>(blockIdx.x) * kRankThreads;
  if (first >= count) return;
  const unsigned long long* const keys =
      too_many ? workspace.selected + static_cast<std::int64_t>(image) * candidates.capacity
               : workspace.keys + static_cast<std::int64_t>(image) * workspace.key_capacity;

  const auto thread = static_cast<std::int32_t>(threadIdx.x);
  const std::int32_t own = first + thread;
  const std::uint64_t key = own < count ? keys[own] : 0;
  std::int32_t rank = 0;
  if (thread == 0) finite = 0;
  for (std::int32_t begin = 0; begin < count; begin += kRankThreads) {
    tile[thread] = begin + thread < count ? keys[begin + thread] : 0;
    __syncthreads();
    for (int i = 0; i < kRankThreads; ++i) rank += tile[i] > key ? 1 : 0;
    __syncthreads();
  }

  if (own < count) {
    const auto predictions = static_cast<std::uint32_t>(head.predictions);
    const std::int32_t anchor = key_anchor(key, predictions);
    const Box box = decode_box<T>(head, image, anchor);
    const bool usable = is_finite(box);
    const std::int64_t place = static_cast<std::int64_t>(image) * candidates.capacity + rank;
    candidates.boxes[place] = make_float4(box.x1, box.y1, box.x2, box.y2);
    candidates.scores[place] = key_score(key);
    candidates.classes[place] = usable ? key_class(key, predictions) : -1;
    candidates.anchors[place] = anchor;
    if (usable) atomicAdd(&finite, 1);
  }
  __syncthreads();
  if (thread == 0) {
    atomicAdd(&counts.finite, finite);
    if (first == 0) counts.places = count;
  }
}

namespace {

template <typename T>
cudaError_t launch_all(const DecodeHead& head, const PostprocessItem* items, const DecodeWorkspace& workspace,
                       cudaStream_t stream) {
  using swiftdet::cuda::LaunchShape;
  const auto batch = static_cast<unsigned>(head.batch);
  const std::int32_t capacity = workspace.candidates.capacity;
  const LaunchShape scan{dim3(static_cast<unsigned>(head.tiles), batch), dim3(kScanThreads)};
  const LaunchShape select{dim3(batch), dim3(kScanThreads)};
  const LaunchShape rank{dim3(static_cast<unsigned>((capacity + kRankThreads - 1) / kRankThreads), batch),
                         dim3(kRankThreads)};
  cudaError_t status = swiftdet::cuda::launch<scan_kernel<T>>(scan, stream, head, items, workspace);
  if (status == cudaSuccess) status = swiftdet::cuda::launch<select_kernel<T>>(select, stream, head, items, workspace);
  if (status == cudaSuccess) status = swiftdet::cuda::launch<rank_kernel<T>>(rank, stream, head, items, workspace);
  return status;
}

}  // namespace

cudaError_t launch_decode(const DecodeHead& head, const PostprocessItem* items, const DecodeWorkspace& workspace,
                          cudaStream_t stream) {
  const std::size_t bytes = sizeof(DecodeCounts) * static_cast<std::size_t>(head.batch);
  const cudaError_t status = cudaMemsetAsync(workspace.candidates.counts, 0, bytes, stream);
  if (status != cudaSuccess || head.tiles == 0) return status;
  return head.type == TensorType::kFloat16 ? launch_all<__half>(head, items, workspace, stream)
                                           : launch_all<float>(head, items, workspace, stream);
}

}  // namespace swiftdet::ops::cuda
