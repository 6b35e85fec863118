// Work captured from a stream once and launched as a whole many times.
#pragma once

#include "swiftdet/cuda/stream.hpp"

struct CUgraphExec_st;  // what CUDA's cudaGraphExec_t points to

namespace swiftdet::cuda {

/// Owns an instantiated graph. What it captured (buffers, execution contexts) must outlive it.
class Graph {
 public:
  Graph() = default;
  Graph(Graph&& other) noexcept;
  Graph& operator=(Graph&& other) noexcept;
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  ~Graph();

  [[nodiscard]] explicit operator bool() const noexcept { return handle_ != nullptr; }
  /// @throw CudaError
  void launch(const Stream& stream) const;

 private:
  friend class Capture;
  Graph(int device, CUgraphExec_st* handle) noexcept : device_(device), handle_(handle) {}

  int device_ = 0;
  CUgraphExec_st* handle_ = nullptr;
};

/// From construction to finish() `stream` collects work instead of running it. Calls by this thread that a capture
/// cannot hold (allocations, synchronisation) fail meanwhile; other threads are not affected.
class Capture {
 public:
  /// @throw CudaError
  explicit Capture(const Stream& stream);
  /// Drops what was collected unless finish() was called.
  ~Capture();
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  /// @throw CudaError  something in between could not be captured; the stream is usable again.
  [[nodiscard]] Graph finish();

 private:
  const Stream& stream_;
  bool active_ = true;
};

}  // namespace swiftdet::cuda
