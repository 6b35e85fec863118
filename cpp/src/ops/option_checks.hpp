// The contract of thresholds and limits, checked once for every operation that takes them.
#pragma once

#include <string>

#include "swiftdet/base/error.hpp"

namespace swiftdet::ops {

// The names are C strings: a check that passes, on the hot path, builds no message and so allocates nothing.

/// @throw InvalidArgument  outside [0, 1], or NaN.
inline void check_threshold(const char* name, float value) {
  if (!(value >= 0.0F && value <= 1.0F)) {
    throw InvalidArgument(std::string(name) + ": expected a threshold within [0, 1], got " + std::to_string(value));
  }
}

/// @throw InvalidArgument  below `least`.
inline void check_at_least(const char* name, int value, int least) {
  if (value < least) {
    throw InvalidArgument(std::string(name) + ": expected " + std::to_string(least) + " or more, got " +
                          std::to_string(value));
  }
}

}  // namespace swiftdet::ops
