// Host side of the decode and NMS kernels: a head's addresses and strides, a call's options, the workspaces.
#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "ops/decode_geometry.hpp"
#include "ops/decode_scan.hpp"
#include "ops/option_checks.hpp"
#include "swiftdet/base/error.hpp"
#include "swiftdet/ops/cuda/decode.hpp"
#include "swiftdet/ops/cuda/nms.hpp"

namespace swiftdet::ops::cuda {
namespace {

/// Anchors of one block of the scan (decode_scan.cuh).
constexpr std::int32_t kTileAnchors = 32;
constexpr std::int32_t kTileDetections = 256;
constexpr std::size_t kAlignment = 256;
/// As many keys as this times max_candidates are listed before the scores have to be read again.
constexpr std::int64_t kKeyRoom = 4;

std::int64_t per_image(const Shape& shape) { return shape[0] == 0 ? 0 : shape.volume() / shape[0]; }

const void* advanced(const DeviceTensor& tensor, std::int64_t values) {
  const std::int64_t size = tensor.type == TensorType::kFloat16 ? 2 : 4;
  return static_cast<const unsigned char*>(tensor.data) + values * size;
}

void check_types(std::span<const DeviceTensor> outputs, const HeadSpec& head) {
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    if (outputs[i].type != outputs[0].type) {
      throw ModelError("output '" + head.outputs[i] + "' has another element type than '" + head.outputs[0] +
                       "'; on the GPU all raw outputs must be float32, or all float16");
    }
    if (outputs[i].data == nullptr) throw InvalidArgument("output '" + head.outputs[i] + "' has no device memory");
  }
}

/// Where scores and boxes lie in output tensors that are one long list of predictions.
HeadLevel list_level(std::span<const DeviceTensor> outputs, const HeadSpec& head, const HeadGeometry& geometry) {
  HeadLevel level;
  const Shape& shape = outputs[0].shape;
  level.count = level.cells = geometry.predictions;
  level.scores_batch_stride = level.boxes_batch_stride = per_image(shape);
  level.boxes = outputs[0].data;
  switch (head.layout) {
    case HeadLayout::kColumns:
      level.scores = advanced(outputs[0], std::int64_t{4} * geometry.predictions);
      level.box_value_stride = geometry.predictions;
      break;
    case HeadLayout::kScoresBoxes:
      level.scores = outputs[0].data;
      level.score_stride = head.scores_class_major ? 0 : head.num_classes;
      level.boxes = outputs[1].data;
      level.boxes_batch_stride = per_image(outputs[1].shape);
      level.box_stride = 4;
      level.box_value_stride = 1;
      break;
    default:  // rows and detections
      level.scores = advanced(outputs[0], 4);
      level.score_stride = level.box_stride = static_cast<std::int32_t>(shape[2]);
      level.box_value_stride = 1;
      break;
  }
  return level;
}

/// One level of maps.
HeadLevel map_level(std::span<const DeviceTensor> outputs, const HeadSpec& head, const HeadGeometry& geometry,
                    std::size_t index) {
  const Level& place = geometry.levels[index];
  HeadLevel level;
  level.first_anchor = place.first_anchor;
  level.cells = place.cells();
  level.width = place.width;
  level.stride = static_cast<float>(head.strides[index]);
  level.scores_batch_stride = level.boxes_batch_stride = per_image(outputs[index].shape);
  level.scores = level.boxes = outputs[index].data;
  if (head.layout == HeadLayout::kDistributionMaps) {
    const DeviceTensor& distances = outputs[head.strides.size() + index];
    level.count = level.cells;
    level.boxes = distances.data;
    level.boxes_batch_stride = per_image(distances.shape);
    level.box_value_stride = level.cells;
    return level;
  }
  const std::int32_t values = 5 + head.num_classes;
  level.count = level.cells * anchors_per_cell(head);
  level.score_stride = level.box_stride = place.interleaved ? values : values * level.cells;
  level.box_value_stride = place.interleaved ? 1 : level.cells;
  level.scores = advanced(outputs[index], std::int64_t{4} * level.box_value_stride);
  return level;
}

std::size_t aligned(std::size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

/// Hands out pieces of one memory; with no memory it only adds up.
class Pieces {
 public:
  explicit Pieces(void* memory) : memory_(static_cast<unsigned char*>(memory)) {}

  template <typename T>
  T* take(std::int64_t count) {
    T* const piece = memory_ == nullptr ? nullptr : reinterpret_cast<T*>(memory_ + used_);
    used_ += aligned(sizeof(T) * static_cast<std::size_t>(count));
    return piece;
  }
  [[nodiscard]] std::size_t used() const noexcept { return used_; }

 private:
  unsigned char* memory_;
  std::size_t used_ = 0;
};

DecodeWorkspace lay_out(const DecodeHead& head, std::int32_t max_candidates, Pieces& pieces) {
  const std::int64_t scores = std::int64_t{head.predictions} * head.num_classes;
  const std::int64_t capacity = std::clamp<std::int64_t>(max_candidates, 1, std::max<std::int64_t>(scores, 1));
  const std::int64_t room = std::min(kKeyRoom * capacity, std::int64_t{std::numeric_limits<std::int32_t>::max()});
  const std::int64_t key_capacity = std::clamp<std::int64_t>(scores, 1, room);
  const std::int64_t batch = head.batch;
  DecodeWorkspace workspace;
  workspace.key_capacity = static_cast<std::int32_t>(key_capacity);
  workspace.candidates.capacity = static_cast<std::int32_t>(capacity);
  workspace.candidates.counts = pieces.take<DecodeCounts>(batch);
  workspace.candidates.boxes = pieces.take<float4>(batch * capacity);
  workspace.candidates.scores = pieces.take<float>(batch * capacity);
  workspace.candidates.classes = pieces.take<std::int32_t>(batch * capacity);
  workspace.candidates.anchors = pieces.take<std::int32_t>(batch * capacity);
  workspace.selected = pieces.take<unsigned long long>(batch * capacity);
  workspace.keys = pieces.take<unsigned long long>(batch * key_capacity);
  return workspace;
}

}  // namespace

DecodeHead describe_head(std::span<const DeviceTensor> outputs, const HeadSpec& head) {
  check_spec(head);
  std::vector<TensorView> shapes;
  shapes.reserve(outputs.size());
  for (const DeviceTensor& output : outputs) shapes.push_back({nullptr, output.shape});
  const HeadGeometry geometry = measure_head(shapes, head);
  check_types(outputs, head);

  const bool anchored = head.layout == HeadLayout::kAnchorMaps;
  DecodeHead result;
  result.layout = head.layout;
  result.box_format = head.layout == HeadLayout::kDetections ? BoxFormat::kXyxy : head.box_format;
  result.type = outputs[0].type;
  result.class_major = head.layout == HeadLayout::kColumns || head.layout == HeadLayout::kDistributionMaps ||
                       (head.layout == HeadLayout::kScoresBoxes && head.scores_class_major) ||
                       (anchored && !geometry.levels[0].interleaved);
  result.has_objectness = (anchored || head.has_objectness) && head.num_classes > 1;
  result.logits = anchored || (head.scores_are_logits && head.layout != HeadLayout::kDetections);
  result.batch = static_cast<std::int32_t>(geometry.batch);
  result.num_classes = head.num_classes;
  result.predictions = geometry.predictions;
  result.bins = head.reg_max + 1;
  if (anchored) {
    if (head.anchors.size() > kMaxHeadAnchors) {
      throw ModelError("expected at most " + std::to_string(kMaxHeadAnchors) + " anchors on the GPU, got " +
                       std::to_string(head.anchors.size()));
    }
    result.anchors_per_cell = anchors_per_cell(head);
    std::copy(head.anchors.begin(), head.anchors.end(), result.anchors.begin());
  }
  const bool maps = anchored || head.layout == HeadLayout::kDistributionMaps;
  result.num_levels = maps ? static_cast<std::int32_t>(head.strides.size()) : 1;
  const std::int32_t tile = head.layout == HeadLayout::kDetections ? kTileDetections : kTileAnchors;
  for (std::size_t i = 0; i < static_cast<std::size_t>(result.num_levels); ++i) {
    HeadLevel& level = result.levels[i];
    level = maps ? map_level(outputs, head, geometry, i) : list_level(outputs, head, geometry);
    level.first_tile = result.tiles;
    result.tiles += (level.count + tile - 1) / tile;
  }
  return result;
}

PostprocessItem postprocess_item(const DecodeOptions& decode, const NmsOptions& nms, const std::uint8_t* device_classes,
                                 const LetterboxMeta& meta, Size source) {
  check_threshold("conf", decode.conf_threshold);
  check_threshold("iou", nms.iou_threshold);
  check_at_least("max_candidates", decode.max_candidates, 1);
  check_at_least("max_det", nms.max_det, 1);
  PostprocessItem item;
  item.classes = device_classes;
  item.conf = decode.conf_threshold;
  item.conf_logit = logit_threshold(decode.conf_threshold);
  item.iou = nms.iou_threshold;
  item.pad_left = static_cast<float>(meta.pad_left);
  item.pad_top = static_cast<float>(meta.pad_top);
  item.scale_x = static_cast<float>(meta.scale_x);
  item.scale_y = static_cast<float>(meta.scale_y);
  item.source_width = static_cast<float>(source.width);
  item.source_height = static_cast<float>(source.height);
  item.max_candidates = decode.max_candidates;
  item.max_det = nms.max_det;
  item.multi_label = decode.multi_label ? 1 : 0;
  item.class_agnostic = nms.class_agnostic ? 1 : 0;
  item.active = 1;
  return item;
}

std::size_t decode_workspace_bytes(const DecodeHead& head, std::int32_t max_candidates) {
  Pieces pieces(nullptr);
  lay_out(head, max_candidates, pieces);
  return pieces.used();
}

DecodeWorkspace decode_workspace(const DecodeHead& head, std::int32_t max_candidates, void* memory) {
  if (memory == nullptr || reinterpret_cast<std::uintptr_t>(memory) % kAlignment != 0) {
    throw InvalidArgument("decode: expected a workspace in device memory, aligned to " + std::to_string(kAlignment) +
                          " bytes");
  }
  Pieces pieces(memory);
  return lay_out(head, max_candidates, pieces);
}

std::size_t nms_workspace_bytes(std::int32_t batch, PackedLayout layout) {
  return sizeof(float4) * static_cast<std::size_t>(batch) * static_cast<std::size_t>(layout.capacity);
}

}  // namespace swiftdet::ops::cuda
