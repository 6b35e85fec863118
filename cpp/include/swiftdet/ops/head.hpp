// Description of a detector's raw outputs: the one thing that decode needs to know about a network.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace swiftdet::ops {

/// How the network lays out what it predicts. N = batch, P = predictions, C = classes, A = anchors per cell.
/// The Python names (spec.Head.layout) are given in quotes.
enum class HeadLayout : std::uint8_t {
  kAnchorMaps,        ///< "anchor_maps": per level logits [N, A*(5+C), h, w] or [N, A, h, w, 5+C] (YOLOv7 raw)
  kRows,              ///< "rows": [N, P, 5+C] with objectness or [N, P, 4+C] without (YOLOv7 --grid, YOLOv5)
  kColumns,           ///< "columns": [N, 4+C, P] (Ultralytics v8, 11), or [N, 5+C, P] with objectness
  kScoresBoxes,       ///< "scores_boxes": scores [N, P, C] (or [N, C, P]) and boxes [N, P, 4] (or [N, P, 1, 4])
  kDistributionMaps,  ///< "distribution_maps": per level scores [N, C, h, w], then per level [N, 4*(reg_max+1), h, w]
  kDetections,        ///< "detections": [N, M, 6] x1 y1 x2 y2 score class, NMS already done (end-to-end exports)
};

enum class BoxFormat : std::uint8_t { kXyxy, kCxcywh };

/// One detector head. Boxes are in network px in every layout once decoded.
struct HeadSpec {
  HeadLayout layout = HeadLayout::kColumns;
  int num_classes = 0;
  std::vector<std::string> outputs;  ///< tensor names in role order: as listed at the layout; levels by stride asc
  BoxFormat box_format = BoxFormat::kCxcywh;  ///< rows, columns, scores_boxes
  /// rows, columns: score = objectness * class (C = 1: objectness alone). anchor_maps always have it.
  bool has_objectness = false;
  /// The sigmoid of scores (and objectness) is ours to apply. anchor_maps are always logits; detections never.
  bool scores_are_logits = false;
  bool scores_class_major = false;            ///< scores_boxes: scores are [N, C, P]
  std::vector<int> strides;                   ///< maps: px per cell, one per level, ascending
  std::vector<std::array<float, 2>> anchors;  ///< anchor_maps: (width, height) px, level by level
  int reg_max = 0;                            ///< distribution_maps: bins - 1
};

}  // namespace swiftdet::ops
