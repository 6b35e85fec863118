#include "swiftdet/ops/resize.hpp"
