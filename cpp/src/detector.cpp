#include "swiftdet/detector.hpp"
