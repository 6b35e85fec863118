#include "register.hpp"

namespace swiftdet::python {
void register_backends(pybind11::module_& /*m*/) {}
}  // namespace swiftdet::python
