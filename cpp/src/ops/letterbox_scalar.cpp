#include "ops/letterbox_kernels.hpp"

namespace swiftdet::ops::cpu {
namespace {

void write_values(const std::uint8_t* lanes, int lanes_per_pixel, int begin, int end, const PlaneScaling& scaling,
                  const PlaneRows<float>& rows) {
  for (int plane = 0; plane < 3; ++plane) {
    const std::uint8_t* const lane = lanes + rows.lane[plane];
    const float* const table = scaling.table[plane];
    float* const row = rows.row[plane];
    for (int x = begin; x < end; ++x) row[x] = table[lane[static_cast<std::ptrdiff_t>(x) * lanes_per_pixel]];
  }
}

}  // namespace

const LetterboxKernels kScalarLetterboxKernels{.write_values = write_values};

const LetterboxKernels& letterbox_kernels(swiftdet::cpu::Isa isa) noexcept {
#if SWIFTDET_ISA_X86
  if (isa == swiftdet::cpu::Isa::kAvx2) return kAvx2LetterboxKernels;
#endif
  static_cast<void>(isa);
  return kScalarLetterboxKernels;
}

}  // namespace swiftdet::ops::cpu
