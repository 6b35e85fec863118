// Linked instead of an engine that this build leaves out.
#include "swiftdet/base/error.hpp"
#include "swiftdet/openvino.hpp"

namespace swiftdet::openvino {

std::shared_ptr<Runtime> Runtime::load(const std::filesystem::path& /*library_dir*/) {
  throw BackendUnavailable(
      "this build of swiftdet has no OpenVINO engine (SWIFTDET_WITH_OPENVINO=OFF); reinstall swiftdet with it on");
}

}  // namespace swiftdet::openvino
