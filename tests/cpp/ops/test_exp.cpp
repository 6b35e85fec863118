#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "swiftdet/base/exp.hpp"

using swiftdet::exp_f32;
using swiftdet::ExpConstants;
using swiftdet::sigmoid_f32;

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Distance from the true value, in units of the last place of the true value.
double error_ulp(float x) {
  const double truth = std::exp(static_cast<double>(x));
  int exponent = 0;
  std::frexp(truth, &exponent);
  return std::fabs(static_cast<double>(exp_f32(x)) - truth) / std::ldexp(1.0, exponent - 24);
}

// Walks `steps` neighbouring floats up from `x` and counts where f decreases.
template <typename Function>
int decreases(Function f, float x, int steps) {
  int count = 0;
  float before = f(x);
  for (int i = 0; i < steps; ++i) {
    x = std::nextafter(x, kInf);
    const float here = f(x);
    count += here < before ? 1 : 0;
    before = here;
  }
  return count;
}

}  // namespace

TEST_CASE("exp is within 1 ulp") {
  double worst = 0.0;
  for (float x = ExpConstants::kMin; x <= ExpConstants::kMax; x += 1.3e-4F) worst = std::max(worst, error_ulp(x));
  for (float x = 1e-30F; x < 1.0F; x *= 1.0007F) worst = std::max({worst, error_ulp(x), error_ulp(-x)});
  CHECK(worst <= 1.0);
  CHECK(worst > 0.5);  // the measure itself works
}

TEST_CASE("exp and sigmoid never decrease") {
  // Where the reduced argument jumps from ln 2 / 2 to -ln 2 / 2 a polynomial is most likely to step down.
  const auto logistic = [](float x) { return sigmoid_f32(x); };
  const auto exponential = [](float x) { return exp_f32(x); };
  int found = 0;
  for (int n = -127; n <= 128; ++n) {
    float x = static_cast<float>((n + 0.5) * 0.6931471805599453);
    for (int i = 0; i < 300; ++i) x = std::nextafter(x, -kInf);
    found += decreases(exponential, x, 600) + decreases(logistic, x, 600) + decreases(logistic, -x, 600);
  }
  for (float x = 1e-9F; x < 100.0F; x *= 1.01F) {
    found += decreases(exponential, x, 200) + decreases(exponential, -x, 200);
    found += decreases(logistic, x, 200) + decreases(logistic, -x, 200);
  }
  float before = 0.0F;
  for (float x = -100.0F; x < 100.0F; x += 3.1e-5F) {
    found += exp_f32(x) < before ? 1 : 0;
    before = exp_f32(x);
  }
  CHECK(found == 0);
}

TEST_CASE("exp at its edges") {
  CHECK(exp_f32(0.0F) == 1.0F);
  CHECK(exp_f32(-0.0F) == 1.0F);
  CHECK(exp_f32(kInf) == kInf);
  CHECK(exp_f32(-kInf) == 0.0F);
  CHECK(std::isnan(exp_f32(kNan)));
  CHECK(std::isfinite(exp_f32(ExpConstants::kMax)));
  CHECK(exp_f32(std::nextafter(ExpConstants::kMax, kInf)) == kInf);
  CHECK(exp_f32(ExpConstants::kMin) >= std::numeric_limits<float>::min());
  CHECK(exp_f32(std::nextafter(ExpConstants::kMin, -kInf)) == 0.0F);
}

TEST_CASE("sigmoid at its edges") {
  CHECK(sigmoid_f32(0.0F) == 0.5F);
  CHECK(sigmoid_f32(kInf) == 1.0F);
  CHECK(sigmoid_f32(-kInf) == 0.0F);
  CHECK(sigmoid_f32(100.0F) == 1.0F);
  CHECK(std::isnan(sigmoid_f32(kNan)));
  for (float x = -80.0F; x < 80.0F; x += 0.013F) {
    const double truth = 1.0 / (1.0 + std::exp(-static_cast<double>(x)));
    CHECK(static_cast<double>(sigmoid_f32(x)) == doctest::Approx(truth).epsilon(3e-7));
  }
}
