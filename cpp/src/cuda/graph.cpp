#include "swiftdet/cuda/graph.hpp"

#include <cuda_runtime_api.h>

#include <utility>

#include "cuda/check.hpp"
#include "cuda/release.hpp"

namespace swiftdet::cuda {

// Not run in tests: graphs move by assignment and by elision.
Graph::Graph(Graph&& other) noexcept : device_(other.device_), handle_(std::exchange(other.handle_, nullptr)) {}

Graph& Graph::operator=(Graph&& other) noexcept {
  std::swap(device_, other.device_);
  std::swap(handle_, other.handle_);
  return *this;
}

Graph::~Graph() {
  if (handle_ != nullptr) release_on(device_, [this] { return cudaGraphExecDestroy(handle_); });
}

void Graph::launch(const Stream& stream) const { SWIFTDET_CHECK_CUDA(cudaGraphLaunch(handle_, stream.handle())); }

Capture::Capture(const Stream& stream) : stream_(stream) {
  // Thread-local: what other threads do with CUDA meanwhile is none of this capture's business.
  SWIFTDET_CHECK_CUDA(cudaStreamBeginCapture(stream.handle(), cudaStreamCaptureModeThreadLocal));
}

Capture::~Capture() {
  if (!active_) return;
  cudaGraph_t graph = nullptr;
  ignore(cudaStreamEndCapture(stream_.handle(), &graph));
  if (graph != nullptr) ignore(cudaGraphDestroy(graph));
}

Graph Capture::finish() {
  active_ = false;
  cudaGraph_t graph = nullptr;
  SWIFTDET_CHECK_CUDA(cudaStreamEndCapture(stream_.handle(), &graph));
  cudaGraphExec_t executable = nullptr;
  const cudaError_t error = cudaGraphInstantiate(&executable, graph, 0);
  ignore(cudaGraphDestroy(graph));
  check(error, "cudaGraphInstantiate");
  return {stream_.device(), executable};
}

}  // namespace swiftdet::cuda
