#include "swiftdet/ops/letterbox.hpp"
