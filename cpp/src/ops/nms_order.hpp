// What nms() for arrays takes: its contract, checked, and any boxes brought into the order that the walk needs.
#pragma once

#include <cstdint>
#include <span>

#include "swiftdet/ops/candidates.hpp"
#include "swiftdet/ops/nms.hpp"

namespace swiftdet::ops {

/// @throw InvalidArgument  iou_threshold outside [0, 1], max_det below -1.
void check_nms_options(const NmsOptions& options);

/// Boxes xyxy [K, 4], scores [K] and any classes [K] as candidates by score desc, then class asc, then index asc.
/// `anchor` is the index among the arrays; `cls` are small numbers in the order of the classes. Entries with a
/// non-finite score or coordinate are left out.
/// @throw InvalidArgument  lengths differ, 2^31 boxes or more.
[[nodiscard]] Candidates in_nms_order(std::span<const float> boxes_xyxy, std::span<const float> scores,
                                      std::span<const std::int32_t> classes);

}  // namespace swiftdet::ops
