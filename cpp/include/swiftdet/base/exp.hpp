// The one exponential of the package: scalar, SIMD and device code that follow it give equal bits.
#pragma once

#include <bit>
#include <cstdint>
#include <limits>

#include "swiftdet/base/host_device.hpp"

namespace swiftdet {

/// Constants of `exp_f32`, for bodies that write the same steps in other instructions.
///
/// exp(x) = 2^n * exp(r) with n = round(x / ln 2) and r = x - n * ln 2, ln 2 split in two so that n * kLn2High is
/// exact; exp(r) = 1 + (r + r^2 * q(r)), q a minimax polynomial of degree 5 (relative error 1.5e-10 before rounding).
struct ExpConstants {
  static constexpr float kMax = 88.72283F;   ///< the largest x whose result is finite
  static constexpr float kMin = -87.33654F;  ///< below, the result would be subnormal: 0 is returned
  static constexpr float kLog2E = 1.44269504F;
  static constexpr float kRound = 12582912.0F;  ///< 1.5 * 2^23: adding it rounds to an integer, half to even
  static constexpr float kLn2High = 0.693359375F;
  static constexpr float kLn2Low = -2.12194440e-4F;
  static constexpr float kQ0 = 0.5F;
  static constexpr float kQ1 = 0x1.555552p-3F;
  static constexpr float kQ2 = 0x1.5554aep-5F;
  static constexpr float kQ3 = 0x1.111634p-7F;
  static constexpr float kQ4 = 0x1.6d7bdap-10F;
  static constexpr float kQ5 = 0x1.9a898ap-13F;
};

/// exp(x) in float32: within 1 ulp of the true value, never decreasing in x (seen on every float), NaN for NaN, +inf
/// above kMax.
/// Results that would be subnormal are 0, so that processors and devices that flush them agree.
[[nodiscard]] SWIFTDET_HOST_DEVICE constexpr float exp_f32(float x) noexcept {
  using C = ExpConstants;
  if (!(x >= C::kMin)) return x < C::kMin ? 0.0F : x;
  if (x > C::kMax) return std::numeric_limits<float>::infinity();
  const float shifted = x * C::kLog2E + C::kRound;
  const float n = shifted - C::kRound;
  const float r = (x - n * C::kLn2High) - n * C::kLn2Low;
  float q = C::kQ5;
  q = q * r + C::kQ4;
  q = q * r + C::kQ3;
  q = q * r + C::kQ2;
  q = q * r + C::kQ1;
  q = q * r + C::kQ0;
  const float y = 1.0F + (r + (r * r) * q);
  // The low bits of `shifted` are n, so this adds n to the exponent of y.
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(y) + (std::bit_cast<std::uint32_t>(shifted) << 23));
}

/// 1 / (1 + exp(-x)) in float32: never decreasing in x, 0 for -inf, 1 for +inf, NaN for NaN.
[[nodiscard]] SWIFTDET_HOST_DEVICE constexpr float sigmoid_f32(float x) noexcept { return 1.0F / (1.0F + exp_f32(-x)); }

}  // namespace swiftdet
