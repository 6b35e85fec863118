// Seeded choices for generated cases; the same on every machine, unlike the standard library's distributions.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <random>

namespace swiftdet::testing {

class Random {
 public:
  explicit Random(unsigned seed) : engine_(seed) {}

  /// Within [low, high].
  int between(int low, int high) {
    return low + static_cast<int>(engine_() % (static_cast<std::uint32_t>(high - low) + 1U));
  }
  bool chance(int percent) { return between(1, 100) <= percent; }
  /// Within [low, high), in steps of 1/65536 of the range.
  float real(float low, float high) { return low + (high - low) * static_cast<float>(between(0, 65535)) / 65536.0F; }
  template <typename T>
  T one_of(std::initializer_list<T> values) {
    return values.begin()[between(0, static_cast<int>(values.size()) - 1)];
  }

 private:
  std::mt19937 engine_;
};

}  // namespace swiftdet::testing
