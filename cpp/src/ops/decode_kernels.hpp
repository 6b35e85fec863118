// Inner loops of decoding, one body per instruction set. decode_scalar.cpp is the specification: every other body
// gives the same bits.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu/isa.hpp"

namespace swiftdet::ops::cpu {

struct DecodeKernels {
  /// Writes, ascending, each i < n with `x[i] > threshold` to `hits`, which has room for n; returns how many.
  /// NaN is never above.
  std::int32_t (*find_above)(const float* x, std::int32_t n, float threshold, std::int32_t* hits);

  /// The same for `x[i * stride]`.
  std::int32_t (*find_above_strided)(const float* x, std::int32_t n, std::ptrdiff_t stride, float threshold,
                                     std::int32_t* hits);

  /// The same for `scale * x[i]`.
  std::int32_t (*find_scaled_above)(const float* x, std::int32_t n, float scale, float threshold, std::int32_t* hits);

  /// Expected bin of `count` distributions: softmax over the `bins` logits `logits[offsets[i] + bin * bin_stride]`,
  /// then sum(bin * p), as sum(bin * exp(logit - max)) / sum(exp(logit - max)), bins ascending.
  void (*expected_bins)(const float* logits, const std::int32_t* offsets, std::int32_t count, std::int32_t bin_stride,
                        std::int32_t bins, float* result);
};

extern const DecodeKernels kDecodeScalar;
extern const DecodeKernels kDecodeAvx2;  // defined on x86 only

[[nodiscard]] const DecodeKernels& decode_kernels(swiftdet::cpu::Isa isa) noexcept;

}  // namespace swiftdet::ops::cpu
