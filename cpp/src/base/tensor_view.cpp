#include "swiftdet/base/tensor_view.hpp"

namespace swiftdet {

std::string Shape::to_string() const {
  std::string text = "[";
  for (std::size_t axis = 0; axis < rank_; ++axis) {
    if (axis != 0) text += ", ";
    text += dims_[axis] < 0 ? std::string("?") : std::to_string(dims_[axis]);
  }
  return text + "]";
}

}  // namespace swiftdet
