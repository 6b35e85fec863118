#include "swiftdet/ops/nms.hpp"
