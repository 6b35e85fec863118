// What a network engine must offer the pipeline. Engines know nothing of images or boxes.
#pragma once

#include <chrono>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "swiftdet/base/tensor_view.hpp"

namespace swiftdet {

/// A named input or output of a network. Dynamic dimensions are -1; an empty shape stands for a rank that is not known
/// before the run.
struct Port {
  std::string name;
  Shape shape;
};

/// One execution context of an engine: its own buffers, one thread at a time. Keeps its engine alive.
class BackendSession {
 public:
  virtual ~BackendSession() = default;
  BackendSession() = default;
  BackendSession(const BackendSession&) = delete;
  BackendSession& operator=(const BackendSession&) = delete;

  /// The network's image input, float32 [N, 3, H, W], 64-byte aligned host memory that the engine reads in place
  /// and never writes: what a caller put there is there after the run.
  [[nodiscard]] virtual MutableTensorView input() = 0;
  /// Starts the network on what input() holds; returns at once where the engine can run by itself.
  virtual void start() = 0;
  /// Blocks until the started run is done. @throw BackendError  the engine's own words.
  virtual void wait() = 0;
  /// As wait(), but gives up after `patience`: false where the run still goes on. Engines that cannot do so wait.
  [[nodiscard]] virtual bool wait_for(std::chrono::milliseconds /*patience*/) {
    wait();
    return true;
  }
  /// Asks the started run to end early, where the engine can: wait() still has to be called, and may throw.
  virtual void cancel() noexcept {}
  /// Results of the last finished run, in the order of Backend::outputs(); valid until the next start().
  [[nodiscard]] virtual std::span<const TensorView> outputs() const = 0;
};

/// A compiled network: immutable, shared by all sessions, safe from several threads.
class Backend {
 public:
  virtual ~Backend() = default;
  Backend() = default;
  Backend(const Backend&) = delete;
  Backend& operator=(const Backend&) = delete;

  [[nodiscard]] virtual const Port& input() const noexcept = 0;
  [[nodiscard]] virtual const std::vector<Port>& outputs() const noexcept = 0;
  /// How many sessions keep this engine busy.
  [[nodiscard]] virtual int preferred_sessions() const noexcept = 0;
  /// "OpenVINO 2026.4.1-...": for provenance.
  [[nodiscard]] virtual std::string description() const = 0;

  /// A session for an input of exactly `shape` [N, 3, H, W].
  /// @throw InvalidArgument  the network cannot take that shape.
  [[nodiscard]] virtual std::unique_ptr<BackendSession> create_session(const Shape& shape) const = 0;
};

}  // namespace swiftdet
