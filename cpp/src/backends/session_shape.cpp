#include "backends/session_shape.hpp"

#include <algorithm>

#include "swiftdet/base/error.hpp"

namespace swiftdet {

void check_session_shape(const Port& input, const Shape& shape) {
  const bool positive = std::all_of(shape.begin(), shape.end(), [](std::int64_t dim) { return dim > 0; });
  const bool fits = shape.rank() == input.shape.rank() &&
                    std::equal(shape.begin(), shape.end(), input.shape.begin(),
                               [](std::int64_t wanted, std::int64_t own) { return own < 0 || own == wanted; });
  if (positive && fits) return;
  throw InvalidArgument("session shape: the network's input '" + input.name + "' takes " + input.shape.to_string() +
                        (input.shape.is_static() ? "" : " (? is any positive size)") + ", got " + shape.to_string());
}

}  // namespace swiftdet
