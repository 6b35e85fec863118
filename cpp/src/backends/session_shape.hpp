// The one rule for the shapes that a session may have.
#pragma once

#include "swiftdet/backend.hpp"

namespace swiftdet {

/// @throw InvalidArgument  `shape` is not a positive static shape that `input` allows; names both.
void check_session_shape(const Port& input, const Shape& shape);

}  // namespace swiftdet
