#pragma once

#include <cstddef>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "backends/openvino_api.hpp"

namespace swiftdet::openvino {

/// The inference requests of a compiled network: lends each to one session at a time, and makes none during a run.
///
/// While OpenVINO (2025.0 to 2026.4) makes a request, it reads the memory of the network's graph without the lock under
/// which a run replaces that memory where shapes are open, and then uses what is freed. So new requests wait for the
/// runs that have begun, and a session of another shape takes over a request that is there.
/// Safe from any number of threads.
class Requests {
 public:
  /// Of a network that `library` compiled; `library` must outlive this.
  Requests(const Library& library, Handle<ov_compiled_model_t> compiled) noexcept
      : library_(library), compiled_(std::move(compiled)) {}

  /// What the compiled network says of itself. @throw BackendError
  [[nodiscard]] std::string property(const char* name) const;

  /// A request that nobody else has. Its tensors may be set: those of its last use. @throw BackendError
  [[nodiscard]] Handle<ov_infer_request_t> take();

  /// Takes back a request for the next session. It does not run, and none of its tensors may be memory that ends.
  void give_back(Handle<ov_infer_request_t> request) noexcept;

  /// Starts a run of `request`, for which ended() has to be called. @throw BackendError  it did not start.
  void start(ov_infer_request_t* request);

  /// A run that start() began is over: it was waited for.
  void ended(const ov_infer_request_t* request) noexcept;

 private:
  const Library& library_;
  Handle<ov_compiled_model_t> compiled_;  // before the requests: they refer to it
  std::mutex mutex_;
  std::vector<Handle<ov_infer_request_t>> unused_;
  std::vector<ov_infer_request_t*> running_;
  std::size_t made_ = 0;
};

}  // namespace swiftdet::openvino
