// Finding and opening TensorRT: the checks that must come before its first call.
#include "swiftdet/tensorrt.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "backends/tensorrt_module.hpp"
#include "swiftdet/base/error.hpp"
#include "swiftdet/base/log.hpp"
#include "swiftdet/base/process.hpp"
#include "swiftdet/cuda/device.hpp"

namespace swiftdet::tensorrt {
namespace {

constexpr const char* kInstall = "install it with: pip install 'swiftdet[tensorrt]'";

template <typename Function>
Function symbol(void* library, const char* name, const std::filesystem::path& path) {
  void* const found = dlsym(library, name);
  if (found == nullptr) throw BackendUnavailable(path.string() + " is not TensorRT's runtime: it has no " + name);
  return reinterpret_cast<Function>(found);
}

void* open_library(const std::filesystem::path& path) {
  void* const library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* const why = dlerror();  // NOLINT(concurrency-mt-unsafe): glibc's is per thread
    throw BackendUnavailable("TensorRT's library does not load: " + std::string(why == nullptr ? path.string() : why) +
                             "; " + kInstall);
  }
  return library;
}

std::string modules_in(const std::filesystem::path& folder) {
  std::set<std::string> majors;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(folder, ignored)) {
    const std::string name = entry.path().filename().string();
    constexpr std::string_view kPrefix = "libswiftdet_trt";
    if (name.starts_with(kPrefix)) majors.insert(name.substr(kPrefix.size(), name.find('.') - kPrefix.size()));
  }
  std::string text;
  for (const std::string& major : majors) text += (text.empty() ? "" : " and ") + major;
  return text;
}

class LoadedRuntime final : public Runtime {
 public:
  LoadedRuntime(const std::filesystem::path& libnvinfer, const std::filesystem::path& module_dir) {
    // Without a driver createInferRuntime returns neither null nor an object, and a library of another major release
    // crashes inside it: both are asked first.
    static_cast<void>(cuda::device_count());
    void* const library = open_library(libnvinfer);
    const std::int32_t number = symbol<std::int32_t (*)() noexcept>(library, "getInferLibVersion", libnvinfer)();
    const std::string major = std::to_string(number / 10000);
    library_.version = major + '.' + std::to_string(number / 100 % 100) + '.' + std::to_string(number % 100);
    library_.create_runtime =
        symbol<decltype(Library::create_runtime)>(library, "createInferRuntime_INTERNAL", libnvinfer);
    const auto path = module_dir / ("libswiftdet_trt" + major + ".so");
    if (!std::filesystem::exists(path)) {
      const std::string compiled = modules_in(module_dir);
      throw BackendUnavailable(libnvinfer.string() + " is TensorRT " + library_.version +
                               ", but this swiftdet was built " +
                               (compiled.empty() ? "without TensorRT: build it with TensorRT's headers (docs/gpu.md)"
                                                 : "for TensorRT " + compiled + "; " + kInstall));
    }
    const auto open = symbol<OpenModule>(open_library(path), kOpenModule, path);
    open(library_, &log, module_);
  }

  [[nodiscard]] std::string version() const override { return library_.version; }

  [[nodiscard]] std::shared_ptr<const GpuEngine> deserialize(std::span<const std::byte> plan,
                                                             int device) const override {
    const cuda::DeviceInfo info = cuda::device_info(device);
    const cuda::DeviceGuard guard(device);
    std::unique_ptr<const GpuEngine> engine = module_->deserialize(plan, device, info.name);
    return {engine.release(), [process = OwnProcess()](const GpuEngine* done) {
              if (!process.here()) return;  // in a forked child CUDA frees nothing
              std::optional<cuda::DeviceGuard> current;
              try {
                current.emplace(done->device());
              } catch (const Error&) {  // NOLINT(bugprone-empty-catch): the device is lost, its memory with it
              }
              delete done;
            }};
  }

 private:
  Library library_;
  std::unique_ptr<Module> module_;
};

}  // namespace

std::shared_ptr<const Runtime> Runtime::load(const std::filesystem::path& libnvinfer,
                                             const std::filesystem::path& module_dir) {
  // Never destroyed: TensorRT must not be torn down while other static objects of the process still use it.
  static auto* const mutex = new std::mutex;
  static auto* const loaded = new std::map<std::filesystem::path, std::shared_ptr<const Runtime>>;
  const std::lock_guard lock(*mutex);
  std::shared_ptr<const Runtime>& entry = (*loaded)[libnvinfer];
  if (entry == nullptr) entry = std::make_shared<LoadedRuntime>(libnvinfer, module_dir);
  return entry;
}

}  // namespace swiftdet::tensorrt
