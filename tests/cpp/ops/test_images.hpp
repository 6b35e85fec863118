// Images for tests: pseudo-random pixels, and pixels whose surroundings must not be read.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <new>
#include <random>
#include <vector>

#include "swiftdet/base/image_view.hpp"

namespace swiftdet::testing {

/// Packed image of seeded random pixels, in a buffer of exactly its size.
class RandomImage {
 public:
  RandomImage(Size size, int channels, unsigned seed = 1)
      : size_(size), channels_(channels), pixels_(static_cast<std::size_t>(size.height) * row_bytes()) {
    std::mt19937 random(seed);
    for (std::uint8_t& value : pixels_) value = static_cast<std::uint8_t>(random());
  }

  [[nodiscard]] std::size_t row_bytes() const {
    return static_cast<std::size_t>(size_.width) * static_cast<std::size_t>(channels_);
  }
  [[nodiscard]] ImageView view() const {
    return {pixels_.data(), size_, channels_, static_cast<std::ptrdiff_t>(row_bytes()), channels_, 1};
  }

 private:
  Size size_;
  int channels_;
  std::vector<std::uint8_t> pixels_;
};

/// Which side of every row touches memory that cannot be read.
enum class GuardedSide { kLeft, kRight };

/// A copy of an image in which one byte too many, before or after any row, ends the process.
class GuardedImage {
 public:
  GuardedImage(const ImageView& image, GuardedSide side) : view_(image) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t row_bytes = static_cast<std::size_t>(image.size.width) * static_cast<std::size_t>(image.channels);
    const std::size_t room = (row_bytes + page - 1) / page * page;
    const std::size_t stride = room + page;  // each row has a guard page behind it; the row before has one too
    length_ = page + static_cast<std::size_t>(image.size.height) * stride;
    memory_ = mmap(nullptr, length_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory_ == MAP_FAILED) throw std::bad_alloc();
    auto* const first = static_cast<std::uint8_t*>(memory_) + page;
    const std::size_t indent = side == GuardedSide::kRight ? room - row_bytes : 0;
    for (int y = 0; y < image.size.height; ++y) {
      std::uint8_t* const row = first + static_cast<std::size_t>(y) * stride;
      if (mprotect(row, room, PROT_READ | PROT_WRITE) != 0) throw std::bad_alloc();
      for (std::size_t i = 0; i < row_bytes; ++i) row[indent + i] = image.row(y)[i];
    }
    view_.data = first + indent;
    view_.row_stride = static_cast<std::ptrdiff_t>(stride);
  }
  ~GuardedImage() { munmap(memory_, length_); }
  GuardedImage(const GuardedImage&) = delete;
  GuardedImage& operator=(const GuardedImage&) = delete;

  [[nodiscard]] ImageView view() const { return view_; }

 private:
  ImageView view_;
  void* memory_ = nullptr;
  std::size_t length_ = 0;
};

}  // namespace swiftdet::testing
