#include "cuda/check.hpp"

#include <string>
#include <string_view>

#include "swiftdet/base/error.hpp"

namespace swiftdet::cuda {

// Source: the CUDA Runtime API reference, errors that "leave the process in an inconsistent state".
bool is_sticky(cudaError_t error) noexcept {
  switch (error) {
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorContextIsDestroyed:
    case cudaErrorExternalDevice:
    case cudaErrorDevicesUnavailable: return true;
    default: return false;
  }
}

void check(cudaError_t error, const char* call, std::size_t bytes, std::source_location where) {
  if (error == cudaSuccess) return;
  static_cast<void>(cudaGetLastError());
  const std::string_view path = where.file_name();
  const std::string place =
      std::string(path.substr(path.rfind('/') + 1)) + ':' + std::to_string(static_cast<unsigned>(where.line()));
  const std::string_view text = call;
  const std::string words = std::string(text.substr(0, text.find('('))) + " (" + place +
                            "): " + cudaGetErrorName(error) + ", " + cudaGetErrorString(error);
  if (error == cudaErrorMemoryAllocation) {
    throw OutOfMemory(words + (bytes > 0 ? "; asked for " + std::to_string(bytes) + " bytes" : "") +
                      "; use a smaller batch or image size, or fewer sessions");
  }
  if (is_sticky(error)) {
    throw CudaError(words + "; the device answers nothing more in this process: restart it", true);
  }
  throw CudaError(words, false);
}

void ignore(cudaError_t error) noexcept {
  if (error != cudaSuccess) static_cast<void>(cudaGetLastError());
}

}  // namespace swiftdet::cuda
