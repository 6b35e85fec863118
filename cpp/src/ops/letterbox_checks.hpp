// What the letterbox refuses in a Preprocess, on every device.
#pragma once

#include "swiftdet/ops/letterbox.hpp"

namespace swiftdet::ops {

/// @throw InvalidArgument  a divisor or std that is 0 or not finite, a mean that is not finite.
void check_scaling(const Preprocess& preprocess);

}  // namespace swiftdet::ops
