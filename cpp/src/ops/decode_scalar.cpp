// The specification of decoding's inner loops, and the choice of a body.
#include "ops/decode_formulas.hpp"
#include "ops/decode_kernels.hpp"

namespace swiftdet::ops::cpu {
namespace {

// Stores without a branch: hits are rare and hard to predict.
std::int32_t find_above_strided(const float* x, std::int32_t n, std::ptrdiff_t stride, float threshold,
                                std::int32_t* hits) {
  std::int32_t found = 0;
  for (std::int32_t i = 0; i < n; ++i) {
    hits[found] = i;
    found += x[i * stride] > threshold ? 1 : 0;
  }
  return found;
}

std::int32_t find_above(const float* x, std::int32_t n, float threshold, std::int32_t* hits) {
  return find_above_strided(x, n, 1, threshold, hits);
}

std::int32_t find_scaled_above(const float* x, std::int32_t n, float scale, float threshold, std::int32_t* hits) {
  std::int32_t found = 0;
  for (std::int32_t i = 0; i < n; ++i) {
    hits[found] = i;
    found += scale * x[i] > threshold ? 1 : 0;
  }
  return found;
}

void expected_bins(const float* logits, const std::int32_t* offsets, std::int32_t count, std::int32_t bin_stride,
                   std::int32_t bins, float* result) {
  for (std::int32_t i = 0; i < count; ++i) {
    const float* const side = logits + offsets[i];
    const auto logit = [=](int bin) { return side[static_cast<std::ptrdiff_t>(bin) * bin_stride]; };
    result[i] = expected_bin(logit, bins);
  }
}

}  // namespace

const DecodeKernels kDecodeScalar{find_above, find_above_strided, find_scaled_above, expected_bins};

const DecodeKernels& decode_kernels([[maybe_unused]] swiftdet::cpu::Isa isa) noexcept {
#if SWIFTDET_ISA_X86
  if (isa == swiftdet::cpu::Isa::kAvx2) return kDecodeAvx2;
#endif
  return kDecodeScalar;
}

}  // namespace swiftdet::ops::cpu
