// The error taxonomy, mapped to Python once.
//
// The classes themselves are written in Python (swiftdet/errors.py), because each derives from SwiftdetError and, where
// a built-in error has the same meaning, from that too. They are looked up when an error is translated, so importing
// _core alone imports nothing else.
#include <pybind11/pybind11.h>

#include "convert.hpp"
#include "register.hpp"
#include "swiftdet/base/error.hpp"

namespace swiftdet::python {
namespace {

void raise(const char* class_name, const char* message) {
  const py::object type = py::module_::import("swiftdet.errors").attr(class_name);
  PyErr_SetObject(type.ptr(), as_text(message).ptr());
}

}  // namespace

void register_errors(py::module_& /*m*/) {
  py::register_exception_translator([](std::exception_ptr pending) {  // NOLINT(performance-unnecessary-value-param)
    try {
      if (pending) std::rethrow_exception(pending);
    } catch (const InvalidArgument& e) {
      raise("InvalidArgument", e.what());
    } catch (const InvalidType& e) {
      raise("InvalidType", e.what());
    } catch (const ModelError& e) {
      raise("ModelError", e.what());
    } catch (const BackendUnavailable& e) {
      raise("BackendUnavailable", e.what());
    } catch (const UsedAfterFork& e) {
      raise("UsedAfterFork", e.what());
    } catch (const BackendError& e) {
      raise("BackendError", e.what());
    } catch (const CudaError& e) {
      raise("CudaError", e.what());
    } catch (const OutOfMemory& e) {
      raise("OutOfMemory", e.what());
    } catch (const DetectorClosed& e) {
      raise("DetectorClosed", e.what());
    } catch (const Error& e) {
      raise("SwiftdetError", e.what());
    }
  });
}

}  // namespace swiftdet::python
