#include "swiftdet/openvino.hpp"
