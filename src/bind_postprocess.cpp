#include "register.hpp"

namespace swiftdet::python {
void register_postprocess(pybind11::module_& /*m*/) {}
}  // namespace swiftdet::python
