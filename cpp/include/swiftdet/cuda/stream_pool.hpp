// Streams that are lent for a while: making one takes longer than what it is needed for.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

#include "swiftdet/cuda/stream.hpp"

namespace swiftdet::cuda {

/// Streams of one device. Each is lent to one borrower at a time, so none waits for what another has queued, and kept
/// for the next. Safe from several threads. Made by std::make_shared: what is lent keeps its pool alive.
class StreamPool : public std::enable_shared_from_this<StreamPool> {
 public:
  /// A stream on loan; goes back when the lease dies.
  class Lease {
   public:
    Lease(std::shared_ptr<StreamPool> pool, std::unique_ptr<Stream> stream) noexcept;
    Lease(Lease&&) noexcept = default;
    Lease& operator=(Lease&&) = delete;
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    ~Lease();

    [[nodiscard]] StreamHandle handle() const noexcept { return stream_->handle(); }

   private:
    std::shared_ptr<StreamPool> pool_;
    std::unique_ptr<Stream> stream_;
  };

  explicit StreamPool(int device) : device_(device) {}

  /// @throw CudaError  there is no idle stream, and none can be made.
  [[nodiscard]] Lease lend();

 private:
  void take_back(std::unique_ptr<Stream> stream) noexcept;

  int device_;
  std::mutex mutex_;  // guards the two below
  std::vector<std::unique_ptr<Stream>> idle_;
  std::size_t made_ = 0;
};

}  // namespace swiftdet::cuda
