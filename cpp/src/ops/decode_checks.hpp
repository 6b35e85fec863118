// What decode refuses of its options, on every device.
#pragma once

#include <string>

#include "ops/decode_geometry.hpp"
#include "swiftdet/base/error.hpp"
#include "swiftdet/ops/decode.hpp"
#include "swiftdet/ops/head.hpp"

namespace swiftdet::ops {

/// @throw InvalidArgument  conf_threshold outside [0, 1], max_candidates below 1, `classes` of another length than the
///                         head's classes.
inline void check_decode_options(const DecodeOptions& options, const HeadSpec& head) {
  if (!(options.conf_threshold >= 0.0F && options.conf_threshold <= 1.0F)) {
    throw InvalidArgument("conf: expected a threshold within [0, 1], got " + std::to_string(options.conf_threshold));
  }
  if (!options.classes.empty() && options.classes.size() != static_cast<std::size_t>(head.num_classes)) {
    throw InvalidArgument("classes: expected one flag for each of the " + std::to_string(head.num_classes) +
                          " classes, got " + std::to_string(options.classes.size()));
  }
  if (options.max_candidates < 1) {
    throw InvalidArgument("max_candidates: expected at least 1, got " + std::to_string(options.max_candidates));
  }
}

/// @throw InvalidArgument  outside the batch.
inline void check_image_index(int image, const HeadGeometry& geometry) {
  if (image < 0 || image >= geometry.batch) {
    throw InvalidArgument("image: expected an index below the batch of " + std::to_string(geometry.batch) + ", got " +
                          std::to_string(image));
  }
}

}  // namespace swiftdet::ops
