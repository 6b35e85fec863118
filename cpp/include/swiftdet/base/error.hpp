// The error taxonomy of the core. Messages say what was expected, what came, and what to do.
// Mapped to Python once, in src/bind_errors.cpp.
#pragma once

#include <stdexcept>
#include <string>

namespace swiftdet {

/// Base of every error the core throws on purpose.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The caller's value is outside the contract (shape, size, threshold, option). Python: ValueError.
class InvalidArgument : public Error {
 public:
  using Error::Error;
};

/// The caller's value is of the wrong kind (dtype, rank carried by the wrong object). Python: TypeError.
class InvalidType : public Error {
 public:
  using Error::Error;
};

/// A model file is unreadable, not a detector, or contradicts its description.
class ModelError : public Error {
 public:
  using Error::Error;
};

/// The engine's library or device is missing on this host; the message says what to install.
class BackendUnavailable : public Error {
 public:
  using Error::Error;
};

/// The engine itself refused; carries its own words.
class BackendError : public Error {
 public:
  using Error::Error;
};

/// Something of the parent was used in a forked child, where it would wait for threads that do not exist.
class UsedAfterFork : public BackendError {
 public:
  using BackendError::BackendError;
};

/// The detector was closed before the call could begin.
class DetectorClosed : public Error {
 public:
  using Error::Error;
};

/// A call of the CUDA runtime failed. Python: CudaError.
class CudaError : public Error {
 public:
  /// @param device_lost  the device answers nothing any more in this process (CUDA's "sticky" errors).
  CudaError(const std::string& message, bool device_lost) : Error(message), device_lost_(device_lost) {}
  [[nodiscard]] bool device_lost() const noexcept { return device_lost_; }

 private:
  bool device_lost_;
};

/// Device or pinned host memory is exhausted; says how many bytes were asked for. Python: OutOfMemory, a MemoryError.
class OutOfMemory : public Error {
 public:
  using Error::Error;
};

}  // namespace swiftdet
