#include "swiftdet/ops/decode.hpp"
