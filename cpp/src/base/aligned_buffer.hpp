// Host memory for tensors: 64-byte aligned, so that engines read and write it with their widest instructions.
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <new>

#include "swiftdet/base/error.hpp"
#include "swiftdet/base/tensor_view.hpp"

namespace swiftdet {

/// Owns the float32 data of one tensor, zero at first. Its address never changes.
class AlignedBuffer {
 public:
  static constexpr std::size_t kAlignment = 64;

  AlignedBuffer() = default;
  /// @param shape  static. @throw InvalidArgument  its size does not fit into memory addresses.
  explicit AlignedBuffer(const Shape& shape) : shape_(shape) {
    std::size_t bytes = sizeof(float);
    for (const std::int64_t dim : shape) {
      if (dim < 0 || (dim > 0 && bytes > kMaxBytes / static_cast<std::size_t>(dim))) {
        throw InvalidArgument("tensor shape: expected a static shape of at most 2^47 bytes, got " + shape.to_string());
      }
      bytes *= static_cast<std::size_t>(dim);
    }
    // An empty tensor still has an address: engines refuse null.
    const std::size_t allocated = bytes == 0 ? kAlignment : bytes;
    data_.reset(static_cast<float*>(::operator new(allocated, std::align_val_t{kAlignment})));
    std::memset(data_.get(), 0, allocated);
  }

  [[nodiscard]] float* data() const noexcept { return data_.get(); }
  [[nodiscard]] const Shape& shape() const noexcept { return shape_; }

 private:
  static constexpr std::size_t kMaxBytes = std::size_t{1} << 47;  // user address space of x86-64

  struct Free {
    void operator()(float* data) const noexcept { ::operator delete(data, std::align_val_t{kAlignment}); }
  };
  std::unique_ptr<float, Free> data_;
  Shape shape_{};
};

}  // namespace swiftdet
