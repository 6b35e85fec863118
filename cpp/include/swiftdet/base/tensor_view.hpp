// Borrowed float32 tensors, C order. Backends convert whatever they hold to float32 at their edge.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>

namespace swiftdet {

/// Dimensions of a tensor, held in place: at most `kMaxRank` of them, so that no shape ever allocates.
/// A dimension of -1 is dynamic (only in descriptions of ports, never in a view of data).
class Shape {
 public:
  static constexpr std::size_t kMaxRank = 6;

  Shape() = default;
  Shape(std::initializer_list<std::int64_t> dims) : rank_(dims.size()) {
    std::copy_n(dims.begin(), std::min(dims.size(), kMaxRank), dims_.begin());
  }

  [[nodiscard]] std::size_t rank() const noexcept { return rank_; }
  [[nodiscard]] std::int64_t operator[](std::size_t axis) const noexcept { return dims_[axis]; }
  [[nodiscard]] std::int64_t& operator[](std::size_t axis) noexcept { return dims_[axis]; }
  [[nodiscard]] const std::int64_t* begin() const noexcept { return dims_.data(); }
  [[nodiscard]] const std::int64_t* end() const noexcept { return dims_.data() + rank_; }
  void push_back(std::int64_t dim) noexcept {
    if (rank_ < kMaxRank) dims_[rank_++] = dim;
  }

  [[nodiscard]] bool is_static() const noexcept {
    return std::all_of(begin(), end(), [](std::int64_t d) { return d >= 0; });
  }
  /// Number of elements of a static shape.
  [[nodiscard]] std::int64_t volume() const noexcept {
    std::int64_t n = 1;
    for (const std::int64_t d : *this) n *= d;
    return n;
  }
  /// `[1, 3, ?, 640]`: for messages.
  [[nodiscard]] std::string to_string() const;

  friend bool operator==(const Shape& a, const Shape& b) noexcept {
    return a.rank_ == b.rank_ && std::equal(a.begin(), a.end(), b.begin());
  }

 private:
  std::array<std::int64_t, kMaxRank> dims_{};
  std::size_t rank_ = 0;
};

/// Read-only view of a contiguous float32 tensor on the host.
struct TensorView {
  const float* data = nullptr;
  Shape shape{};
};

/// Writable view of a contiguous float32 tensor on the host.
struct MutableTensorView {
  float* data = nullptr;
  Shape shape{};
};

}  // namespace swiftdet
