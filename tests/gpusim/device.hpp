// What the kernels' tests ask of a device, so that the same tests run under the emulation and on a GPU.
#pragma once

#include <cstddef>
#include <cstring>
#include <vector>

namespace swiftdet::testing {

/// Memory that both sides can use while no kernel runs: aligned as cudaMalloc aligns, never zero at the beginning, and
/// under the emulation exactly as long as asked for.
class DeviceMemory {
 public:
  explicit DeviceMemory(std::size_t bytes);
  ~DeviceMemory();
  DeviceMemory(DeviceMemory&& other) noexcept : memory_(other.memory_) { other.memory_ = nullptr; }
  DeviceMemory& operator=(DeviceMemory&&) = delete;

  [[nodiscard]] void* get() const { return memory_; }
  template <typename T>
  [[nodiscard]] T* as() const {
    return static_cast<T*>(memory_);
  }

 private:
  void* memory_ = nullptr;
};

template <typename T>
DeviceMemory to_device(const std::vector<T>& values) {
  DeviceMemory memory(values.size() * sizeof(T));
  if (!values.empty()) std::memcpy(memory.get(), values.data(), values.size() * sizeof(T));
  return memory;
}

/// In how many orders a test is to be run: three under the emulation, one on a GPU, which has its own.
[[nodiscard]] int schedules();
/// Chooses one of them for the kernels that follow.
void use_schedule(int schedule);

/// Waits for everything that was launched. False if the device reports an error.
[[nodiscard]] bool finish();

}  // namespace swiftdet::testing
