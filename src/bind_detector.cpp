#include "register.hpp"

namespace swiftdet::python {
void register_detector(pybind11::module_& /*m*/) {}
}  // namespace swiftdet::python
