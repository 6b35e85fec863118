// Height and width as one value, so that two adjacent ints can never be swapped.
#pragma once

namespace swiftdet {

struct Size {
  int height = 0;
  int width = 0;

  friend bool operator==(const Size&, const Size&) = default;
};

}  // namespace swiftdet
