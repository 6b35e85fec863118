// Engines written in Python: a Backend around an object with `inputs`, `outputs` and `run`.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>

#include "swiftdet/backend.hpp"
#include "swiftdet/base/error.hpp"

namespace swiftdet::python {

/// Wraps `engine`, an object of the protocol swiftdet.engines.PythonEngine, and keeps it alive. Needs the GIL; what it
/// returns does not: it takes the GIL round the calls of `engine` alone, also on threads that Python does not know.
/// @throw InvalidType, ModelError  the object does not follow the protocol, or is not a network with one input.
std::shared_ptr<Backend> make_python_backend(const pybind11::object& engine);

/// An exception that an engine written in Python raised; becomes the cause of the BackendError that Python sees.
class PythonEngineError : public BackendError {
 public:
  /// Needs the GIL; neither copying nor destroying does.
  explicit PythonEngineError(const pybind11::error_already_set& raised);
  [[nodiscard]] pybind11::handle cause() const noexcept { return *cause_; }

 private:
  std::shared_ptr<pybind11::object> cause_;
};

}  // namespace swiftdet::python
