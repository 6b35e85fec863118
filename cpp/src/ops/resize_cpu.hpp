// The body of ops::resize on the CPU, with the instruction set as an argument.
#pragma once

#include "cpu/isa.hpp"
#include "swiftdet/base/image_view.hpp"
#include "swiftdet/ops/resize.hpp"

namespace swiftdet::ops::cpu {

/// As ops::resize, arguments taken as checked.
void resize(const ImageView& source, const MutableImageView& target, Interpolation interpolation,
            swiftdet::cpu::Isa isa);

}  // namespace swiftdet::ops::cpu
