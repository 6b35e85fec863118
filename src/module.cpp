// The extension module swiftdet._core. Private: users import swiftdet.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "call_gate.hpp"
#include "cpu/isa.hpp"
#include "register.hpp"

namespace py = pybind11;

namespace {

py::dict build_config() {
  py::list isas;
  for (const auto isa : swiftdet::cpu::available_isas()) isas.append(py::str(swiftdet::cpu::isa_name(isa)));
  py::dict config;
  config["version"] = SWIFTDET_VERSION;
  config["compiler"] = __VERSION__;
  config["commit"] = SWIFTDET_COMMIT;
  config["cplusplus"] = static_cast<long>(__cplusplus);
  config["isas"] = isas;
  config["active_isa"] = py::str(swiftdet::cpu::isa_name(swiftdet::cpu::active_isa()));
#ifdef NDEBUG
  config["asserts"] = false;
#else
  config["asserts"] = true;
#endif
  return config;
}

}  // namespace

PYBIND11_MODULE(_core, m) {
  m.doc() = "The compiled core of swiftdet. Private: import swiftdet instead.";
  m.attr("__version__") = SWIFTDET_VERSION;
  swiftdet::python::register_errors(m);
  m.def(
      "build_config", &build_config,
      "What this build is and what it runs on: version, commit (empty where it was not built from a clone), compiler,\n"
      "instruction sets, asserts.\n\n"
      "Raises InvalidArgument when SWIFTDET_FORCE_ISA names a set that this machine lacks.");
  swiftdet::python::CallGate::install();
  swiftdet::python::register_preprocess(m);
  swiftdet::python::register_postprocess(m);
  swiftdet::python::register_backends(m);
  swiftdet::python::register_detector(m);
}
