#include "backends/openvino_api.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <system_error>
#include <vector>

namespace swiftdet::openvino {
namespace {

constexpr std::string_view kInstallHint = "install it with: pip install openvino";

/// The C library in `folder`: the newest, as its file name ends in the release's number (libopenvino_c.so.2641).
std::filesystem::path find_library(const std::filesystem::path& folder) {
  constexpr std::string_view kName = "libopenvino_c.so";
  std::vector<std::filesystem::path> found;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    if (entry.path().filename().string().starts_with(kName)) found.push_back(entry.path());
  }
  if (found.empty()) {
    throw BackendUnavailable("OpenVINO: expected " + std::string(kName) + "* in '" + folder.string() + "', found none" +
                             (error ? " (" + error.message() + ")" : std::string()) + "; " + std::string(kInstallHint));
  }
  return *std::max_element(found.begin(), found.end());
}

}  // namespace

Library::Library(const std::filesystem::path& folder) {
  const std::filesystem::path file = find_library(folder);
  // RTLD_LOCAL: its symbols stay its own, so that two releases, or another user of TBB, do not meet. Its neighbours
  // (libopenvino, libtbb) are found by its own run path.
  void* const handle = ::dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    const char* const reason = ::dlerror();  // NOLINT(concurrency-mt-unsafe): thread-local in glibc and musl
    throw BackendUnavailable("OpenVINO: '" + file.string() + "' does not load (" +
                             (reason != nullptr ? reason : "no reason given") +
                             "); reinstall it with: " + "pip install --force-reinstall openvino");
  }
  const auto find = [&](auto& function, const char* name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(::dlsym(handle, name));
    if (function == nullptr) {
      throw BackendUnavailable("OpenVINO: '" + file.string() + "' has no function " + name +
                               "; swiftdet needs OpenVINO 2025.0 or later: pip install 'openvino>=2025.0'");
    }
  };
#define SWIFTDET_OPENVINO_FIND(name) find(api_.name, #name);
  SWIFTDET_OPENVINO_FUNCTIONS(SWIFTDET_OPENVINO_FIND)
#undef SWIFTDET_OPENVINO_FIND
  version_ = find_version();
  types_ = find_element_types();
}

std::string Library::error_text(ov_status_e status) const {
  std::string meaning = api_.ov_get_error_info(status);
  switch (status) {
    case ov_status_e::GENERAL_ERROR:
    case ov_status_e::NOT_IMPLEMENTED:
    case ov_status_e::REQUEST_BUSY:
    case ov_status_e::INFER_CANCELLED: break;
    default:  // no message belongs to these; the last one would be that of an earlier call
      return meaning;
  }
  const char* const text = api_.ov_get_last_err_msg();
  if (text == nullptr) return meaning;
  std::string words = text;
  api_.ov_free(text);
  while (!words.empty() && (words.back() == '\n' || words.back() == ' ')) words.pop_back();
  return words;
}

std::string Library::failure(ov_status_e status, std::string_view action) const {
  return "OpenVINO " + version_ + " could not " + std::string(action) + ": " + error_text(status);
}

std::string Library::find_version() const {
  ov_version_t version{};
  check<BackendUnavailable>(api_.ov_get_openvino_version(&version), "tell its version");
  std::string number = version.buildNumber;
  api_.ov_version_free(&version);
  return number;
}

ElementTypes Library::find_element_types() const {
  // BOOLEAN BF16 F16 F32 F64 I4 I8 I16 I32 I64: the order is stable, the first code is not. The sizes in bytes of
  // eight elements of each tell where the sequence begins.
  constexpr std::array<std::size_t, 10> kSizes = {8, 16, 16, 32, 64, 4, 8, 16, 32, 64};
  constexpr std::size_t kLastCode = 15;
  constexpr std::size_t kF32 = 3;
  constexpr std::size_t kI8 = 6;
  alignas(64) std::array<std::byte, 64> memory{};  // eight of the widest type
  std::array<std::int64_t, 1> dims = {8};
  const ov_shape_t shape{1, dims.data()};
  std::array<std::size_t, kLastCode + 1> sizes{};  // by code; 0 where the library knows no such type
  for (std::size_t code = 0; code <= kLastCode; ++code) {
    ov_tensor_t* tensor = nullptr;
    // Round memory of ours: asked to allocate, releases leak or try 2^61 bytes for the type "dynamic".
    const auto type = static_cast<ov_element_type_e>(code);
    if (api_.ov_tensor_create_from_host_ptr(type, shape, memory.data(), &tensor) != ov_status_e::OK) continue;
    const Handle<ov_tensor_t> owner(tensor, {*this, api_.ov_tensor_free});
    check<BackendUnavailable>(api_.ov_tensor_get_byte_size(tensor, &sizes[code]), "size a tensor");
    if (code + 1 < kSizes.size()) continue;
    const std::size_t first = code + 1 - kSizes.size();
    if (std::equal(kSizes.begin(), kSizes.end(), sizes.begin() + first)) {
      return {static_cast<ov_element_type_e>(first + kF32), static_cast<ov_element_type_e>(first + kI8)};
    }
  }
  throw BackendUnavailable("OpenVINO " + version_ +
                           " numbers its element types in a way that this swiftdet does not know; install one that "
                           "it was tested with: pip install 'openvino==2026.4.*'");
}

}  // namespace swiftdet::openvino
