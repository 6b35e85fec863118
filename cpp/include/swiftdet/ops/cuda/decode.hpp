// Decode on the device: raw outputs of the network to ordered candidates, without a round trip to the host.
#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "swiftdet/base/size.hpp"
#include "swiftdet/base/tensor_view.hpp"
#include "swiftdet/ops/cuda/letterbox.hpp"
#include "swiftdet/ops/decode.hpp"
#include "swiftdet/ops/head.hpp"
#include "swiftdet/ops/letterbox.hpp"
#include "swiftdet/ops/nms.hpp"

namespace swiftdet::ops::cuda {

inline constexpr std::size_t kMaxHeadLevels = 8;
inline constexpr std::size_t kMaxHeadAnchors = 64;

/// A network output in device memory; contiguous.
struct DeviceTensor {
  const void* data = nullptr;
  TensorType type = TensorType::kFloat32;
  Shape shape{};
};

/// One level of a head of maps, or the whole of any other head. Offsets count values.
struct HeadLevel {
  const void* scores = nullptr;          ///< the first score (or objectness) of batch item 0
  const void* boxes = nullptr;           ///< the first box value of batch item 0
  std::int64_t scores_batch_stride = 0;  ///< from one batch item to the next
  std::int64_t boxes_batch_stride = 0;
  std::int32_t first_anchor = 0;
  std::int32_t count = 0;         ///< anchors (predictions) of the level
  std::int32_t cells = 0;         ///< anchors that lie side by side; of maps, height * width
  std::int32_t score_stride = 0;  ///< from one anchor to the next; where class_major, from one group of `cells` on
  std::int32_t box_stride = 0;    ///< likewise; with box_value_stride, from one value of a box to the next
  std::int32_t box_value_stride = 0;
  std::int32_t width = 0;       ///< maps: cells in a row
  std::int32_t first_tile = 0;  ///< of the scan, over all levels
  float stride = 0.0F;          ///< maps: px per cell
};

/// A head as the kernels take it: the outputs' addresses and the constants of the layout, captured by value.
struct DecodeHead {
  HeadLayout layout = HeadLayout::kColumns;
  BoxFormat box_format = BoxFormat::kCxcywh;
  TensorType type = TensorType::kFloat32;  ///< of all outputs
  bool class_major = false;                ///< the scores of one class lie side by side
  bool has_objectness = false;             ///< false where there is one class: then the objectness is its score
  bool logits = false;
  std::int32_t batch = 0;
  std::int32_t num_classes = 0;
  std::int32_t predictions = 0;
  std::int32_t num_levels = 0;
  std::int32_t tiles = 0;  ///< blocks of the scan per image
  std::int32_t bins = 0;   ///< distribution_maps: reg_max + 1
  std::int32_t anchors_per_cell = 1;
  std::array<HeadLevel, kMaxHeadLevels> levels{};
  std::array<std::array<float, 2>, kMaxHeadAnchors> anchors{};  ///< width, height in px; level by level
};

/// The head of `outputs` (in the order of `head.outputs`; all of one element type).
/// @throw ModelError  as ops::Decoder::run, or outputs of different types, or more than 64 anchors.
[[nodiscard]] DecodeHead describe_head(std::span<const DeviceTensor> outputs, const HeadSpec& head);

/// What one call wants of one batch item; read from device memory when the kernels run. Made by postprocess_item.
/// A value-initialised one stands for no image: nothing is looked at and its result is empty.
struct PostprocessItem {
  const std::uint8_t* classes = nullptr;  ///< device memory, one flag per class; null: all classes
  float conf = 0.0F;
  float conf_logit = 0.0F;  ///< the largest logit whose score is not above `conf`
  float iou = 0.0F;
  float pad_left = 0.0F;
  float pad_top = 0.0F;
  float scale_x = 1.0F;
  float scale_y = 1.0F;
  float source_width = 0.0F;
  float source_height = 0.0F;
  std::int32_t max_candidates = 0;
  std::int32_t max_det = 0;
  std::int32_t multi_label = 0;
  std::int32_t class_agnostic = 0;
  std::int32_t active = 0;
};

/// `decode.classes` is not used: `device_classes` is its device copy (num_classes flags), or null for all classes.
/// @throw InvalidArgument  thresholds outside [0, 1], max_det or max_candidates below 1.
[[nodiscard]] PostprocessItem postprocess_item(const DecodeOptions& decode, const NmsOptions& nms,
                                               const std::uint8_t* device_classes, const LetterboxMeta& meta,
                                               Size source);

/// Counts of one image, written by the kernels.
struct DecodeCounts {
  unsigned long long found;  ///< over the threshold
  std::int32_t places;       ///< in use among the candidates: the smaller of `found` and max_candidates
  std::int32_t finite;       ///< of these, with a finite box
};

/// Candidates of a batch in device memory, in the order of ops::Candidates; item i's begin at i * capacity.
struct DeviceCandidates {
  float4* boxes = nullptr;  ///< x1 y1 x2 y2, network px
  float* scores = nullptr;
  std::int32_t* classes = nullptr;  ///< -1: the box was not finite, the place is to be skipped
  std::int32_t* anchors = nullptr;
  DecodeCounts* counts = nullptr;  ///< per item
  std::int32_t capacity = 0;
};

/// Workspace of launch_decode, laid out in one piece of device memory.
struct DecodeWorkspace {
  DeviceCandidates candidates{};
  unsigned long long* keys = nullptr;      ///< [batch, key_capacity] over the threshold, in any order
  unsigned long long* selected = nullptr;  ///< [batch, candidates.capacity] the best ones, where there were too many
  std::int32_t key_capacity = 0;
};

/// Bytes that DecodeWorkspace needs for `head` and at most `max_candidates` candidates of an image.
[[nodiscard]] std::size_t decode_workspace_bytes(const DecodeHead& head, std::int32_t max_candidates);

/// Lays the workspace out over `memory`: device memory of decode_workspace_bytes, 256-byte aligned, of any content.
[[nodiscard]] DecodeWorkspace decode_workspace(const DecodeHead& head, std::int32_t max_candidates, void* memory);

/// Enqueues the decode of the whole batch; `items` is device memory [head.batch], read when the kernels run.
/// Candidates equal those of ops::Decoder bit for bit, and in order; those beyond an item's max_candidates are chosen
/// by that order and counted. Where an item asks for more than the workspace's max_candidates, it gets those.
/// Neither allocates nor synchronises. One workspace serves one stream at a time.
[[nodiscard]] cudaError_t launch_decode(const DecodeHead& head, const PostprocessItem* items,
                                        const DecodeWorkspace& workspace, cudaStream_t stream);

}  // namespace swiftdet::ops::cuda
