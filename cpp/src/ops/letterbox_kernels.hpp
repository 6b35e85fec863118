// The inner loop of the letterbox after resizing: one lane row to one row of each of the network's planes.
// The scalar body is the specification; every body gives the same values, bit for bit.
#pragma once

#include <cstdint>

#include "cpu/isa.hpp"

namespace swiftdet::ops::cpu {

/// From u8 to the network's value: (u8 / divisor - mean) / std in float32, each step correctly rounded.
/// Indexed by plane (0 = R, 1 = G, 2 = B).
struct PlaneScaling {
  float divisor = 1.0F;
  float mean[3] = {0.0F, 0.0F, 0.0F};
  float std[3] = {1.0F, 1.0F, 1.0F};
  bool standardises = false;  ///< false: every mean is 0 and every std is 1, so the division by `divisor` is all
  float table[3][256] = {};   ///< the value of each u8
};

/// Three destination rows and the lane (0 for grey) that feeds each, R, G, B.
template <typename T>
struct PlaneRows {
  T* row[3] = {};
  int lane[3] = {0, 0, 0};
};

struct LetterboxKernels {
  /// rows.row[p][x] = the scaled value of lane rows.lane[p] of pixel x, for x in [begin, end). `lanes_per_pixel` is
  /// 1 or 4, and the lanes of the planes are 0 0 0, 0 1 2 or 2 1 0. Reads the lanes of those pixels alone.
  void (*write_values)(const std::uint8_t* lanes, int lanes_per_pixel, int begin, int end, const PlaneScaling& scaling,
                       const PlaneRows<float>& rows);
};

[[nodiscard]] const LetterboxKernels& letterbox_kernels(swiftdet::cpu::Isa isa) noexcept;

extern const LetterboxKernels kScalarLetterboxKernels;
#if SWIFTDET_ISA_X86
extern const LetterboxKernels kAvx2LetterboxKernels;
#endif

}  // namespace swiftdet::ops::cpu
