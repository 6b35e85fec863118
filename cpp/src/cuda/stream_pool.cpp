#include "swiftdet/cuda/stream_pool.hpp"

#include <utility>

namespace swiftdet::cuda {

StreamPool::Lease::Lease(std::shared_ptr<StreamPool> pool, std::unique_ptr<Stream> stream) noexcept
    : pool_(std::move(pool)), stream_(std::move(stream)) {}

StreamPool::Lease::~Lease() {
  if (stream_ != nullptr) pool_->take_back(std::move(stream_));
}

StreamPool::Lease StreamPool::lend() {
  std::unique_ptr<Stream> stream;
  {
    const std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      stream = std::move(idle_.back());
      idle_.pop_back();
    } else {
      idle_.reserve(made_ + 1);  // so that giving back never allocates
      ++made_;
    }
  }
  if (stream == nullptr) stream = std::make_unique<Stream>(device_);
  return {shared_from_this(), std::move(stream)};
}

void StreamPool::take_back(std::unique_ptr<Stream> stream) noexcept {
  const std::lock_guard lock(mutex_);
  idle_.push_back(std::move(stream));
}

}  // namespace swiftdet::cuda
