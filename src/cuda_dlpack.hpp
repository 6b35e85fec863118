// Tensors that others hand over by DLPack, and the streams that those wait on who make them.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <optional>
#include <utility>

#include "swiftdet/cuda/stream_pool.hpp"

namespace swiftdet::python {

/// A stream on loan from a detector, until release().
class StreamLoan {
 public:
  explicit StreamLoan(cuda::StreamPool::Lease lease) : lease_(std::move(lease)) {}

  [[nodiscard]] std::uintptr_t handle() const {
    return lease_ ? reinterpret_cast<std::uintptr_t>(lease_->handle()) : 0;
  }
  void release() noexcept { lease_.reset(); }

 private:
  std::optional<cuda::StreamPool::Lease> lease_;
};

/// Adds StreamLoan and DlpackTensor.
void register_dlpack(pybind11::module_& m);

}  // namespace swiftdet::python
