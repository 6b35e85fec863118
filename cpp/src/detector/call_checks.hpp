// What the pipelines of every device check alike: a call's options, and a head against the network it belongs to.
#pragma once

#include <cstddef>
#include <vector>

#include "swiftdet/backend.hpp"
#include "swiftdet/detector.hpp"
#include "swiftdet/ops/head.hpp"

namespace swiftdet {

/// @throw InvalidArgument  a threshold outside [0, 1], a limit below 1, class flags of another number than classes.
void check_options(const CallOptions& options, int num_classes);

/// Where the head's tensors stand among a network's outputs, whose shapes must fit it.
/// @throw ModelError  the head contradicts itself, names an output that is not there, or does not fit a shape.
[[nodiscard]] std::vector<std::size_t> output_indices(const std::vector<Port>& ports, const ops::HeadSpec& head);

}  // namespace swiftdet
